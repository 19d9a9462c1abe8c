/** When to give the connection back, and when to replace it: whether anybody looks, and what the machine did. */

// Browsers open six connections to a host over HTTP/1.1, for all tabs together: seven tabs that
// each kept a stream would leave none for a click. A hidden tab gives its own back, and gets
// what it missed when it is looked at.
const HIDDEN_MS = 20_000;

const TICK_MS = 5_000;
const SLEPT_MS = 30_000; // a tick that late means that the machine slept, and its connections died

export class Wakefulness {
  asleep = false; // nobody has looked for a while

  #sleep;
  #renew;
  #timer = null;
  #stopping = new AbortController();

  /** `sleep` is called when the tab was hidden for a while, `renew` when a connection may have died. */
  constructor({ sleep, renew }) {
    this.#sleep = sleep;
    this.#renew = renew;
    const { signal } = this.#stopping;
    window.addEventListener("online", renew, { signal });
    window.addEventListener("pageshow", (event) => event.persisted && renew(), { signal });
    document.addEventListener("visibilitychange", () => this.#shownOrHidden(), { signal });
    const ticking = setInterval(watchSleep(renew), TICK_MS);
    signal.addEventListener("abort", () => clearInterval(ticking));
  }

  /** Call nothing any more. */
  stop() {
    this.#stopping.abort();
    clearTimeout(this.#timer);
  }

  #shownOrHidden() {
    clearTimeout(this.#timer);
    if (document.visibilityState === "hidden") {
      this.#timer = setTimeout(() => {
        this.asleep = true;
        this.#sleep();
      }, HIDDEN_MS);
    } else if (this.asleep) {
      this.asleep = false;
      this.#renew();
    }
  }
}

/** Return a function for a timer that calls `woke` when it was not called for too long. */
function watchSleep(woke) {
  let last = Date.now();
  return () => {
    const gap = Date.now() - last;
    last = Date.now();
    // Timers of hidden tabs are slowed down on purpose.
    if (gap > TICK_MS + SLEPT_MS && document.visibilityState === "visible") woke();
  };
}

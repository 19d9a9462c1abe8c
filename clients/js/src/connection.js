/**
 * One connection that comes back: by which way, when, and from where.
 *
 * Its `place` is proven: everything up to it on what it carries was handed on. States: `connecting`; `live`;
 * `catching-up` while it brings what was missed; `offline` while it waits for the next try; `over`.
 */

import { pause } from "./backoff.js";
import { here, looked, REFUSED } from "./tools.js";
import { eventSource, fetchStream, longPoll, probe, webSocket } from "./ways.js";

const OPENING_MS = 10_000; // without a first frame: something between holds the stream back
const COMING_BACK_MS = 30_000; // of the browser's own trying; a server that is full asks for up to 15 s
const STEADY_MS = 5_000; // a stream that lived so long was no failure
const LOOK_MS = 5_000;
const SLEPT_MS = 30_000; // a look that late: the machine slept, and connections died meanwhile
const RETURN_MS = 3_600_000; // on a lesser way, until the best is tried again
const DENIED = 3; // tokens in a row that were refused, until the next one is believed to be as well
const OVER = new Set(["over", "error"]); // a job's stream, or a producer's: there is no more of it

/** Return the ways to go, best first. Only `fetch` can send headers. */
function ways({ way, headers }) {
  const named = {
    eventsource: here.EventSource && !headers ? eventSource : fetchStream,
    fetch: fetchStream,
    websocket: here.WebSocket && !headers ? webSocket : longPoll,
    poll: longPoll,
  };
  return [way ?? ["eventsource", "websocket", "poll"]].flat().map((name) => named[name]);
}

export class Connection {
  place = null;
  state = "connecting";

  #options;
  #on;
  #request = null; // { path, channels, types } while it should be there
  #ways;
  #way = 0;
  #turn = 0; // what comes of an earlier attempt counts no more
  #stop = () => {};
  #timer = null;
  #looking = null;
  #failures = 0;
  #denied = 0;
  #seeing = false; // it was refused, and the browser does not say why: until it opens, go by a way that does
  #openedAt = null;
  #heard = 0;
  #looked = 0;
  #patience = 0;
  #reason;
  #reset = null; // where an opening begins anew, until that is told

  /** `on.frame(frame)`; `on.state(state, why)`; `on.refused(status, problem)`: not tried again. */
  constructor(options, on) {
    this.#options = { watchdog: 45_000, blindWatchdog: 300_000, credentials: "same-origin", ...options };
    this.#on = on;
    this.#ways = ways(options);
  }

  /** Carry this, from `place` on; what was there before is closed. */
  open(request, place, changing) {
    this.#request = request;
    this.place = place;
    this.#attempt(changing);
  }

  /** Be gone. */
  close(state = "offline", why) {
    this.#leave();
    this.#request = this.place = null;
    this.#becomes(state, why);
  }

  /** Come back at once, from the same place; `elsewhere`: the network is another. */
  renew(elsewhere) {
    if (!this.#request) return;
    if (this.#options.method) return this.#ended({}); // sent once
    if (elsewhere) this.#way = 0; // what held streams back may not be there
    this.#failures = 0;
    this.#attempt();
  }

  /** Ask, beside what goes on, whether a channel would be refused by itself; return its status, if so. */
  async try(channel) {
    return probe(await this.#at(channel));
  }

  async #attempt(changing) {
    this.#leave();
    const turn = this.#turn;
    const mine = (tell) => (said) => turn === this.#turn && tell(said);
    this.#becomes(changing && this.state !== "connecting" ? "catching-up" : "connecting");
    const end = mine((how) => this.#ended(how));
    const mute = () => {
      this.#way += 1;
      this.#ended({});
    };
    if (!this.#options.method) this.#wait(OPENING_MS, mute); // else it takes as long as it takes
    let at;
    try {
      at = await this.#at();
    } catch (error) {
      return end({ error });
    }
    if (turn !== this.#turn) return;
    const way = this.#seeing ? fetchStream : this.#ways[this.#way % this.#ways.length];
    const { watchdog, blindWatchdog } = this.#options;
    this.#patience = way === eventSource ? blindWatchdog : watchdog;
    this.#heard = this.#looked = Date.now();
    this.#looking = setInterval(() => this.#look(), LOOK_MS);
    this.#stop = way(at, {
      alive: mine(() => (this.#heard = Date.now())),
      frame: mine((frame) => this.#frame(frame)),
      lost: mine(() => this.#lost()),
      end,
    });
  }

  /** Say where to go, now; or for one channel only. */
  async #at(only) {
    const { url, token, headers, watchdog } = this.#options;
    const { path, channels = [], types } = this.#request;
    const { place } = this;
    const bearer = await token?.();
    return {
      ...this.#options,
      path,
      place,
      types,
      headers: typeof headers === "function" ? await headers() : headers,
      wait: Math.min(25, watchdog / 2000),
      url: (to, query) => {
        const address = new URL(to, url);
        for (const channel of only ? [only] : channels) address.searchParams.append("channel", channel);
        for (const [name, value] of Object.entries({ last_event_id: place, token: bearer, ...query })) {
          if (value != null) address.searchParams.set(name, value);
        }
        return address.href;
      },
    };
  }

  #frame(frame) {
    const { id, type, data } = frame;
    if (type !== "stream.end" && !this.#openedAt) {
      clearTimeout(this.#timer);
      this.#denied = 0;
      this.#seeing = false;
      this.#openedAt = Date.now();
      this.#reason = undefined;
    }
    if (type === "stream.end") this.#reason = data.reason;
    const [turn, before] = [this.#turn, this.place];
    if (type === "stream.open" && data.mode === "reset") {
      this.#reset = id; // cut off now, the next connection has to tell of it
    } else if (id || type === "stream.reset") {
      this.place = id || this.#reset || this.place;
      this.#reset = null;
    }
    this.#on.frame(frame, before);
    if (turn !== this.#turn) return; // who heard it closed us
    if (type === "stream.open" && data.mode === "resumed" && data.missed !== 0) {
      this.#becomes("catching-up", { missed: data.missed });
    } else if (/^stream\.(open|live|reset)$/.test(type) || (this.#openedAt && this.state === "connecting")) {
      this.#becomes("live"); // what somebody else produces has no opening
    }
  }

  #ended({ status, problem, retry, untold, shut }) {
    const { method, token, headers } = this.#options;
    // Who can be asked for another token may have one that is still good.
    const denied = status === 401 && !method && (token || typeof headers === "function") && this.#denied++ < DENIED;
    this.#leave();
    if (status === 204 || OVER.has(this.#reason)) return this.close("over", { reason: this.#reason ?? "over" });
    if (REFUSED.test(status) && !denied) {
      this.#denied = 0;
      this.#becomes("offline", { status });
      return this.#on.refused(status, problem);
    }
    if (method) return this.close("over", { reason: this.#reason ?? "cut" }); // never sent twice
    if (shut) this.#way += 1;
    this.#seeing = untold || (denied && this.#seeing); // the other ways say why themselves
    const wait = pause(this.#failures, retry);
    this.#failures += 1;
    this.#becomes("offline", { reason: this.#reason ?? "cut", problem });
    this.#wait(wait, () => this.#attempt());
  }

  #lost() {
    if (this.#reset) return this.#ended({}); // the browser would go on behind it
    this.#shut();
    this.#becomes("offline", { reason: this.#reason ?? "cut" });
    this.#wait(COMING_BACK_MS, () => this.#ended({}));
  }

  /** Look whether the connection may be dead and not know it. */
  #look() {
    const now = Date.now();
    const slept = now - this.#looked > LOOK_MS + SLEPT_MS && looked();
    this.#looked = now;
    const back = this.#way && now - this.#openedAt > RETURN_MS;
    const anew = (slept || back) && !this.#options.method; // what is sent once is left alone while it is heard
    if (this.#openedAt && (anew || now - this.#heard > this.#patience)) this.renew(back);
  }

  #leave() {
    this.#turn += 1;
    this.#stop();
    this.#stop = () => {};
    this.#shut();
    clearTimeout(this.#timer);
    clearInterval(this.#looking);
  }

  #shut() {
    if (this.#openedAt && Date.now() - this.#openedAt > STEADY_MS) this.#failures = 0;
    this.#openedAt = this.#reset = null;
  }

  #wait(ms, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  #becomes(state, why = {}) {
    if (state === this.state && state !== "offline" && state !== "over") return;
    this.state = state;
    this.#on.state(state, why);
  }
}

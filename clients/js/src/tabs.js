/**
 * The tabs of an origin: one of them leads, and its Carrier has the connection for all.
 *
 * The lead is a Web Lock: it passes on when its tab closes, crashes or leaves. A leader that does not answer
 * (it hangs in a dialogue, or in a loop) is deposed by a tab that somebody looks at.
 */

import { Carrier } from "./carrier.js";
import { here, looked } from "./tools.js";

const ANSWER_MS = 3_000; // a leader answers at once; up to twice that, so that not all depose it together
const ASK_MS = 30_000;

export class Tabs {
  #id = Math.random();
  #name;
  #options;
  #wanted;
  #take;
  #channel = null;
  #carrier = null;
  #joined = false;
  #leader = null;
  #queued = null; // an AbortController
  #release = () => {};
  #unanswered = null;
  #asking = null;

  /** `wanted()` says what this tab wants; `take(message)` is called with what a Carrier posts. */
  constructor(options, wanted, take) {
    this.#options = options;
    this.#wanted = wanted;
    this.#take = take;
    const { shared = true, group = options.url } = options;
    const can = here.BroadcastChannel && here.navigator?.locks && here.document;
    this.#name = shared && can ? `tickertape/1:${group}` : null;
  }

  /** Be one of the tabs. */
  join() {
    if (this.#joined) return;
    this.#joined = true;
    try {
      this.#channel = this.#name && new BroadcastChannel(this.#name);
    } catch {
      this.#name = null; // forbidden, as in a sandbox
    }
    if (!this.#name) return this.#lead();
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#asking = setInterval(() => looked() && this.tell(), ASK_MS);
    this.#queue();
    this.tell();
  }

  /** Be none any more: the lead, if it was here, passes on. */
  leave() {
    if (!this.#joined) return;
    this.#joined = false;
    this.#post({ t: "bye" });
    this.#resign();
    this.#queued?.abort();
    this.#release();
    this.#channel?.close();
    this.#channel = this.#leader = null;
    clearInterval(this.#asking);
    this.#answered();
  }

  /** Tell who leads what this tab wants now. */
  tell() {
    if (!this.#joined) return;
    if (this.#carrier) return this.#carrier.want(this.#id, this.#wanted());
    this.#post({ t: "want", ...this.#wanted() });
    this.#unanswered ??= setTimeout(() => {
      this.#unanswered = null;
      if (looked()) this.#queue({ steal: true });
    }, ANSWER_MS * (1 + Math.random()));
  }

  /** Have the connection made anew, if it is here. */
  renew(elsewhere) {
    this.#carrier?.renew(elsewhere);
  }

  #post(message) {
    this.#channel?.postMessage({ by: this.#id, ...message });
  }

  #hear(message) {
    const { t, by } = message;
    if (t === "want") return this.#carrier?.want(by, message);
    if (t === "bye") return this.#carrier?.want(by, { channels: [] });
    if (t === "lead") this.#leader = by;
    // One that was deposed and does not know it yet leads nobody.
    if (by !== (this.#leader ??= by) || this.#carrier) return;
    this.#answered();
    this.#take(message);
  }

  async #queue({ steal = false } = {}) {
    this.#queued?.abort();
    const { signal } = (this.#queued = new AbortController());
    let forbidden;
    try {
      await here.navigator.locks.request(this.#name, steal ? { steal } : { signal }, () => {
        if (signal.aborted) return undefined;
        this.#lead();
        return new Promise((resolve) => (this.#release = resolve));
      });
    } catch ({ name }) {
      forbidden = name !== "AbortError"; // else it left before its turn, or another tab took the lead from it
    }
    if (signal.aborted || !this.#joined) return;
    if (forbidden) {
      this.leave();
      this.#name = null; // it is alone
      return this.join();
    }
    this.#resign();
    this.#take({ t: "lead" }); // somebody else does
    this.#queue();
  }

  #answered() {
    clearTimeout(this.#unanswered);
    this.#unanswered = null;
  }

  #lead() {
    this.#answered();
    this.#leader = this.#id;
    const post = (message) => {
      this.#post(message);
      this.#take(message);
    };
    this.#carrier = new Carrier(this.#options, post);
    post({ t: "lead" });
  }

  #resign() {
    this.#carrier?.close();
    this.#carrier = this.#leader = null;
  }
}

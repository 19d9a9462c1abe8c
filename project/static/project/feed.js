/**
 * An item's comments, kept true: a snapshot, then the item's events from its cursor, for as
 * long as it takes.
 *
 * Hidden in here: one EventSource, its coming and going, and the ways back. The promise: what
 * `comments` holds is what the log says, or `state` says that it is not yet.
 *
 * A connection that dies without a word is left to the browser (TCP keep-alive) and to the
 * moments that tell of one: the network is back, the tab is shown again, the machine woke up.
 * No timer watches for silence: a quiet item is quiet, and the heartbeats that keep proxies
 * content are comments, which an EventSource keeps to itself.
 */

import { api } from "./api.js";
import { Comments } from "./comments.js";

export const LOADING = "loading";
export const LIVE = "live";
export const CATCHING_UP = "catching-up";
export const RECONNECTING = "reconnecting";
export const REFUSED = "refused"; // for good: `problem` says why

const RETRY_MS = 1_000; // doubled with each try that fails
const RETRY_MAX_MS = 30_000;

// Browsers open six connections to a host over HTTP/1.1, for all tabs together: seven tabs that
// each kept a stream would leave none for a click. A hidden tab gives its own back, and gets
// what it missed when it is looked at.
const HIDDEN_MS = 20_000;

const TICK_MS = 5_000;
const SLEPT_MS = 30_000; // a tick that late means that the machine slept, and its connections died

const ENDINGS = {
  database: "The server's database is away for a moment.",
  capacity: "The server is full; it will have room again soon.",
  drain: "The server is being restarted.",
  revoked: "Your access changed.",
};

export class Feed {
  comments = new Comments();
  state = LOADING;
  detail = ""; // why, in a sentence, or ""
  missed = 0; // events that came while we were away, when catching up
  lastEventAt = null;
  problem = null; // with REFUSED
  loaded = false; // whether `comments` was ever whole

  #itemId;
  #changed;
  #cursor = null; // null: a snapshot is needed first
  #source = null;
  #attempt = new AbortController(); // of the requests made to get a stream
  #failures = 0;
  #timer = null;
  #hiddenTimer = null;
  #paused = false;
  #stopping = new AbortController();

  /** `changed` is called after each change of anything above. */
  constructor(itemId, changed) {
    this.#itemId = itemId;
    this.#changed = changed;
  }

  /** Load the comments and follow the item's events until `stop`. */
  start() {
    const { signal } = this.#stopping;
    window.addEventListener("online", () => this.#renew(), { signal });
    window.addEventListener("pageshow", (event) => event.persisted && this.#renew(), { signal });
    document.addEventListener("visibilitychange", () => this.#shownOrHidden(), { signal });
    const ticking = setInterval(watchSleep(() => this.#renew()), TICK_MS);
    signal.addEventListener("abort", () => clearInterval(ticking));
    this.#go();
  }

  /** Leave: nothing is called any more, and the connection is closed. */
  stop() {
    this.#stopping.abort();
    this.#close();
    clearTimeout(this.#hiddenTimer);
  }

  /** Drop what goes on, and get a stream: from the cursor, or from a new snapshot. */
  async #go({ asking = false } = {}) {
    this.#close();
    if (this.#paused) return;
    const attempt = (this.#attempt = new AbortController());
    try {
      if (this.#cursor === null) await this.#load(attempt.signal);
      else if (asking) await api.item(this.#itemId, attempt.signal);
      if (!attempt.signal.aborted) this.#open();
    } catch (problem) {
      if (!attempt.signal.aborted) this.#failed(problem);
    }
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    this.#attempt.abort();
    clearTimeout(this.#timer);
  }

  async #load(signal) {
    const finish = this.comments.snapshot();
    const { results, cursor } = await api.comments(this.#itemId, signal);
    if (signal.aborted) return;
    finish(results);
    this.loaded = true;
    this.#cursor = cursor;
    this.#changed();
  }

  /** Open a stream after the cursor; the browser itself comes back with the last event's id. */
  #open() {
    const source = new EventSource(
      `/streams/items/${encodeURIComponent(this.#itemId)}/?last_event_id=${encodeURIComponent(this.#cursor)}`,
    );
    const on = (type, handle) =>
      source.addEventListener(type, (event) => {
        if (source !== this.#source) return; // closed already: a queued event must not count
        if (event.lastEventId) this.#cursor = event.lastEventId;
        handle(JSON.parse(event.data));
      });
    on("stream.open", (opening) => this.#opened(opening));
    on("stream.live", () => this.#becomes(LIVE));
    on("stream.reset", () => this.#reset());
    on("stream.end", ({ reason }) => this.#becomes(RECONNECTING, ENDINGS[reason]));
    on("CommentAdded", (event) => this.#apply(() => this.comments.added(event)));
    on("CommentUpdated", (event) => this.#apply(() => this.comments.updated(event)));
    on("CommentDeleted", (event) => this.#apply(() => this.comments.deleted(event)));
    source.onerror = () => source === this.#source && this.#broke(source);
    this.#source = source;
  }

  #opened({ mode, missed }) {
    if (mode === "reset") return; // `stream.reset` follows
    this.#failures = 0;
    this.missed = missed ?? 0;
    this.#becomes(mode === "live" || missed === 0 ? LIVE : CATCHING_UP);
  }

  #apply(change) {
    this.lastEventAt = new Date();
    change();
    this.#changed();
  }

  /** The log cannot prove that we missed nothing: begin again with a new snapshot. */
  #reset() {
    this.#close();
    this.#cursor = null;
    this.missed = 0;
    this.#becomes(CATCHING_UP, "The page was away for too long, so the list is loaded anew.");
    this.#later({ first: 0 }); // at once, but more slowly where reset follows reset
  }

  /**
   * The stream broke off. The browser comes back by itself after a network's failure; after an
   * answer other than 200 it never does and tells nobody why, so the next try asks the API.
   */
  #broke(source) {
    if (this.state !== RECONNECTING) this.#becomes(RECONNECTING); // else keep `stream.end`'s reason
    if (source.readyState !== EventSource.CLOSED) return;
    this.#close();
    this.#later({ asking: true });
  }

  #failed(problem) {
    if (problem.passing) {
      this.#becomes(RECONNECTING, problem.message);
      this.#later({ asking: true });
    } else if (problem.status) {
      this.problem = problem;
      this.#becomes(REFUSED);
    } else {
      throw problem; // a fault of this page
    }
  }

  #later({ first = RETRY_MS, asking = false }) {
    const longest = this.#failures ? Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** this.#failures) : first;
    this.#failures += 1;
    // Jittered, so that a thousand pages do not come back in one moment.
    this.#timer = setTimeout(() => this.#go({ asking }), longest * (0.5 + Math.random() / 2));
  }

  /** Replace a connection that may be dead without knowing it; from the cursor, so nothing is lost. */
  #renew() {
    if (this.state === REFUSED) return;
    if (this.state !== LOADING) this.#becomes(RECONNECTING);
    this.#go();
  }

  #shownOrHidden() {
    clearTimeout(this.#hiddenTimer);
    if (document.visibilityState === "hidden") {
      this.#hiddenTimer = setTimeout(() => {
        this.#paused = true;
        this.#close();
      }, HIDDEN_MS);
    } else if (this.#paused) {
      this.#paused = false;
      this.#renew();
    }
  }

  #becomes(state, detail = "") {
    this.state = state;
    this.detail = detail;
    this.#changed();
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

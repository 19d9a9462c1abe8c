/**
 * The wire: the page's one connection, and the parts of the page that live on it.
 *
 * Browsers open six connections to a host over HTTP/1.1, for all tabs together. So a tab has one
 * stream, of its user's own channels and of all that its parts ask for besides, and gives it back
 * when nobody has looked at the tab for a while.
 *
 * A part joins with `load`, which asks the API how things stand, `take`, which puts the answer in
 * place, and handlers for the events that change it from there. No cursors are compared, for they
 * are opaque. Instead a part's answer is asked for when the stream's own place is known: so it
 * holds all up to that place, and perhaps more; the events from there on are kept until it is in
 * place, and then handled. A handler therefore MUST bear events that the answer holds already:
 * each sets what is so (adds what is not there, changes, removes), so that the last one stays.
 * And it hears the events of all channels: it looks in the event whether it is meant.
 *
 * A connection that dies without a word is left to the browser (TCP keep-alive) and to the
 * moments that tell of one: the network is back, the tab is shown again, the machine woke up.
 * No timer watches for silence: a quiet channel is quiet, and the heartbeats that keep proxies
 * content are comments, which an EventSource keeps to itself.
 */

import { api } from "./api.js";
import { Wakefulness } from "./wakefulness.js";

export const LOADING = "loading";
export const LIVE = "live";
export const CATCHING_UP = "catching-up";
export const RECONNECTING = "reconnecting";
export const REFUSED = "refused"; // for good: the part's `problem` says why

const RETRY_MS = 1_000; // doubled with each try that fails
const RETRY_MAX_MS = 30_000;
const SPREAD_MS = 500; // over which the pages of everybody load anew: a reset may come to all at once
const CHANGING_MS = 2_000; // a stream of other channels is there long before, or something is wrong

const ENDINGS = {
  database: "The server's database is away for a moment.",
  capacity: "The server is full; it will have room again soon.",
  drain: "The server is being restarted.",
  revoked: "Your access changed.",
};

/** Return how long to wait after so many failures; jittered, so that a thousand pages do not come back at once. */
export const pause = (failures) => Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** failures) * (0.5 + Math.random() / 2);

export class Wire {
  state = LOADING;
  detail = ""; // why, in a sentence, or ""
  missed = 0; // events that came while we were away, when catching up
  upToDate = false; // whether the stream has brought all that happened before now

  #parts = new Set();
  #cursor = null; // our place on the tape: everything up to it was heard, or is in what is loaded
  #source = null;
  #carried = ""; // the channels of the source, besides the user's own
  #attempt = new AbortController(); // of the requests made to get a stream
  #failures = 0;
  #timer = null;
  #changing = null; // a timer, while one stream takes another's place
  #gathering = false;
  #otherwise = false; // whether we may hear other channels than when all was loaded
  #wakefulness;

  constructor() {
    this.#wakefulness = new Wakefulness({
      renew: () => this.#renew(),
      sleep: () => this.#close(),
    });
  }

  /**
   * Let a part of the page live on the wire until it leaves; all but `load` and `take` can be left out.
   *
   * - `load(signal)`: asks the API how things stand; `take(answer)`: puts that in place, of whatever was there.
   * - `events`: `{Type: (payload, id) => …}`; one without an id (a job's progress) comes with that of the last that had one.
   * - `channels`: besides the user's own, which are heard in any case; see `Part.follow`.
   * - `ask(signal)`: throws the Problem if the part's channels are not for this user any more.
   * - `changed()`: called after each change of what the part holds, or of how the connection stands.
   */
  join(part) {
    const joined = new Part(part, this, this.#hooks);
    this.#parts.add(joined);
    joined.begin();
    this.#gather();
    return joined;
  }

  /** Leave: nothing is called any more, and the connection is closed. */
  stop() {
    this.#wakefulness.stop();
    for (const part of this.#parts) part.stop();
    this.#parts.clear();
    this.#close();
  }

  #hooks = {
    placed: () => this.#cursor !== null,
    gather: () => this.#gather(),
    left: (part) => this.#parts.delete(part) && this.#gather(),
  };

  /** See once, after all that happens now, whether the stream carries what the parts need. */
  #gather() {
    if (this.#gathering) return;
    this.#gathering = true;
    queueMicrotask(() => {
      this.#gathering = false;
      if (this.#source && this.#carried === this.#wanted()) this.#listen();
      else if (this.state !== REFUSED && !this.#waiting) this.#go();
    });
  }

  get #waiting() {
    return this.#timer !== null && this.#source === null; // it looks then
  }

  #wanted() {
    const of = (parts) => new Set(parts.flatMap((part) => part.channels));
    // What one part was refused, no part gets: one channel that may not be read would cost the whole stream.
    const refused = of([...this.#parts].filter((part) => part.problem));
    return [...of([...this.#parts])]
      .filter((name) => !refused.has(name))
      .sort()
      .map((name) => `&channel=${encodeURIComponent(name)}`)
      .join("");
  }

  /** Drop what goes on, and get a stream from our place; parts that have nothing yet load beside it. */
  async #go({ asking = false } = {}) {
    this.#close();
    if (this.#wakefulness.asleep || this.#parts.size === 0) return;
    const attempt = (this.#attempt = new AbortController());
    this.upToDate = false;
    if (this.state === LIVE || this.state === CATCHING_UP) {
      // Only other channels are wanted, nothing is wrong: nobody need hear of it.
      this.#changing = setTimeout(() => this.#becomes(LOADING), CHANGING_MS);
    }
    try {
      if (this.#cursor === null || asking) {
        const { cursor } = await api.unread(attempt.signal); // also whether we are still logged in
        this.#cursor ??= cursor;
      }
      if (asking) await Promise.all([...this.#parts].map((part) => part.check(attempt.signal)));
      if (attempt.signal.aborted) return;
      for (const part of this.#parts) part.begin();
      this.#open();
    } catch (problem) {
      if (!attempt.signal.aborted) this.#failed(problem);
    }
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    this.#attempt.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#changing);
    this.#timer = null;
  }

  /** Open a stream after our place; the browser itself comes back with the last event's id. */
  #open() {
    this.#carried = this.#wanted();
    const url = `/streams/me/?last_event_id=${encodeURIComponent(this.#cursor)}${this.#carried}`;
    const source = (this.#source = new EventSource(url));
    source.onerror = () => source === this.#source && this.#broke(source);
    this.#on("stream.open", (opening) => this.#opened(opening));
    this.#on("stream.live", () => this.#becomes(LIVE));
    this.#on("stream.reset", () => this.#reset());
    this.#on("stream.end", ({ reason }) => this.#ended(reason));
    this.#heard = new Set();
    this.#listen();
  }

  #heard = new Set(); // the types of events that the source was told to listen to

  #listen() {
    const types = [...this.#parts].flatMap((part) => part.types);
    for (const type of types.filter((each) => !this.#heard.has(each))) {
      this.#heard.add(type);
      this.#on(type, (event, id) => this.#parts.forEach((part) => part.hear(type, event, id)));
    }
  }

  #on(type, handle) {
    const source = this.#source;
    source.addEventListener(type, (event) => {
      if (source !== this.#source) return; // closed already: a queued event must not count
      if (event.lastEventId) this.#cursor = event.lastEventId;
      handle(JSON.parse(event.data), event.lastEventId);
    });
  }

  #ended(reason) {
    this.#otherwise ||= reason === "revoked";
    this.#becomes(RECONNECTING, ENDINGS[reason]);
  }

  #opened({ mode, missed }) {
    // What was told where we may not listen any more, or may only now: no event will put it right.
    if (this.#otherwise) for (const part of this.#parts) part.reload(ENDINGS.revoked);
    this.#otherwise = false;
    if (mode === "reset") return; // `stream.reset` follows
    this.#failures = 0;
    this.missed = missed ?? 0;
    if (mode === "live" || missed === 0) this.#becomes(LIVE);
    else if (this.state === RECONNECTING) this.#becomes(CATCHING_UP);
    // Else it brings what happened since our place in channels that are new to us: no news to anybody.
  }

  /** The log cannot prove that we missed nothing: the stream goes on from now, and all is loaded anew. */
  #reset() {
    this.missed = 0;
    this.#failures = 0;
    for (const part of this.#parts) {
      part.reload("The page was away for too long, so the list is loaded anew.", SPREAD_MS * Math.random());
    }
    this.#becomes(LIVE);
  }

  /**
   * The stream broke off. The browser comes back by itself after a network's failure; after an
   * answer other than 200 it never does and tells nobody why, so the next try asks the API.
   */
  #broke(source) {
    if (this.state !== RECONNECTING) this.#becomes(RECONNECTING); // else keep `stream.end`'s reason
    if (source.readyState !== EventSource.CLOSED) return;
    this.#close();
    this.#later();
  }

  #failed(problem) {
    if (problem.passing) {
      this.#becomes(RECONNECTING, problem.message);
      this.#later();
    } else if (problem.status) {
      for (const part of this.#parts) part.refuse(problem);
      this.#becomes(REFUSED);
    } else {
      throw problem; // a fault of this page
    }
  }

  #later() {
    this.#timer = setTimeout(() => this.#go({ asking: true }), pause(this.#failures));
    this.#failures += 1;
  }

  /** Replace a connection that may be dead without knowing it; from our place, so nothing is lost. */
  #renew() {
    if (this.state === REFUSED) return;
    if (this.state !== LOADING) this.#becomes(RECONNECTING);
    for (const part of this.#parts) part.renew();
    this.#go();
  }

  #becomes(state, detail = "") {
    clearTimeout(this.#changing);
    this.state = state;
    this.detail = detail;
    this.upToDate = state === LIVE;
    for (const part of this.#parts) part.settle();
  }
}

/** A part's place on the wire: what `join` returns. */
class Part {
  problem = null; // why it is refused, for good
  loaded = false; // whether what it holds was ever whole
  lastEventAt = null; // when the last event came that was news

  #part;
  #wire;
  #hooks;
  #channels;
  #current = false; // whether what it holds is whole now
  #kept = []; // events that came while it loads, or while more of it is fetched
  #fetches = 0;
  #loads = 0;
  #loading = null; // the AbortController of the request that is under way
  #answer = null; // what was loaded, until it is put in place
  #why = ""; // it is loaded anew, or cannot be
  #failures = 0;
  #timer = null;
  #over = false;

  constructor(part, wire, hooks) {
    this.#part = part;
    this.#wire = wire;
    this.#hooks = hooks;
    this.#channels = part.channels ?? [];
  }

  /** How the part stands: whole and true, or on the way to it. */
  get state() {
    if (this.problem) return REFUSED;
    if (this.#current) return this.#wire.state;
    if (this.#failures) return RECONNECTING;
    return this.loaded ? CATCHING_UP : this.#wire.state === RECONNECTING ? RECONNECTING : LOADING;
  }

  /** Why, in a sentence, or "". */
  get detail() {
    return this.#why || this.#wire.detail;
  }

  /** How many events came while we were away, when catching up. */
  get missed() {
    return this.#wire.missed;
  }

  /** Hear these channels from now on, besides the user's own. What they led to so far is not loaded for it. */
  follow(channels) {
    this.#channels = channels;
    this.#hooks.gather();
  }

  /** Ask for more of what the events change: `take` is called with the answer, then with what came meanwhile again. */
  async fetch(ask, take) {
    const [load, from] = [this.#loads, this.#kept.length];
    this.#fetches += 1;
    try {
      const answer = await ask();
      if (this.#over || load !== this.#loads) return; // of what is loaded anew
      take(answer);
      this.#apply(this.#kept.slice(from));
    } finally {
      this.#fetches -= 1;
      if (!this.#fetches && !this.#loading) this.#kept = [];
    }
    this.#changed();
  }

  /** Load all anew, after a wait; what is there stays until then. */
  reload(why = "", wait = 0) {
    this.#drop();
    this.#current = false;
    this.#why = why;
    if (wait) this.#later(wait);
    else this.begin();
  }

  /** Leave the wire: nothing is called any more, and its channels are closed. */
  leave() {
    this.stop();
    this.#hooks.left(this);
  }

  // --- For the wire ------------------------------------------------------------------------------

  get channels() {
    return this.#channels;
  }

  get types() {
    return Object.keys(this.#part.events ?? {});
  }

  stop() {
    this.#over = true;
    this.#drop();
  }

  /** Load, if it is not loaded, and the wire has its place. */
  async begin() {
    if (this.#current || this.#loading || this.#timer || this.problem || !this.#hooks.placed()) return;
    const { signal } = (this.#loading = new AbortController());
    this.#loads += 1;
    this.#kept = [];
    try {
      const answer = (await this.#part.load?.(signal)) ?? {};
      if (signal.aborted) return;
      this.#answer = answer;
      this.settle();
    } catch (problem) {
      if (signal.aborted) return;
      this.#loading = null;
      this.#failed(problem);
    }
  }

  /** Begin anew what may have been asked over a dead connection. */
  renew() {
    if (!this.#current) this.#drop();
  }

  /** Hear an event: at once, or when all is there that it changes. */
  hear(type, event, id) {
    const handle = this.#part.events?.[type];
    if (!handle || this.problem) return;
    if (this.#loading || this.#fetches) this.#kept.push([type, event, id]);
    if (!this.#current) return;
    if (this.#wire.state === LIVE) this.lastEventAt = new Date();
    handle(event, id);
    this.#changed();
  }

  /**
   * Put what was loaded in place, with what came since, once the stream has brought it: else one would
   * see for a moment what is long gone.
   */
  settle() {
    const { upToDate, state } = this.#wire;
    if (this.#answer && (upToDate || state === RECONNECTING)) {
      this.#part.take?.(this.#answer);
      this.#answer = null;
      this.#loading = null;
      this.#current = this.loaded = true;
      this.#why = "";
      this.#failures = 0;
      this.#apply(this.#kept);
      this.#kept = [];
    }
    this.#changed();
  }

  /** Ask whether the part's channels are for this user; it is refused if not. Throws what will pass. */
  async check(signal) {
    try {
      if (!this.problem) await this.#part.ask?.(signal);
    } catch (problem) {
      if (signal.aborted || problem.passing || !problem.status) throw problem;
      this.refuse(problem);
    }
  }

  refuse(problem) {
    this.#drop();
    this.problem = problem;
    this.#changed();
  }

  #failed(problem) {
    if (problem.passing) {
      this.#why = problem.message;
      this.#later(pause(this.#failures));
      this.#failures += 1;
      this.#changed();
    } else if (problem.status) {
      this.refuse(problem);
      this.#hooks.gather(); // without its channels
    } else {
      throw problem; // a fault of this page
    }
  }

  #later(wait) {
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.begin();
    }, wait);
  }

  #apply(events) {
    for (const [type, event, id] of events) this.#part.events[type](event, id);
  }

  #drop() {
    this.#loads += 1;
    this.#loading?.abort();
    this.#loading = null;
    this.#answer = null;
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #changed() {
    if (!this.#over) this.#part.changed?.();
  }
}

/** The client: what an app subscribes to, each from its own place, each event once. */

import { earliest, heard, newer } from "./place.js";
import { Tabs } from "./tabs.js";
import { base, here, safely } from "./tools.js";
import { watchSleep } from "./wake.js";

const SLEEP_MS = 60_000;

/**
 * By which kinds of channel the server's own events come: one that names its item or job is for who asked for
 * that item or job. All subscriptions share a connection, which does not say by which channel an event came.
 */
export const ROUTES = {};
const route = (types, ...kinds) => types.split(" ").forEach((type) => (ROUTES[type] = kinds));
route("CommentAdded CommentUpdated CommentDeleted ItemCreated ItemChanged ItemDeleted PresenceChanged", "item");
route("MemberAdded MemberRemoved", "item", "user");
route("JobState JobProgressed JobSent", "job");
route("JobQueued JobStarted JobRetrying JobFailed JobCancelled TaskComplete", "job", "user");

export class Client {
  #options;
  #tabs;
  #subscriptions = new Set();
  #state = "connecting";
  #reason;
  #telling = false;
  #stopWatching;
  #paused = false; // by the app
  #asleep = false; // by nobody's looking

  constructor(options = {}) {
    this.#options = { ...options, url: base(options.url) };
    this.#tabs = new Tabs(
      this.#options,
      () => this.#wanted(),
      (message) => this.#take(message),
    );
    this.#stopWatching = watchSleep({
      after: options.sleepAfter === undefined ? SLEEP_MS : options.sleepAfter,
      sleep: () => {
        this.#asleep = true;
        this.#rest();
      },
      wake: () => {
        this.#asleep = false;
        this.#rest();
        this.#tabs.tell();
      },
      online: () => this.#tabs.renew(true),
    });
    this.#tabs.join();
  }

  get state() {
    return this.#state;
  }

  /** Hear channels until the handle is closed. See index.d.ts. */
  subscribe(channels, handlers, options = {}) {
    if (this.#state === "over") this.#becomes("connecting");
    const subscription = new Subscription([channels].flat(), handlers, options, this.#options, () => {
      if (this.#subscriptions.delete(subscription)) this.#tell();
    });
    this.#subscriptions.add(subscription);
    this.#tell();
    return subscription.handle;
  }

  /** Give the connection back until `resume`; nothing is missed. */
  pause() {
    this.#paused = true;
    this.#rest();
  }

  /** Go on from where it was paused. */
  resume() {
    this.#paused = false;
    this.#rest();
  }

  /** Be gone for good. */
  close() {
    this.#stopWatching();
    for (const each of this.#subscriptions) each.handle.close();
    this.#tabs.leave();
    this.#becomes("over", { reason: "closed" });
  }

  #rest() {
    if (this.#paused || this.#asleep) {
      this.#tabs.leave();
      this.#take({ t: "lead" });
      this.#becomes("offline", { reason: this.#paused ? "paused" : "asleep" });
    } else {
      this.#tabs.join();
    }
  }

  /** Tell what is wanted, once for all that changes now. */
  #tell() {
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      this.#tabs.tell();
    });
  }

  #wanted() {
    const all = [...this.#subscriptions];
    return {
      channels: [...new Set(all.flatMap((each) => each.channels))],
      types: [...new Set(all.flatMap((each) => each.types))],
      // Who is on the stream gets all that follows, whatever is opened next.
      place: earliest(all.filter((each) => !each.stream).map((each) => each.place)),
    };
  }

  #take(message) {
    const { t, state, why } = message;
    if (t === "state") return this.#becomes(state, why);
    // Who is not on the stream any more has to say from where it goes on.
    for (const each of this.#subscriptions) if (each[t](message) === false) this.#tell();
  }

  #becomes(state, why = {}) {
    if (state === this.#state && why.reason === this.#reason) return;
    this.#state = state;
    this.#reason = why.reason;
    safely(this.#options.onState, state, why);
  }
}

/** One subscription, which stands at a place of its own. It has a method for each message of a Carrier. */
class Subscription {
  place;
  stream = null; // which it is on, without a gap

  #handlers;
  #options;
  #storage;
  #routes;
  #settle;

  constructor(channels, handlers, options, { storage, routes }, leave) {
    this.channels = channels;
    this.types = Object.keys(handlers);
    this.#handlers = { __proto__: null, ...handlers }; // else every object has a `constructor`
    this.#options = options;
    this.#routes = { __proto__: null, ...ROUTES, ...routes };
    try {
      if (options.store !== undefined) this.#storage = storage ?? here.sessionStorage;
      this.place = this.#storage?.getItem(this.#key);
    } catch {
      // Forbidden, as in a sandbox: then each load begins where the page says.
    }
    this.place ??= options.after ?? null;
    const ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    ready.catch(() => {}); // who does not wait for it need not hear of it
    const self = this;
    this.handle = {
      ready,
      get place() {
        return self.place;
      },
      close: () => {
        this.stream = null;
        leave();
      },
    };
  }

  get #key() {
    return `tickertape:${this.#options.store}`;
  }

  /** Somebody else leads: whether its stream begins here is not known yet. */
  lead() {
    this.stream = null;
    return false;
  }

  /**
   * Be on a stream that carries all this wants, if nothing lies between its beginning and here; who stands
   * nowhere waits until it is live. Return whether there is anything to wait for.
   */
  open({ stream, from, live, channels, types }) {
    const carried = this.channels.every((name) => channels.includes(name));
    const heard = this.types.every((name) => types.includes(name));
    const gap = this.place !== null && newer(from, this.place);
    if (!carried || !heard || gap) return this.lead();
    if (this.place === null && !live) return true;
    this.stream = stream;
    if (this.place === null) this.#stand(from);
    this.#settle.resolve(this.place);
    return true;
  }

  frame({ stream, id, type, data }) {
    if (stream !== this.stream) return;
    if (id && heard(id, this.place)) return; // it was, or it was in what was loaded
    const handler = this.#handlers[type];
    if (id) this.place = id;
    if (handler && this.#means(type, data)) safely(handler, data, { id, type });
    if (id) this.#stand(this.place);
  }

  /** The log cannot go on from `lost`; who stands behind that is not concerned, and asks from there. */
  reset({ lost, reason, place }) {
    this.stream = null;
    if (this.place === null || (reason !== "epoch" && newer(this.place, lost))) return;
    this.#stand(place);
    safely(this.#options.onReset, { reason, place });
  }

  refused({ refused }) {
    const mine = refused.find(({ channel }) => this.channels.includes(channel));
    if (!mine) return;
    this.handle.close();
    this.#settle.reject(Object.assign(new Error(mine.problem?.detail ?? `Refused: ${mine.status}`), mine));
    safely(this.#options.onOver, mine);
  }

  /** Remember the place, when what led to it is done: who dies in between hears it again. */
  #stand(place) {
    this.place = place;
    try {
      this.#storage?.setItem(this.#key, place);
    } catch {
      // No room, or forbidden: then a reload begins where the page says.
    }
  }

  #means(type, data) {
    const kinds = this.#routes[type];
    return !kinds || kinds.some((kind) => this.channels.some((name) => leads(name, kind, data?.[`${kind}_id`])));
  }
}

/** Tell whether what comes by a kind of channel, and names this id if it names one, comes by this channel. */
function leads(name, kind, id) {
  if (name === "me") return /^(user|group|system)$/.test(kind);
  return `${name}:`.startsWith(id === undefined ? `${kind}:` : `${kind}:${id}:`);
}

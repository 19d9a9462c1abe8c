/**
 * The one connection of all tabs: runs in the tab that leads, carries what each of them wants.
 *
 * A tab says where it stands. What is carried begins at the earliest of these places, and is said with where
 * it began: so each tab can tell whether it joins without a gap, and drops what it has.
 */

import { Connection } from "./connection.js";
import { earliest } from "./place.js";
import { REFUSED } from "./tools.js";

const GATHER_MS = 20; // tabs that answer together, and changes that are made together, cost one opening
const AGAIN_MS = 2_000; // after a refusal that was none any more when it was looked into

const all = (wants, name) => new Set([...wants.values()].flatMap((want) => want[name]));
const covers = (set, wanted) => [...wanted].every((each) => set.has(each));

export class Carrier {
  #options;
  #post;
  #connection;
  #wants = new Map(); // by tab
  #channels = new Set(); // what the connection carries
  #types = new Set();
  #stream = null; // the name of what is open, in all tabs
  #live = false;
  #lost = null; // where a stream was asked to go on from that could not
  #timer = null;
  #why = {};

  constructor(options, post) {
    this.#options = options;
    this.#post = post;
    this.#connection = new Connection(options, {
      frame: (frame, before) => this.#frame(frame, before),
      state: (state, why) => this.#state(state, why),
      refused: (status, problem) => this.#refused(status, problem),
    });
  }

  /** Carry for a tab what it wants, `{ channels, types, place }`, in place of what it wanted before. */
  want(tab, want) {
    if (want.channels.length) this.#wants.set(tab, want);
    else this.#wants.delete(tab);
    this.#state(this.#connection.state, this.#why); // the tab hears that somebody leads
    this.#timer ??= setTimeout(() => this.#gathered(), GATHER_MS);
  }

  /** Come back at once: the machine woke up, or its network did. */
  renew(elsewhere) {
    this.#connection.renew(elsewhere);
  }

  /** Be gone; nothing is posted any more. */
  close() {
    this.#post = () => {};
    this.#wants.clear(); // who looks into a refusal still would open a connection for them
    clearTimeout(this.#timer);
    this.#connection.close();
  }

  #gathered() {
    this.#timer = null;
    const connection = this.#connection;
    const channels = all(this.#wants, "channels");
    const types = all(this.#wants, "types");
    if (!channels.size) {
      if (!this.#channels.size) return;
      this.#channels = channels;
      this.#stream = null;
      return connection.close("offline", { reason: "idle" });
    }
    const places = [...this.#wants.values()].map((want) => want.place);
    for (const want of this.#wants.values()) want.place = null; // heeded
    const place = earliest([connection.place, ...places]);
    const same = channels.size === this.#channels.size && covers(this.#channels, channels);
    if (same && covers(this.#types, types) && place === connection.place && connection.state !== "over") {
      if (this.#stream) this.#opened(connection.place, this.#live);
      return;
    }
    const changing = this.#stream && connection.state !== "offline";
    this.#stream = null;
    this.#channels = channels;
    this.#types = types;
    connection.open({ path: "streams/", channels: [...channels].sort(), types }, place, changing);
  }

  /** Say what is carried, that all of it behind `from` comes, and whether that is now. */
  #opened(from, live) {
    const [channels, types] = [[...this.#channels], [...this.#types]];
    this.#live = live;
    this.#post({ t: "open", stream: this.#stream, from, live, channels, types });
  }

  #frame({ id, type, data }, before) {
    if (type === "stream.open") {
      this.#stream = Math.random();
      this.#lost = data.mode === "reset" ? before : null;
      if (data.mode !== "reset") this.#opened(before ?? data.cursor, data.mode === "live");
    } else if (type === "stream.reset") {
      const { place } = this.#connection;
      this.#stream = Math.random();
      this.#post({ t: "reset", lost: this.#lost ?? before, reason: data.reason, place });
      this.#opened(place, true);
    } else if (this.#stream) {
      this.#post({ t: "frame", stream: this.#stream, id: id ?? null, type, data });
      if (type === "stream.live") this.#opened(this.#connection.place, true);
    }
  }

  #state(state, why) {
    this.#why = why;
    this.#post({ t: "state", state, why });
  }

  /** Find out whom the refusal is for, and go on without; who it is for is told. */
  async #refused(status, problem) {
    const channels = [...this.#channels];
    let refused = channels.map((channel) => ({ channel, status, problem }));
    if (status !== 401 && channels.length > 1) {
      const asked = await Promise.all(
        channels.map(async (channel) => ({ channel, ...(await this.#connection.try(channel).catch(() => null)) })),
      );
      const found = asked.filter((answer) => REFUSED.test(answer.status));
      // None of them for itself: they are too many together, or what was refused is not any more.
      if (found.length) refused = found;
      else if (status !== 400) return setTimeout(() => this.#connection.renew(), AGAIN_MS);
    }
    const names = new Set(refused.map(({ channel }) => channel));
    for (const [tab, want] of this.#wants) {
      want.channels = want.channels.filter((name) => !names.has(name));
      if (!want.channels.length) this.#wants.delete(tab);
    }
    this.#channels = new Set(); // whatever is wanted now, it is to be opened
    if (!this.#wants.size) this.#connection.close("over", { status, problem });
    this.#post({ t: "refused", refused });
    this.#timer ??= setTimeout(() => this.#gathered(), GATHER_MS);
  }
}

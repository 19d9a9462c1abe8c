/**
 * The user's notifications, folded from what the API lists and the events on the user's own channel.
 *
 * Held are the pages that were asked for, from the latest on, and beside them all that is unread,
 * up to a limit past which nobody counts. So the bell's number is a count of rows, as it is on the
 * server, and every tab and device folds the same. An event about a row that is not held, and may
 * matter, has all loaded anew.
 */

import { api } from "./api.js";
import { Expiry, SEVERITIES, broadcastFromApi, broadcastFromEvent, isOver } from "./broadcasts.js";
import { LIVE } from "./wire.js";

const PAGE = 20;
const UNREAD_HELD = 200; // the API's longest page
const MOST = 99; // the bell counts no further

const BROADCAST = "broadcast";

const CHANGES = {
  read: { read: true },
  unread: { read: false, archived: false },
  archive: { read: true, archived: true },
};

export class Inbox {
  muted = new Set(); // the items of these rows that the user muted

  #part;
  #rows = new Map(); // id → row
  #listed = []; // the ids of the pages, the latest first
  #next = null; // the token of the page behind them
  #allUnread = true; // whether every unread row is held
  #raised;
  #changed;
  #wishes;
  #expiry = new Expiry(() => this.#expired());

  /** `changed` is called after each change; `raised(row)` when somebody is told of something just now. */
  constructor({ wire, wishes }, { changed, raised }) {
    this.#wishes = wishes;
    this.#raised = raised;
    this.#changed = changed;
    this.#part = wire.join({
      load: (signal) =>
        Promise.all([
          api.notifications({ limit: PAGE }, signal),
          api.notifications({ limit: UNREAD_HELD, unread: true }, signal),
        ]),
      take: (pages) => this.#take(...pages),
      events: {
        NotificationRaised: (event) => this.#raise(fromEvent(event)),
        NotificationsRead: (event) => this.#read(event),
        NotificationUnread: ({ notification_id: id }) => this.#mark(id, CHANGES.unread),
        NotificationArchived: ({ notification_id: id }) => this.#mark(id, CHANGES.archive),
        ItemMuted: ({ item_id: item }) => this.#attended(() => this.muted.add(item)),
        ItemUnmuted: ({ item_id: item }) => this.#attended(() => this.muted.delete(item)),
        ItemWatched: () => this.#attended(),
        ItemUnwatched: () => this.#attended(),
        PreferencesChanged: () => this.#anew(),
        SystemAlert: (event) => this.#hear(broadcastFromEvent(event)),
        SystemAlertUpdated: (event) => this.#hearAnew(broadcastFromEvent(event)),
        SystemAlertRecalled: ({ broadcast_id: id }) => this.#forget(id),
        SystemAlertsRead: ({ broadcast_ids: ids }) => ids.forEach((id) => this.#mark(id, CHANGES.read)),
        SystemAlertUnread: ({ broadcast_id: id }) => this.#mark(id, CHANGES.unread),
        SystemAlertDismissed: ({ broadcast_id: id }) => this.#mark(id, CHANGES.archive),
      },
      changed,
    });
  }

  /** How it stands with the wire: see there. */
  get part() {
    return this.#part;
  }

  /** Return the notifications that are to be shown, the latest first. */
  list() {
    return this.#listed.map((id) => this.#rows.get(id)).filter((row) => !row.archived && !isOver(row));
  }

  /** Wait for nothing any more. */
  stop() {
    this.#expiry.stop();
  }

  /** Whether there are more behind the list. */
  get more() {
    return this.#next !== null;
  }

  /** Return what is unread, in no order. */
  unread() {
    return [...this.#rows.values()].filter((row) => !row.read && !isOver(row));
  }

  /** Return how many are unread, for a person; of what is not `before` them. */
  count(before = () => false) {
    const unread = this.unread().filter((row) => !before(row)).length;
    return unread > MOST || !this.#allUnread ? `${MOST}+` : String(unread);
  }

  /** Whether all that is unread is held here. */
  get allHeld() {
    return this.#allUnread;
  }

  /** Have a notification read, unread or archived; what changes comes as an event, too. */
  async mark(id, what) {
    const row = this.#rows.get(id);
    await api.markNotification(id, what);
    this.#answered([row], CHANGES[what]);
  }

  /** Have all read that there is. */
  async readAll() {
    const rows = this.unread();
    await api.readAll();
    this.#answered(rows, CHANGES.read);
  }

  /** Have all read that was told of an item. */
  async sawItem(itemId) {
    const rows = this.unread().filter((row) => row.itemId === itemId);
    await api.sawItem(itemId);
    this.#answered(rows, CHANGES.read);
  }

  /** Be told of nothing about an item any more, or of what there is. */
  async mute(itemId, wanted) {
    await api.attend(itemId, "mute", wanted);
    if (wanted) this.muted.add(itemId);
    else this.muted.delete(itemId);
    this.#changed();
  }

  /** Take in an answer, where no event came meanwhile: that may be a later one, of another device. */
  #answered(rows, changes) {
    for (const row of rows) if (row && this.#rows.get(row.id) === row) this.#rows.set(row.id, { ...row, ...changes });
    this.#changed();
  }

  /** Get the next page of the list. */
  older() {
    const query = { limit: PAGE, after: this.#next };
    return this.#part.fetch(
      () => api.notifications(query),
      (page) => {
        if (query.after === this.#next) this.#append(page);
      },
    );
  }

  #take(page, unread) {
    this.#rows = new Map(unread.results.map((row) => [row.id, fromApi(row)]));
    this.muted = new Set();
    this.#allUnread = unread.next === null;
    this.#listed = [];
    this.#append(page);
  }

  #append({ results, next }) {
    const listed = new Set(this.#listed);
    for (const row of results) {
      if (row.muted) this.muted.add(row.item_id);
      this.#rows.set(row.id, fromApi(row));
      if (!listed.has(row.id)) this.#listed.push(row.id);
    }
    this.#next = next;
    this.#awaitExpiry();
  }

  #anew() {
    this.#part.reload();
  }

  /** Whoever watches an item may be whom a broadcast is for. */
  #attended(note = () => {}) {
    note();
    this.#anew();
  }

  #expired() {
    this.#awaitExpiry(); // for the next one
    this.#changed();
  }

  /** Put a broadcast in, unless the user wants to hear of none. Toasts say it aloud. */
  #hear(said) {
    const delivery = this.#wishes.delivery(said);
    if (delivery === undefined) return this.#anew(); // the server knows
    if (delivery) this.#raise(fromBroadcast(said, { read: false, archived: false, delivery }));
    this.#awaitExpiry();
  }

  /** Have a broadcast say something else, where it stands. */
  #hearAnew(said) {
    const row = this.#rows.get(said.id);
    if (row) this.#rows.set(said.id, fromBroadcast(said, row));
    if (this.#wishes.any) this.#anew(); // what is critical now is kept out no more
    this.#awaitExpiry();
  }

  #forget(id) {
    this.#rows.delete(id);
    this.#listed = this.#listed.filter((each) => each !== id);
  }

  #awaitExpiry() {
    this.#expiry.wait([...this.#rows.values()].filter((row) => !isOver(row)).map((row) => row.expiresAt));
  }

  #raise(row) {
    const known = this.#rows.get(row.id);
    this.#rows.set(row.id, row);
    this.#listed = [row.id, ...this.#listed.filter((id) => id !== row.id)];
    const news = !known || known.count !== row.count;
    if (news && row.kind !== BROADCAST && row.delivery === "live" && this.#part.state === LIVE) this.#raised(row);
  }

  #read({ notification_ids: ids, item_id: item }) {
    const all = ids === null && item === null;
    for (const row of this.unread()) {
      if (row.kind === BROADCAST) continue; // those are read by events of their own
      if (all || (ids === null ? row.itemId === item : ids.includes(row.id))) this.#mark(row.id, CHANGES.read);
    }
    if (all) this.#allUnread = true;
    this.#countAgain();
  }

  #mark(id, changes) {
    const row = this.#rows.get(id);
    if (row) this.#rows.set(id, { ...row, ...changes });
    else if (!changes.read) this.#part.reload(); // it came back from behind what we hold
    this.#countAgain();
  }

  /** Hold the next of what is unread, when so few are left that somebody may count them. */
  #countAgain() {
    if (!this.#allUnread && this.unread().length <= MOST) this.#part.reload();
  }
}

function fromApi(row) {
  if (row.broadcast) {
    const said = broadcastFromApi({ ...row, ...row.broadcast, starts_at: row.created_at });
    return fromBroadcast(said, row);
  }
  return shaped(row, { id: row.id, read: row.read, archived: row.archived, at: new Date(row.created_at) });
}

function fromEvent(event) {
  const id = event.notification_id;
  return shaped(event, { id, read: false, archived: false, at: new Date(event.timestamp * 1000) });
}

/** Broadcasts stand among notifications; their severity is a word, so that nobody needs colours. */
const fromBroadcast = ({ id, title, message, severity, link, startsAt, expiresAt }, { read, archived, delivery }) => ({
  id,
  read,
  archived,
  at: startsAt,
  kind: BROADCAST,
  message: `${SEVERITIES[severity] ?? severity}: ${title ? `${title} — ` : ""}${message}`,
  severity,
  link,
  itemId: null,
  jobId: null,
  count: 1,
  delivery,
  expiresAt,
});

const shaped = ({ kind, message, item_id, job_id, count, delivery }, own) => ({
  ...own,
  kind,
  message,
  itemId: item_id,
  jobId: job_id,
  count,
  delivery,
});

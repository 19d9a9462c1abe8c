/** The bell: how many notifications are unread, and the panel that lists them. */

import { announce, h, icon, say } from "./dom.js";
import { Inbox } from "./inbox.js";
import { NoteRow } from "./note.js";
import { Panel } from "./panel.js";
import { openPreferences } from "./preferences.js";
import { Seen } from "./seen.js";
import { LIVE, LOADING, REFUSED } from "./wire.js";

const BELL = ["M12 3a6 6 0 0 0-6 6v4l-2 4h16l-2-4V9a6 6 0 0 0-6-6z", "M10 20a2 2 0 0 0 4 0"];
const GATHER_MS = 1_000; // what is raised within it is announced together

export class Bell {
  #inbox;
  #jobs;
  #panel;
  #rows = new Map();
  #news = []; // raised, not announced yet
  #newsTimer = null;
  #frame = null;

  #badge = h("span", { class: "badge", "aria-hidden": "true", hidden: true });
  #button = h("button", { class: "bar__button bell", type: "button" }, icon(...BELL), this.#badge);
  #readAll = tool("Mark all read", () => this.#try(() => this.#inbox.readAll()));
  #older = h("button", { class: "button notes__older", type: "button", onclick: () => this.#getOlder() }, "Older");
  #status = h("p", { class: "notes__status", role: "status" });
  #blank = h(
    "div",
    { class: "blank", hidden: true },
    h("p", { class: "blank__line" }, "Nothing new."),
    h("p", {}, "What is said to you, and on what you watch, comes in here."),
  );
  #fault = h("p", { class: "form__fault notes__fault", role: "alert", hidden: true });
  #list = h("ul", { class: "notes", role: "list", "aria-label": "Notifications", hidden: true });

  /** `element` goes into the bar; `seen` wants to know which item is open. */
  constructor({ wire, wishes, jobs }) {
    this.#jobs = jobs;
    this.#panel = new Panel({
      name: "bell",
      title: "Notifications",
      button: this.#button,
      tools: [this.#readAll, gear(() => this.#prefer())],
    });
    this.#panel.show(this.#fault, this.#status, this.#blank, this.#list, this.#older);
    this.element = h("div", { class: "bar__part" }, this.#button, this.#panel.element);
    this.#list.addEventListener("keydown", (event) => this.#move(event));
    this.#inbox = new Inbox(
      { wire, wishes },
      { changed: () => this.#schedule(), raised: (row) => this.#raised(row) },
    );
    this.seen = new Seen(this.#inbox, () => this.#schedule());
    this.#show();
  }

  /** Leave: nothing is announced or told any more. */
  stop() {
    this.seen.stop();
    this.#inbox.stop();
    clearTimeout(this.#newsTimer);
    cancelAnimationFrame(this.#frame);
  }

  /** Show what the inbox has, at most once a frame; a hidden tab has none, and shows it when it is looked at. */
  #schedule() {
    this.seen.check();
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#show();
    });
  }

  #show() {
    const { part } = this.#inbox;
    const count = this.#inbox.count((row) => this.seen.before(row));
    this.#badge.textContent = count;
    this.#badge.hidden = count === "0";
    const unread = part.loaded ? `${count.replace("99+", "more than 99")} unread` : "not loaded yet";
    const name = `Notifications, ${unread}`;
    if (this.#button.getAttribute("aria-label") !== name) this.#button.setAttribute("aria-label", name);
    this.#readAll.hidden = this.#inbox.unread().length === 0;
    this.#older.hidden = !this.#inbox.more;
    const rows = this.#inbox.list();
    this.#list.hidden = rows.length === 0;
    this.#showStatus(part, rows.length);
    this.#reconcile(rows);
  }

  #showStatus({ state, detail, problem, loaded }, rows) {
    let said = "";
    if (state === REFUSED) said = problem?.message ?? detail;
    else if (!loaded && state === LOADING) said = "Loading the notifications…";
    else if (state !== LIVE && state !== LOADING) said = `Reconnecting. ${detail || "What is new comes in then."}`;
    this.#status.hidden = said === "";
    say(this.#status, said);
    this.#blank.hidden = rows > 0 || !loaded;
  }

  /** Make the rows those of the list, touching only what differs. */
  #reconcile(rows) {
    const refocus = keepFocus(this.#list, () => this.#panel.focus());
    const wanted = new Set(rows.map((row) => row.id));
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    let place = this.#list.firstElementChild;
    for (const row of rows) {
      let shown = this.#rows.get(row.id);
      if (!shown) this.#rows.set(row.id, (shown = new NoteRow(row, this.#actions)));
      shown.show(row, { muted: this.#inbox.muted.has(row.itemId) });
      if (shown.element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(shown.element, place);
    }
    refocus();
  }

  #actions = {
    open: (row, event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // into another tab
      if (row.itemId) this.#panel.close();
      if (row.jobId) this.#jobs.open(row.jobId);
      if (!row.read) this.#try(() => this.#inbox.mark(row.id, "read"));
    },
    mark: (row, what) => this.#try(() => this.#inbox.mark(row.id, what), DONE[what]),
    mute: ({ itemId }) => {
      const wanted = !this.#inbox.muted.has(itemId);
      return this.#try(
        () => this.#inbox.mute(itemId, wanted),
        wanted ? "You will be told of nothing about this item." : "You will be told of this item again.",
      );
    },
  };

  async #getOlder() {
    const last = this.#list.lastElementChild;
    await this.#try(() => this.#inbox.older());
    this.#show();
    this.#rows.get(last?.nextElementSibling?.dataset.id)?.focus(); // where reading goes on
  }

  /** Do something, and say what went wrong. */
  async #try(act, done = "") {
    this.#fault.hidden = true;
    try {
      await act();
      if (done) announce(done);
    } catch (problem) {
      if (!problem.fields) throw problem;
      this.#fault.textContent = problem.message;
      this.#fault.hidden = false;
    }
  }

  /** Say what is new, but not of what is looked at anyway, and not more than a sentence at once. */
  #raised(row) {
    if (this.seen.before(row)) return;
    this.#news = [row, ...this.#news.filter(({ id }) => id !== row.id)];
    this.#newsTimer ??= setTimeout(() => {
      this.#newsTimer = null;
      const [latest, ...others] = this.#news.splice(0);
      announce(others.length ? `${others.length + 1} new notifications. The latest: ${latest.message}` : latest.message);
    }, GATHER_MS);
  }

  #prefer() {
    this.#panel.close();
    openPreferences();
  }

  /** Let the arrow keys go from one notification to the next. */
  #move(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = step && event.target.closest(".note")?.[step];
    if (!next) return;
    event.preventDefault();
    this.#rows.get(next.dataset.id).focus();
  }
}

const DONE = { read: "Marked as read.", unread: "Marked as unread.", archive: "Archived." };

const tool = (name, onclick) => h("button", { class: "link", type: "button", onclick }, name);

/** Return a function that gives the focus back, to what had it or to what is next to where that was. */
function keepFocus(list, elsewhere) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  if (!focused) return () => {};
  const before = [...list.children];
  const at = before.findIndex((element) => element.contains(focused));
  return () => {
    if (focused === document.activeElement) return;
    if (focused.isConnected) return focused.focus(); // it was moved
    const near = [...before.slice(at + 1), ...before.slice(0, at).reverse()].find((element) => element.isConnected);
    (near?.querySelector("a, button") ?? { focus: elsewhere }).focus();
  };
}

const gear = (onclick) =>
  h(
    "button",
    { class: "drop__close", type: "button", "aria-label": "Preferences", title: "Preferences", onclick },
    icon("M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z", GEAR),
  );

// Eight teeth around.
const GEAR =
  "M10.3 5l.1-2.5h3.2l.1 2.5 2 .8 1.9-1.6 2.2 2.2-1.6 1.9.8 2 2.5.1v3.2l-2.5.1-.8 2 1.6 1.9-2.2 2.2-1.9-1.6-2 .8-.1 2.5" +
  "h-3.2l-.1-2.5-2-.8-1.9 1.6-2.2-2.2 1.6-1.9-.8-2-2.5-.1v-3.2l2.5-.1.8-2-1.6-1.9 2.2-2.2 1.9 1.6z";

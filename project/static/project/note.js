/** One notification in the bell's list: what happened, when, and what can be done about it. */

import { webAddress } from "./broadcasts.js";
import { h, say } from "./dom.js";
import { ago, showAgo } from "./time.js";

const NAMED = 80; // characters of what a button is for: a broadcast may be long

export class NoteRow {
  #row = null;
  #actions;
  #main;
  #unread = h("span", { class: "sr-only" }, "Unread. ");
  #words = h("bdi", { class: "note__words" });
  #time;
  #read;
  #mute;
  #more = h("span", {}); // of a broadcast, the way to its link

  /** `actions` has `open(row)`, `mark(row, what)` and `mute(row)`, which report what goes wrong themselves. */
  constructor(row, actions) {
    this.#actions = actions;
    this.#time = ago(row.at);
    // What is about an item or a job leads there; all else is done when it is read.
    const onclick = (event) => actions.open(this.#row, event);
    const inside = [this.#unread, this.#words];
    this.#main = row.itemId
      ? h("a", { class: "note__main", href: `/items/${row.itemId}`, onclick }, inside)
      : h("button", { class: "note__main", type: "button", onclick }, inside);
    this.#read = this.#button("read", () => actions.mark(this.#row, this.#row.read ? "unread" : "read"));
    const archive = this.#button("archive", () => actions.mark(this.#row, "archive"));
    archive.textContent = "Archive";
    this.#mute = row.itemId && this.#button("mute", () => actions.mute(this.#row));
    this.element = h(
      "li",
      { class: `note note--${row.kind}`, "data-id": row.id },
      h("span", { class: "note__dot", "aria-hidden": "true" }),
      this.#main,
      h("div", { class: "note__foot" }, this.#time, this.#more, this.#read, archive, this.#mute),
    );
  }

  /** Show the notification as it is now. */
  show(row, { muted }) {
    const before = this.#row;
    this.#row = row;
    this.element.classList.toggle("note--unread", !row.read);
    this.#unread.hidden = row.read;
    say(this.#words, row.message);
    if (before?.at.getTime() !== row.at.getTime()) showAgo(this.#time, row.at);
    say(this.#read, row.read ? "Mark unread" : "Mark read");
    if (this.#mute) say(this.#mute, muted ? "Unmute" : "Mute");
    const url = webAddress(row.link);
    if (this.#more.firstChild?.href !== url?.href) {
      const leading = { class: "link", target: "_blank", rel: "noopener noreferrer" };
      this.#more.replaceChildren(...(url ? [h("a", { ...leading, href: url.href, title: url.href }, "Read more")] : []));
    }
    // What a button is for stands beside it for eyes only.
    const about = { mute: "the item of " };
    const short = row.message.length > NAMED ? `${row.message.slice(0, NAMED)}…` : row.message;
    for (const button of this.element.querySelectorAll("[data-do]")) {
      const name = `${button.textContent} ${about[button.dataset.do] ?? ""}“${short}”`;
      if (button.ariaLabel !== name) button.ariaLabel = name;
    }
  }

  /** Focus its main part. */
  focus() {
    this.#main.focus();
  }

  #button(name, onclick) {
    return h("button", { class: "link", type: "button", "data-do": name, onclick });
  }
}

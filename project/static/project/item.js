/** An open item: its comments on the tape, live, the light, and the form to add one. */

import { api, freshKey } from "./api.js";
import { Attention } from "./attention.js";
import { CommentRow, onKeys } from "./comment.js";
import { Field, announce, focusHeading, form, h, say } from "./dom.js";
import { Feed } from "./feed.js";
import { notesOf } from "./items.js";
import { Light } from "./light.js";
import { Presence } from "./presence.js";
import { LIVE, LOADING, REFUSED, pause } from "./wire.js";

const NEAR_END_PX = 120; // who is this near to the newest comment wants to see the next
const SPOKEN_CHARACTERS = 160; // of a new comment, to screen readers

const REFUSALS = {
  403: ["This item is not open to you", "Only its members see it. Its owner can add you."],
  404: ["There is no such item", "It was deleted, or the address has a mistake in it."],
};

export class ItemView {
  #id;
  #user;
  #page;
  #item = null;
  #failures = 0; // to get it
  #timer = null; // until it is asked for again
  #wasLive = false;
  #feed = null; // while it is open
  #attention = null;
  #presence = null;
  #light = new Light();
  #rows = new Map();
  #unseenIds = new Set(); // new comments below what is on the screen
  #unheard = []; // others' new comments, to be announced once live
  #firstShown = false;
  #frame = null;
  #leaving = new AbortController();

  #heading = h("h1", { class: "item__title", dir: "auto" }, "…");
  #notes = h("p", { class: "item__notes" });
  #parts = h("div", { class: "item__parts" }); // what else lives in the item's bar
  #list = h("ol", { class: "tape", role: "list", "aria-label": "Comments", hidden: true });
  #state = h("div", { class: "item__state" });
  #unseen = h("button", { class: "unseen", type: "button", hidden: true, onclick: () => this.#toEnd() });
  #composer;

  /** `known` is the item as a list had it, or null: what can be shown before it is loaded. */
  constructor(id, page, known) {
    this.#id = id;
    this.#page = page;
    this.#user = page.user;
    this.#composer = this.#makeComposer();
    this.element = h(
      "section",
      { class: "item", "aria-label": "Item" },
      h(
        "header",
        { class: "item__bar" },
        h("a", { class: "item__back", href: "/" }, "Items"),
        h("div", { class: "item__name" }, this.#heading, this.#notes),
        this.#light.element,
        this.#parts,
      ),
      this.#state,
      this.#list,
      h("div", { class: "item__end" }, this.#unseen, this.#composer.element),
    );
    this.#state.append(skeleton());
    if (known) this.#name(known);
  }

  /** Load the item and follow it until `stop`. */
  start() {
    focusHeading(this.#heading);
    this.#feed = new Feed(this.#page.wire, this.#id, () => this.#schedule());
    this.#attention = new Attention(this.#page, this.#id);
    this.#presence = new Presence(this.#page, this.#id);
    this.#parts.append(this.#presence.element, this.#attention.element);
    this.#loadItem();
    this.#show();
    window.addEventListener("scroll", () => this.#nearEnd && this.#seen(), {
      signal: this.#leaving.signal,
      passive: true,
    });
  }

  /** Leave the item: nothing of it is heard any more. */
  stop() {
    this.#leaving.abort();
    clearTimeout(this.#timer);
    this.#feed.stop();
    this.#presence.stop();
    this.#attention.stop();
    this.#page.seen.look(null);
    cancelAnimationFrame(this.#frame);
  }

  async #loadItem() {
    try {
      this.#item = await api.item(this.#id, this.#leaving.signal);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!problem.fields) throw problem;
      // The feed meets the same refusal, and says so; what passes may have met this request alone.
      if (problem.passing && !this.#item) this.#later();
      return;
    }
    clearTimeout(this.#timer);
    this.#name(this.#item);
    this.#schedule(); // the owner may delete all comments
  }

  #later() {
    clearTimeout(this.#timer);
    if (this.#feed.state === REFUSED) return;
    this.#timer = setTimeout(() => this.#loadItem(), pause(this.#failures));
    this.#failures += 1;
  }

  #name(item) {
    say(this.#heading, item.title);
    this.#notes.replaceChildren(...notesOf(item, this.#user).map((note) => h("span", { class: "tag" }, note)));
    document.title = `${item.title} · Tickertape`;
  }

  /** Show what the feed has, at most once a frame: a replay may bring thousands of events. */
  #schedule() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#show();
    });
  }

  #show() {
    const { state } = this.#feed;
    this.#light.show(this.#feed);
    if (state === LIVE && !this.#wasLive && !this.#item) this.#loadItem(); // at once: what was wrong may be over
    this.#wasLive = state === LIVE;
    if (state === REFUSED) {
      this.#showRefusal(this.#feed.problem);
      return;
    }
    if (!this.#firstShown && state === LOADING) return;
    this.#showComments();
    this.#speak();
  }

  #showComments() {
    const comments = this.#feed.comments.list();
    if (!this.#feed.loaded && comments.length === 0) return;
    const wasNearEnd = !this.#firstShown || this.#nearEnd;
    const added = this.#reconcile(comments);
    this.#list.hidden = comments.length === 0;
    if (comments.length === 0) this.#state.replaceChildren(blank());
    else this.#state.replaceChildren();
    const mine = added.some((comment) => comment.authorId === this.#user.id);
    if (wasNearEnd || (mine && this.#firstShown)) this.#toEnd();
    else this.#notSeen(added, comments);
    if (!this.#firstShown) this.#page.seen.look(this.#id);
    this.#firstShown = true;
  }

  /** Make the rows those of the comments, touching only what differs; return the comments that are new. */
  #reconcile(comments) {
    const added = [];
    const wanted = new Set(comments.map((comment) => comment.id));
    for (const [id, row] of this.#rows) if (!wanted.has(id)) this.#remove(id, row.element);
    let place = this.#list.firstElementChild;
    for (const comment of comments) {
      let row = this.#rows.get(comment.id);
      if (!row) {
        row = new CommentRow(comment, this.#actions);
        row.element.classList.toggle("comment--new", this.#firstShown);
        this.#rows.set(comment.id, row);
        added.push(comment);
      }
      row.show(comment, this.#mayDo(comment));
      if (row.element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.element, place);
    }
    if (this.#firstShown) this.#unheard.push(...added.filter(({ authorId }) => authorId !== this.#user.id));
    return added;
  }

  #mayDo({ authorId }) {
    const own = authorId === this.#user.id;
    return { edit: own, delete: own || this.#item?.owner === this.#user.id };
  }

  #remove(id, element) {
    if (element.contains(document.activeElement)) {
      const neighbour = element.nextElementSibling ?? element.previousElementSibling;
      (neighbour ?? this.#heading).focus();
    }
    element.remove();
    this.#rows.delete(id);
  }

  #actions = {
    edit: async (id, text) => {
      const answered = this.#feed.comments.edit(id);
      answered(await api.editComment(id, text));
      this.#show();
      announce("Comment saved.");
    },
    delete: async (id) => {
      try {
        await api.deleteComment(id);
      } catch (problem) {
        if (problem.status !== 404) throw problem; // someone was quicker: gone is gone
      }
      this.#feed.comments.deleted({ comment_id: id });
      this.#show();
      announce("Comment deleted.");
    },
  };

  #makeComposer() {
    const control = h("textarea", { rows: 1, name: "text", dir: "auto" });
    const text = new Field("Add a comment", control, { hint: "Ctrl or ⌘ with Enter sends it." });
    const draft = `draft:${this.#user.id}:${this.#id}`;
    control.value = sessionStorage.getItem(draft) ?? "";
    let key = freshKey();
    control.addEventListener("input", () => {
      key = freshKey(); // another text is another comment
      sessionStorage.setItem(draft, control.value);
    });
    const element = form({
      fields: { text },
      buttons: [h("button", { class: "button button--main" }, "Comment")],
      attributes: { class: "composer" },
      submit: async () => {
        control.readOnly = true;
        try {
          const row = await api.addComment(this.#id, control.value, key);
          this.#feed.comments.answeredPost(row);
        } finally {
          control.readOnly = false;
        }
        key = freshKey();
        control.value = "";
        sessionStorage.removeItem(draft);
        control.focus();
        this.#show();
      },
    });
    onKeys(element, { submit: () => element.requestSubmit() });
    return { element };
  }

  #showRefusal(problem) {
    clearTimeout(this.#timer); // an answer would name what is said not to be open
    this.#list.hidden = true;
    this.#composer.element.hidden = true;
    this.#parts.hidden = true;
    this.#page.seen.look(null);
    this.#unseen.hidden = true;
    const [title, advice] = REFUSALS[problem.status] ?? ["This does not work", problem.message];
    say(this.#heading, title);
    this.#notes.replaceChildren();
    document.title = `${title} · Tickertape`;
    const back = h("a", { class: "button", href: "/" }, "To the items");
    this.#state.replaceChildren(h("div", { class: "fault", role: "alert" }, h("p", {}, advice), back));
  }

  #speak() {
    if (this.#feed.state !== LIVE || this.#unheard.length === 0) return;
    const heard = this.#unheard.splice(0);
    if (heard.length > 2) announce(`${heard.length} new comments.`);
    else announce(heard.map(({ authorName, text }) => `${authorName}: ${text.slice(0, SPOKEN_CHARACTERS)}`).join("\n"));
  }

  get #nearEnd() {
    const page = document.documentElement;
    return page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_END_PX;
  }

  #toEnd() {
    window.scrollTo({ top: document.documentElement.scrollHeight });
    this.#seen();
  }

  /** Tell of what was added out of sight, as long as it is there. */
  #notSeen(added, comments) {
    for (const { id } of added) this.#unseenIds.add(id);
    const there = comments.filter(({ id }) => this.#unseenIds.has(id)).length;
    this.#unseen.textContent = there === 1 ? "1 new comment ↓" : `${there} new comments ↓`;
    this.#unseen.hidden = there === 0;
  }

  #seen() {
    this.#unseenIds.clear();
    this.#unseen.hidden = true;
  }
}

function skeleton() {
  return h(
    "div",
    { class: "skeleton", role: "status" },
    h("span", { class: "sr-only" }, "Loading the comments…"),
    [60, 85, 40].map((width) => h("span", { class: `skeleton__line skeleton__line--${width}`, "aria-hidden": "true" })),
  );
}

function blank() {
  return h(
    "div",
    { class: "blank" },
    h("p", { class: "blank__line" }, "The tape is still blank."),
    h("p", {}, "Say the first thing; everyone who has this open sees it at once."),
  );
}

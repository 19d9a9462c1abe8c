/** One comment on the tape: its text, and to those who may, editing and deleting it. */

import { Field, form, h, say } from "./dom.js";
import { mark } from "./mark.js";
import { ago, showAgo } from "./time.js";

// More than this would push everything else off the screen.
const LONG_CHARACTERS = 1_500;
const LONG_LINES = 16;

export class CommentRow {
  #comment;
  #may;
  #actions;
  #text = h("div", { class: "comment__text", dir: "auto" });
  #more = h("button", { class: "comment__more", type: "button", onclick: () => this.#showAll() }, "Show all of it");
  #edited = null;
  #head;
  #foot = h("div", { class: "comment__foot" });

  /** `actions` has `edit(id, text)` and `delete(id)`, which return promises. */
  constructor(comment, actions) {
    this.#actions = actions;
    this.#head = h(
      "header",
      { class: "comment__head" },
      h("bdi", { class: "comment__author" }, comment.authorName),
      ago(comment.createdAt),
    );
    this.element = h(
      "li",
      { class: "comment", "data-id": comment.id, tabindex: "-1" },
      mark(comment.authorName),
      h("article", { class: "comment__body" }, this.#head, this.#text, this.#foot),
    );
  }

  /** Show the comment's present text, and the buttons for what the user may do. */
  show(comment, may) {
    if (comment === this.#comment && may.edit === this.#may.edit && may.delete === this.#may.delete) return;
    const changed = comment.text !== this.#comment?.text;
    this.#comment = comment;
    this.#may = may;
    say(this.#text, comment.text);
    if (changed) this.#fold();
    this.#showEdited();
    if (!this.#busy) this.#showButtons();
  }

  get #busy() {
    return this.#foot.contains(document.activeElement) || this.#foot.querySelector("form, .confirm") !== null;
  }

  #showEdited() {
    const { editedAt } = this.#comment;
    if (!editedAt) return;
    if (this.#edited) {
      showAgo(this.#edited, editedAt, edited);
      return;
    }
    this.#edited = ago(editedAt, edited);
    this.#head.append(this.#edited);
  }

  #fold() {
    const { text } = this.#comment;
    const long = text.length > LONG_CHARACTERS || text.split("\n", LONG_LINES + 1).length > LONG_LINES;
    this.#text.classList.toggle("comment__text--folded", long);
    if (long) this.#text.after(this.#more);
    else this.#more.remove();
  }

  #showAll() {
    this.#text.classList.remove("comment__text--folded");
    this.#more.remove();
    this.element.focus({ preventScroll: true });
  }

  #showButtons(focused = "") {
    const which = this.#excerpt();
    const button = (label, name, onclick) =>
      h("button", { class: "link", type: "button", "data-do": name, "aria-label": `${label} ${which}`, onclick }, label);
    this.element.classList.remove("comment--editing");
    this.#foot.replaceChildren(
      ...[
        this.#may.edit && button("Edit", "edit", () => this.#startEditing()),
        this.#may.delete && button("Delete", "delete", () => this.#confirm()),
      ].filter(Boolean),
    );
    if (focused) this.#foot.querySelector(`[data-do="${focused}"]`)?.focus();
  }

  #excerpt() {
    const words = this.#comment.text.trim().replace(/\s+/g, " ");
    return `“${words.length > 40 ? `${words.slice(0, 40)}…` : words}”`;
  }

  #startEditing() {
    const control = h("textarea", { rows: 2, dir: "auto" });
    control.value = this.#comment.text;
    const field = new Field("Edit your comment", control);
    const cancel = () => this.#showButtons("edit");
    const element = form({
      fields: { text: field },
      buttons: [
        h("button", { class: "button button--main" }, "Save"),
        h("button", { class: "button", type: "button", onclick: cancel }, "Cancel"),
      ],
      attributes: { class: "comment__form" },
      submit: async () => {
        if (control.value !== this.#comment.text) await this.#actions.edit(this.#comment.id, control.value);
        this.#showButtons("edit");
      },
    });
    onKeys(element, { cancel, submit: () => element.requestSubmit() });
    this.element.classList.add("comment--editing");
    this.#foot.replaceChildren(element);
    control.focus();
    control.setSelectionRange(control.value.length, control.value.length);
  }

  #confirm() {
    const fault = h("p", { class: "form__fault", role: "alert", hidden: true });
    const keep = () => this.#showButtons("delete");
    const remove = h(
      "button",
      {
        class: "button button--danger",
        type: "button",
        onclick: async () => {
          if (question.ariaBusy === "true") return;
          question.ariaBusy = "true"; // and not `disabled`, which would lose the focus
          try {
            await this.#actions.delete(this.#comment.id);
          } catch (problem) {
            fault.textContent = problem.message;
            fault.hidden = false;
          }
          question.ariaBusy = "false";
        },
      },
      "Delete",
    );
    const question = h(
      "div",
      { class: "confirm", role: "group", "aria-label": `Delete ${this.#excerpt()}?` },
      h("span", {}, "Delete this comment for everyone?"),
      remove,
      h("button", { class: "button", type: "button", onclick: keep }, "Keep it"),
      fault,
    );
    onKeys(question, { cancel: keep });
    this.#foot.replaceChildren(question);
    remove.focus();
  }
}

const edited = (relative) => `edited ${relative}`;

/** Let Escape cancel, and Ctrl or ⌘ with Enter submit. */
export function onKeys(element, { cancel, submit }) {
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && cancel) {
      event.stopPropagation();
      cancel();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit) {
      event.preventDefault();
      submit();
    }
  });
}

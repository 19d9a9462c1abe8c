/** A panel under a button of the bar: not modal, closed by Escape, its button or a click elsewhere. */

import { freshId, h } from "./dom.js";

export class Panel {
  element;
  button;

  #body;
  #heading;

  /** `opened` and `closed` are called when it was; `tools` stand beside its heading. */
  constructor({ name, title, button, tools = [], opened = () => {}, closed = () => {} }) {
    const id = freshId(name);
    const heading = (this.#heading = h("h2", { id: `${id}-heading`, class: "drop__heading", tabindex: "-1", autofocus: true }, title));
    this.#body = h("div", { class: "drop__body" });
    // A popover: the browser keeps the focus right, and takes Escape and clicks elsewhere.
    this.element = h(
      "div",
      { id, class: `drop drop--${name}`, popover: "auto", role: "dialog", "aria-labelledby": heading.id },
      h(
        "header",
        { class: "drop__head" },
        heading,
        h("div", { class: "drop__tools" }, tools),
        h(
          "button",
          { class: "drop__close", type: "button", popovertarget: id, popovertargetaction: "hide", "aria-label": "Close" },
          "×",
        ),
      ),
      this.#body,
    );
    this.button = button;
    button.setAttribute("popovertarget", id);
    button.setAttribute("aria-haspopup", "dialog");
    this.element.addEventListener("toggle", ({ newState }) => (newState === "open" ? opened() : closed()));
  }

  /** Whether it is open. */
  get open() {
    return this.element.matches(":popover-open");
  }

  /** Show other content in it. */
  show(...content) {
    this.#body.replaceChildren(...content);
  }

  /** Focus its heading, for want of something better. */
  focus() {
    this.#heading.focus();
  }

  /** Close it; the focus goes back to where it was. */
  close() {
    if (this.open) this.element.hidePopover();
  }
}

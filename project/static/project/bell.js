/** The bell: how many notifications are unread, and the panel that lists them. */

import { announce, h, svg } from "./dom.js";
import { Inbox } from "./inbox.js";
import { Panel } from "./panel.js";
import { ago } from "./time.js";

export class Bell {
  #inbox;
  #panel;
  #badge = h("span", { class: "badge", "aria-hidden": "true", hidden: true });
  #button = h("button", { class: "bar__button bell", type: "button" }, icon(), this.#badge);

  /** `element` goes into the bar. */
  constructor({ wire }) {
    this.#panel = new Panel({ name: "bell", title: "Notifications", button: this.#button });
    this.element = h("div", { class: "bar__part" }, this.#button, this.#panel.element);
    this.#inbox = new Inbox(wire, {
      changed: () => this.#show(),
      raised: ({ message }) => announce(message),
    });
    this.#show();
  }

  #show() {
    const unread = this.#inbox.countless ? "99+" : this.#inbox.unread().length;
    this.#badge.textContent = unread;
    this.#badge.hidden = !this.#inbox.part.loaded || unread === 0;
    this.#button.setAttribute("aria-label", `Notifications, ${unread} unread`);
    const rows = this.#inbox.list().map((row) => h("li", { class: "note" }, row.message, ago(row.at)));
    this.#panel.show(h("ul", { class: "notes", role: "list" }, rows));
  }
}

const icon = () =>
  svg(
    "svg",
    { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: "M12 3a6 6 0 0 0-6 6v4l-2 4h16l-2-4V9a6 6 0 0 0-6-6z" }),
    svg("path", { d: "M10 20a2 2 0 0 0 4 0" }),
  );

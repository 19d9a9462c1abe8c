/** Watch and mute: how one follows the item that is open, the same in every tab. */

import { api } from "./api.js";
import { announce, h } from "./dom.js";

export class Attention {
  #id;
  #part;
  #now = { watching: false, muted: false };
  #watch = toggle("Watch", () => this.#set("watch", !this.#now.watching));
  #mute = toggle("Mute", () => this.#set("mute", !this.#now.muted));
  #fault = h("span", { class: "form__fault", role: "alert" });

  constructor({ wire, user }, id) {
    this.#id = id;
    this.element = h("div", { class: "attention", hidden: true }, this.#fault, this.#watch, this.#mute);
    const on = (change) => (event) => event.item_id === id && this.#put(change);
    this.#part = wire.join({
      load: (signal) => api.attention(id, signal),
      take: ({ watching, muted }) => this.#put({ watching, muted }),
      events: {
        ItemWatched: on({ watching: true }),
        ItemUnwatched: on({ watching: false }),
        ItemMuted: on({ muted: true }),
        ItemUnmuted: on({ muted: false }),
        // Who comments watches the item, unless they decided otherwise: only the API knows.
        CommentAdded: ({ item_id, author_id }) =>
          item_id === id && author_id === user.id && !this.#now.watching && this.#part.reload(),
      },
      changed: () => this.#show(),
    });
  }

  /** Leave the wire. */
  stop() {
    this.#part.leave();
  }

  async #set(what, wanted) {
    this.#fault.textContent = "";
    try {
      await api.attend(this.#id, what, wanted);
    } catch (problem) {
      if (!problem.fields) throw problem;
      this.#fault.textContent = problem.message;
      return;
    }
    this.#put({ [what === "watch" ? "watching" : "muted"]: wanted });
    this.#show();
    announce(SAID[what][wanted]);
  }

  #put(changes) {
    this.#now = { ...this.#now, ...changes };
  }

  #show() {
    this.element.hidden = !this.#part.loaded || this.#part.problem !== null;
    this.#watch.setAttribute("aria-pressed", this.#now.watching);
    this.#mute.setAttribute("aria-pressed", this.#now.muted);
  }
}

const SAID = {
  watch: { true: "You watch this item.", false: "You do not watch this item." },
  mute: { true: "This item is muted.", false: "This item is not muted." },
};

const toggle = (name, onclick) =>
  h("button", { class: "toggle", type: "button", "aria-pressed": "false", onclick }, name);

/** The light: how the connection stands, and when the last event came. */

import { h, say } from "./dom.js";
import { CATCHING_UP, LIVE, LOADING, RECONNECTING, REFUSED } from "./wire.js";
import { ago, showAgo } from "./time.js";

const WORDS = {
  [LOADING]: "Connecting",
  [LIVE]: "Live",
  [CATCHING_UP]: "Catching up",
  [RECONNECTING]: "Reconnecting",
  [REFUSED]: "Closed",
};

export class Light {
  #word = h("span", { class: "light__word" });
  #detail = h("span", { class: "light__detail" });
  #when = h("span", { class: "light__when" }, "no event yet");
  #time = null;

  constructor() {
    this.element = h(
      "div",
      { class: "light" },
      h("span", { class: "light__lamp", "aria-hidden": "true" }),
      // Only the state is announced; the time beside it changes each second.
      h("span", { class: "light__state", role: "status" }, this.#word, this.#detail),
      this.#when,
    );
  }

  /** Show a feed's state. */
  show(feed) {
    this.element.dataset.state = feed.state;
    say(this.#word, WORDS[feed.state]);
    const missed = feed.state === CATCHING_UP && feed.missed ? `${feed.missed} missed` : "";
    say(this.#detail, feed.detail || missed);
    if (!feed.lastEventAt) return;
    if (this.#time) {
      showAgo(this.#time, feed.lastEventAt);
    } else {
      this.#time = ago(feed.lastEventAt);
      this.#when.replaceChildren(h("span", { class: "light__wide" }, "last "), "event ", this.#time);
    }
  }
}

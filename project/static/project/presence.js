/**
 * Who else has the item open: their marks, and a line that says it in words.
 *
 * Nothing is announced: people come and go, and who wants to know reads the line. Each frame says
 * all there is; while nobody knows, here or on the server, nothing is shown rather than what was.
 */

import { h, say } from "./dom.js";
import { mark } from "./mark.js";
import { RECONNECTING, REFUSED } from "./wire.js";

const MARKS = 4;
const NAMES = 2; // then a number

export class Presence {
  #user;
  #part;
  #users = [];
  #total = 0; // of the others, also those that are not named
  #shown = "";

  #marks = h("span", { class: "presence__marks", "aria-hidden": "true" });
  #words = h("span", { class: "presence__words" });
  element = h("p", { class: "presence", hidden: true }, this.#marks, this.#words);

  constructor({ wire, user }, itemId) {
    this.#user = user;
    this.#part = wire.join({
      channels: [`item:${itemId}`],
      events: { PresenceChanged: (event) => event.item_id === itemId && this.#take(event) },
      changed: () => this.#show(),
    });
  }

  /** Leave the item: its people are heard of no more. */
  stop() {
    this.#part.leave();
  }

  #take({ users, total }) {
    this.#users = users.filter(({ id }) => id !== this.#user.id);
    const counted = this.#users.length < users.length || users.length < total; // oneself, if not always by name
    this.#total = total === null ? 0 : total - (counted ? 1 : 0);
  }

  #show() {
    if ([RECONNECTING, REFUSED].includes(this.#part?.state)) this.#total = 0; // the next stream says it anew
    const words = this.#total ? sentence(this.#users, this.#total) : "";
    const shown = words && `${words} ${this.#users.map(({ id }) => id).join(" ")}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.element.hidden = !words;
    this.element.title = this.#users.map(({ username }) => username).join(", ");
    this.#marks.replaceChildren(...this.#users.slice(0, MARKS).map(({ username }) => mark(username)));
    say(this.#words, words);
  }
}

/** Say who else is here, in a few words. */
function sentence(users, total) {
  const names = users.slice(0, total <= NAMES + 1 ? total : NAMES).map(({ username }) => username);
  const more = total - names.length;
  if (more > 0) names.push(more === 1 ? "1 other" : `${more} others`);
  const last = names.pop();
  return `Also open by ${names.length ? `${names.join(", ")} and ${last}` : last}`;
}

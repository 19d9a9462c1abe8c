/**
 * Toasts: what admins say now, in the page's corner, until it expires, is recalled or dismissed.
 *
 * A dismissal is kept by the server, so it is one in every tab and on every device. What is critical is
 * said to screen readers at once and goes by its own button only; the rest goes by Escape, too.
 */

import { api } from "./api.js";
import { Expiry, SEVERITIES, broadcastFromApi, broadcastFromEvent, isOver, webAddress } from "./broadcasts.js";
import { h, say, svg } from "./dom.js";

const SHOWN = 3; // more at once hide the page; a button shows the rest

export class Toasts {
  element = h("section", { class: "toasts__list", "aria-label": "Announcements" });

  #toasts = new Map(); // id → Toast
  #wishes;
  #part;
  #expiry = new Expiry(() => this.#arrange());
  #more = h("button", { class: "toasts__more", type: "button", onclick: () => this.#showAll() });
  #all = false;
  #size = new ResizeObserver(([{ target }]) => tellHeight(target.offsetHeight));

  /** `place` is the part of the page that they are shown in. */
  constructor({ wire, wishes }, place) {
    this.#wishes = wishes;
    const anew = () => this.#part.reload();
    this.#part = wire.join({
      load: (signal) => api.activeBroadcasts(signal),
      take: ({ results }) => this.#take(results.map(broadcastFromApi)),
      events: {
        SystemAlert: (event) => this.#tell(broadcastFromEvent(event)),
        SystemAlertUpdated: (event) => this.#change(broadcastFromEvent(event)),
        SystemAlertRecalled: (event) => this.#remove(event.broadcast_id),
        SystemAlertDismissed: (event) => this.#remove(event.broadcast_id),
        SystemAlertUnread: anew, // and so dismissed no more
        PreferencesChanged: anew,
        ItemWatched: anew, // whoever watches an item may be whom one is for
        ItemUnwatched: anew,
        ItemMuted: anew,
        ItemUnmuted: anew,
      },
    });
    this.element.addEventListener("keydown", (event) => this.#pressed(event));
    place.replaceChildren(this.element);
    this.#size.observe(place);
  }

  stop() {
    this.#size.disconnect();
    tellHeight(0);
    this.#expiry.stop();
    this.element.remove();
  }

  /** Show just these: what is there already stays in its place, so that nobody hears it twice. */
  #take(said) {
    const ids = new Set(said.map(({ id }) => id));
    for (const id of this.#toasts.keys()) if (!ids.has(id)) this.#remove(id);
    for (const each of said.reverse()) this.#put(each);
    this.#arrange();
  }

  #tell(said) {
    const delivery = this.#wishes.delivery(said);
    if (delivery === undefined) return this.#part.reload(); // the server knows, and answers with what is to be shown
    if (delivery !== "live") return;
    this.#put(said);
    this.#arrange();
  }

  #change(said) {
    const there = this.#toasts.has(said.id);
    const delivery = this.#wishes.delivery(said);
    if (there && delivery === undefined) return this.#part.reload();
    if (there && delivery === "live") this.#put(said);
    else if (there) this.#remove(said.id);
    else if (said.severity === "critical" && this.#wishes.any) this.#part.reload(); // it may concern us now
    this.#arrange();
  }

  #put(said) {
    const there = this.#toasts.get(said.id);
    if (there && there.said.severity === said.severity) {
      there.show(said);
      return;
    }
    there?.element.remove(); // how loud it is said is decided when it comes
    const toast = new Toast(said, () => this.#dismiss(said.id));
    this.#toasts.set(said.id, toast);
    // The newest on top, but below what is critical; nothing else moves.
    const below = [...this.element.children].find((each) => said.severity === "critical" || !each.matches(CRITICAL));
    this.element.insertBefore(toast.element, below ?? null);
  }

  #remove(id) {
    const toast = this.#toasts.get(id);
    if (!toast) return;
    const focused = toast.element.contains(document.activeElement);
    const next = toast.element.nextElementSibling ?? toast.element.previousElementSibling;
    this.#toasts.delete(id);
    toast.element.remove();
    if (focused) (next?.querySelector("button") ?? document.getElementById("root")).focus({ preventScroll: true });
    this.#arrange();
  }

  /** Take off what is over, and show as many as there is room for. */
  #arrange() {
    for (const [id, { said }] of this.#toasts) if (isOver(said)) this.#remove(id);
    this.#expiry.wait([...this.#toasts.values()].map(({ said }) => said.expiresAt));
    const stack = [...this.element.querySelectorAll(".toast")];
    stack.forEach((each, index) => (each.hidden = !this.#all && index >= SHOWN && !each.matches(CRITICAL)));
    const hidden = stack.filter((each) => each.hidden).length;
    say(this.#more, `${hidden} more`);
    if (!hidden) this.#more.remove();
    else if (!this.#more.isConnected) this.element.append(this.#more);
  }

  #showAll() {
    this.#all = true;
    const first = this.element.querySelector(".toast[hidden] button");
    this.#arrange();
    first?.focus();
  }

  async #dismiss(id) {
    const toast = this.#toasts.get(id);
    if (toast.busy) return;
    toast.begin();
    try {
      await api.dismissBroadcast(id);
    } catch (problem) {
      if (!problem.fields) throw problem;
      if (problem.status !== 404) return toast.fail(problem.message);
    }
    this.#remove(id);
  }

  #pressed(event) {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    const at = event.target.closest(".toast");
    if (!at || at.matches(CRITICAL)) return;
    event.stopPropagation();
    const [id] = [...this.#toasts].find(([, { element }]) => element === at) ?? [];
    if (id) this.#dismiss(id);
  }
}

/** Let what sticks to the top of a small screen stand below them. */
const tellHeight = (pixels) => document.documentElement.style.setProperty("--toasts", `${pixels}px`);

const CRITICAL = '[data-severity="critical"]';

/** One of them. */
class Toast {
  busy = false;

  #title = h("h2", { class: "toast__title" });
  #message = h("p", { class: "toast__message" });
  #more = h("p", { class: "toast__more" });
  #fault = h("p", { class: "toast__fault", role: "alert", hidden: true });
  #close;

  constructor(said, dismiss) {
    const { severity } = said;
    this.#close = h("button", { class: "toast__close", type: "button", onclick: dismiss }, "×");
    this.element = h(
      "article",
      // The loudest way there is for what is critical, the end of a sentence for the rest.
      { class: "toast", "data-severity": severity, role: severity === "critical" ? "alert" : "status" },
      icon(severity),
      h(
        "div",
        { class: "toast__words" },
        h("p", { class: "toast__severity" }, SEVERITIES[severity] ?? severity),
        this.#title,
        this.#message,
        this.#more,
        this.#fault,
      ),
      this.#close,
    );
    this.show(said);
  }

  show(said) {
    this.said = said;
    say(this.#title, said.title);
    this.#title.hidden = !said.title;
    say(this.#message, said.message);
    this.#close.ariaLabel = `Dismiss “${said.title || said.message.slice(0, 60)}”`;
    const url = webAddress(said.link);
    this.#more.hidden = !url;
    if (url && this.#more.firstChild?.href !== url.href) {
      const attributes = { class: "toast__link", href: url.href, target: "_blank", rel: "noopener noreferrer" };
      this.#more.replaceChildren(h("a", { ...attributes, title: url.href }, "Read more"));
    }
  }

  /** Show that it is being dismissed. Not by `disabled`, which would take the focus away. */
  begin() {
    this.busy = true;
    this.#close.setAttribute("aria-disabled", "true");
    this.#fault.hidden = true;
  }

  /** Say why it was not. */
  fail(message) {
    this.busy = false;
    this.#close.removeAttribute("aria-disabled");
    this.#fault.textContent = message;
    this.#fault.hidden = false;
  }
}

const SIGNS = {
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v6M12 7.2v.1",
  warning: "M12 3.5 2.5 20h19zM12 10v4.5M12 17.2v.1",
  critical: "M8 2.5h8L21.5 8v8L16 21.5H8L2.5 16V8zM12 7.5v6M12 16.700v.1",
};

const icon = (severity) =>
  svg(
    "svg",
    { viewBox: "0 0 24 24", class: "toast__icon", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: SIGNS[severity] ?? SIGNS.info }),
  );

/** The list of items, with a form to add one. */

import { api, freshKey } from "./api.js";
import { Field, form, h, freshId } from "./dom.js";

export class ItemList {
  #user;
  #go;
  #items = [];
  #selected = null;
  #body = h("div", { class: "items__body" });
  #leaving = new AbortController();

  /** `go` navigates to a path. */
  constructor(user, go) {
    this.#user = user;
    this.#go = go;
    const adding = this.#makeForm();
    this.heading = h("h1", { class: "items__heading" }, "Items");
    this.element = h(
      "nav",
      { class: "items", "aria-label": "Items" },
      h("div", { class: "items__bar" }, this.heading, adding.button),
      adding.form,
      this.#body,
    );
    this.#body.append(h("p", { class: "quiet", role: "status" }, "Loading the items…"));
  }

  /** Load the list anew; what is shown stays until it is there. */
  async refresh() {
    try {
      ({ results: this.#items } = await api.items(this.#leaving.signal));
      this.#show();
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.#showFault(problem);
      if (!problem.fields) throw problem;
    }
  }

  /** Mark the item that is open, or none. */
  select(id) {
    this.#selected = id;
    for (const link of this.element.querySelectorAll("a[data-id]")) this.#markOpen(link);
  }

  /** Return the item as the list has it, or null. */
  find(id) {
    return this.#items.find((item) => item.id === id) ?? null;
  }

  /** Leave: a list that arrives later is not shown. */
  stop() {
    this.#leaving.abort();
  }

  #show() {
    if (this.#items.length === 0) {
      this.#body.replaceChildren(
        h("p", { class: "quiet" }, "Nothing here yet. Add the first item, and watch its comments come in."),
      );
      return;
    }
    const rows = this.#items.map((item) => {
      const notes = notesOf(item, this.#user).map((note) => h("span", { class: "tag" }, note));
      const link = h(
        "a",
        { href: `/items/${item.id}`, "data-id": item.id },
        h("span", { class: "items__title", dir: "auto" }, item.title),
        notes,
      );
      this.#markOpen(link);
      return h("li", {}, link);
    });
    const focused = this.#body.contains(document.activeElement) && document.activeElement.dataset.id;
    this.#body.replaceChildren(h("ul", { class: "items__list", role: "list" }, rows));
    if (focused) this.#body.querySelector(`a[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  #showFault(problem) {
    const again = h("button", { class: "button", type: "button", onclick: () => this.refresh() }, "Try again");
    const told = h("div", { class: "fault", role: "alert" }, h("p", {}, problem.message), again);
    if (this.#items.length) this.#body.prepend(told);
    else this.#body.replaceChildren(told);
  }

  #markOpen(link) {
    if (link.dataset.id === this.#selected) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }

  #makeForm() {
    const title = new Field("Title", h("input", { name: "title", autocomplete: "off", dir: "auto" }));
    const visibility = visibilityChoice();
    let key = freshKey();
    title.control.addEventListener("input", () => (key = freshKey()));
    const id = freshId("new-item");
    const button = h(
      "button",
      { class: "button", type: "button", "aria-expanded": "false", "aria-controls": id },
      "New item",
    );
    const open = (wanted) => {
      element.hidden = !wanted;
      title.clear();
      button.setAttribute("aria-expanded", String(wanted));
      (wanted ? title.control : button).focus();
    };
    const element = form({
      fields: { title, visibility },
      buttons: [
        h("button", { class: "button button--main" }, "Add item"),
        h("button", { class: "button", type: "button", onclick: () => open(false) }, "Cancel"),
      ],
      attributes: { id, class: "panel items__form", hidden: true, "aria-label": "New item" },
      submit: async () => {
        const item = await api.createItem({ title: title.control.value, visibility: visibility.value }, key);
        key = freshKey();
        element.reset();
        open(false);
        this.#items = [item, ...this.#items];
        this.#show();
        this.#go(`/items/${item.id}`);
        this.refresh(); // in the server's order
      },
    });
    button.addEventListener("click", () => open(element.hidden));
    element.addEventListener("keydown", (event) => event.key === "Escape" && open(false));
    return { button, form: element };
  }
}

/** Say what is special about an item, for this user. */
export function notesOf(item, user) {
  return [item.visibility === "members" && "members only", item.owner === user.id && "yours"].filter(Boolean);
}

/** Two radio buttons, with what `form` wants of a field. */
function visibilityChoice() {
  const fault = h("p", { class: "field__fault", hidden: true });
  const choice = (value, label, checked) => {
    const control = h("input", { type: "radio", name: "visibility", id: `visibility-${value}`, value, checked });
    return h("div", { class: "choice" }, control, h("label", { for: control.id }, label));
  };
  const element = h(
    "fieldset",
    { class: "field" },
    h("legend", {}, "Who may see it"),
    choice("public", "Everyone who is logged in", true),
    choice("members", "Only its members", false),
    fault,
  );
  return {
    element,
    get control() {
      return element.querySelector(":checked");
    },
    get value() {
      return this.control.value;
    },
    refuse(message) {
      fault.textContent = message;
      fault.hidden = false;
    },
    clear() {
      fault.hidden = true;
    },
  };
}

/**
 * Elements without HTML strings.
 *
 * Everything the page shows is made here, and text enters it as text nodes only: nothing that
 * a user typed is ever parsed. The page's Trusted Types policy makes the browser hold us to it.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `on…` properties listen, `class` and the rest are attributes, false ones are left out. */
export function h(tag, properties = {}, ...children) {
  return furnish(document.createElement(tag), properties, children);
}

/** Make an SVG element, in the same way. */
export function svg(tag, properties = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), properties, children);
}

function furnish(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Make an icon of lines, drawn in a square of 24; what it means must be said beside it. */
export function icon(...paths) {
  const drawn = paths.map((d) => svg("path", { d }));
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, drawn);
}

/** Set an element's text, and leave it alone where it is right: screen readers hear each change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let ids = 0;

/** Return an id that no other element of the page has. */
export function freshId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}

/** Move the focus to a view's heading, so that a keyboard goes on from there. */
export function focusHeading(heading) {
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

const SAID_MS = 5_000; // then who reads on through the page must not find it again
const polite = document.getElementById("announcer");

/** Have screen readers say a sentence when they are done with what they say now. */
export function announce(sentence) {
  const said = h("p", {}, sentence); // a new node: the same sentence twice is said twice
  polite.append(said);
  setTimeout(() => said.remove(), SAID_MS);
}

/** A labelled field with a place for what the server has against its value. */
export class Field {
  /** `control` is the input; `hint` a sentence that goes with it. */
  constructor(label, control, { hint = "" } = {}) {
    control.id ||= freshId("field");
    this.control = control;
    this.fault = h("p", { class: "field__fault", id: `${control.id}-fault`, hidden: true });
    this.hint = hint && h("p", { class: "field__hint", id: `${control.id}-hint` }, hint);
    this.element = h(
      "div",
      { class: "field" },
      h("label", { for: control.id }, label),
      control,
      this.hint || null,
      this.fault,
    );
    this.clear();
    control.addEventListener("input", () => this.clear());
  }

  /** Show why the value was refused. */
  refuse(message) {
    this.fault.textContent = message;
    this.fault.hidden = false;
    this.control.setAttribute("aria-invalid", "true");
    this.#describe(this.fault.id);
  }

  /** Take the refusal back. */
  clear() {
    this.fault.hidden = true;
    this.control.removeAttribute("aria-invalid");
    this.#describe(null);
  }

  #describe(fault) {
    const ids = [fault, this.hint && this.hint.id].filter(Boolean).join(" ");
    if (ids) this.control.setAttribute("aria-describedby", ids);
    else this.control.removeAttribute("aria-describedby");
  }
}

/**
 * Make a form of fields that says what the server said: beside the field, or above the buttons.
 *
 * `submit` returns a promise; until it settles the form is busy, so nothing is sent twice. A
 * problem's field errors go to the fields of the same name, the first of them gets the focus.
 */
export function form({ fields, buttons, submit, attributes = {} }) {
  const fault = h("p", { class: "form__fault", role: "alert", hidden: true });
  const element = h(
    "form",
    { novalidate: true, ...attributes },
    Object.values(fields).map((field) => field.element),
    fault,
    h("div", { class: "form__buttons" }, buttons),
  );
  let busy = false;
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    element.setAttribute("aria-busy", "true");
    fault.hidden = true;
    for (const field of Object.values(fields)) field.clear();
    try {
      await submit();
    } catch (problem) {
      const refused = Object.keys(fields).filter((name) => problem.fields?.has(name));
      for (const name of refused) fields[name].refuse(problem.fields.get(name));
      if (refused.length) {
        fields[refused[0]].control.focus();
      } else {
        fault.textContent = problem.message;
        fault.hidden = false;
      }
      if (!problem.fields) throw problem; // ours, not the server's: let the console have it
    } finally {
      busy = false;
      element.removeAttribute("aria-busy");
    }
  });
  return element;
}

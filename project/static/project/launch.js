/** What starts the demo's jobs: two buttons, a form for the one that fails by choice, and a text that is streamed. */

import { freshKey } from "./api.js";
import { Field, form, freshId, h } from "./dom.js";

const FAILURES = {
  never: "Not at all",
  error: "By an error, for good",
  once: "By an error, and is tried again",
  crash: "Its process is killed, and it is tried again",
  result: "By a result that is not JSON",
};

export class Launch {
  #start;
  #fault = h("p", { class: "form__fault", role: "alert", hidden: true });

  /** End the text that is streamed, and take it away. */
  end;

  /** `start(name, params, key)` asks for a job; sent again with its key, it is asked for once. */
  constructor(start) {
    this.#start = start;
    const slow = this.#makeSlow();
    const text = makeText();
    this.end = text.end;
    this.element = h(
      "section",
      { class: "launch", "aria-label": "Start a job" },
      h(
        "div",
        { class: "launch__row" },
        this.#button("Export comments", "export"),
        this.#button("Recount", "recount"),
        slow.button,
        text.button,
      ),
      this.#fault,
      slow.form,
      text.output,
    );
  }

  #button(label, name) {
    let key = freshKey();
    const element = h("button", { class: "button button--small", type: "button" }, label);
    element.addEventListener("click", async () => {
      if (element.getAttribute("aria-busy")) return;
      element.setAttribute("aria-busy", "true");
      this.#fault.hidden = true;
      try {
        await this.#start(name, {}, key);
        key = freshKey();
      } catch (problem) {
        this.#fault.textContent = problem.message;
        this.#fault.hidden = false;
        if (!problem.fields) throw problem;
      } finally {
        element.removeAttribute("aria-busy");
      }
    });
    return element;
  }

  #makeSlow() {
    const choices = Object.entries(FAILURES).map(([value, words]) => h("option", { value }, words));
    const fail = new Field("It fails", h("select", { name: "fail" }, choices));
    const seconds = new Field("Seconds", h("input", { name: "seconds", inputmode: "decimal", value: "10" }));
    const id = freshId("slow");
    const button = h(
      "button",
      { class: "button button--small", type: "button", "aria-expanded": "false", "aria-controls": id },
      "Slow job…",
    );
    const open = (wanted) => {
      element.hidden = !wanted;
      button.setAttribute("aria-expanded", String(wanted));
      (wanted ? fail.control : button).focus();
    };
    let key = freshKey();
    const element = form({
      fields: { fail, seconds },
      buttons: [h("button", { class: "button button--small button--main" }, "Start")],
      attributes: { id, class: "launch__slow", hidden: true, "aria-label": "Slow job" },
      submit: async () => {
        const params = { fail: fail.control.value, seconds: Number(seconds.control.value), steps: 20, at: 10 };
        if (!seconds.control.value.trim() || Number.isNaN(params.seconds)) {
          seconds.refuse("Type a number.");
          seconds.control.focus();
          return;
        }
        await this.#start("slow", params, key);
        key = freshKey();
        open(false);
      },
    });
    element.addEventListener("input", () => (key = freshKey())); // another job
    button.addEventListener("click", () => open(element.hidden));
    return { button, form: element };
  }
}

/** A button that has a view stream a text, token by token: `streams.stream`, no job and no log. */
function makeText() {
  const output = h("p", { class: "launch__text", hidden: true });
  const button = h("button", { class: "button button--small", type: "button" }, "Stream a text");
  let source = null;
  const close = () => {
    source?.close();
    source = null;
  };
  const end = () => {
    close();
    output.hidden = true;
  };
  button.addEventListener("click", () => {
    close();
    output.hidden = false;
    output.textContent = "";
    source = new EventSource("/demo/tokens/");
    source.onmessage = ({ data }) => output.append(data);
    source.addEventListener("usage", close);
    source.onerror = close; // it would begin anew
  });
  return { button, output, end };
}

/** A job's card: what it is, where it stands, how far it is, what came of it, and what can be done. */

import { h, say, svg } from "./dom.js";
import { fileOf, isOver, progressOf, resultOf, shareOf, stateOf, titleOf } from "./job.js";
import { ago, showAgo } from "./time.js";

// Not by colour alone: each state has a shape.
const SHAPES = {
  queued: "M8 4v4l2.500 2.500",
  running: "M6.500 5l4.500 3-4.500 3z",
  complete: "M4.500 8.500l2.300 2.300 4.700-5",
  failed: "M5.500 5.500l5 5m0-5l-5 5",
  cancelled: "M5 8h6",
};

const SENT_SHOWN = 5; // of what it sent, the latest

export class JobCard {
  #job;
  #title = h("h3", { class: "job__title" });
  #shape = svg("path", {});
  #state = h("span", {});
  #bar = h("progress", { class: "job__bar", max: 1 });
  #line = h("p", { class: "job__line" });
  #sent = h("ul", { class: "job__sent", role: "list", "aria-label": "What it sent", hidden: true });
  #lines = new Map(); // id → what was sent
  #fault = h("p", { class: "job__fault", role: "alert", hidden: true });
  #file = h("a", { class: "button button--small", download: true, hidden: true });
  #cancel = h("button", { class: "button button--small", type: "button" }, "Cancel");
  #again = h("button", { class: "button button--small", type: "button" }, "Again");
  #asked = false; // to stop
  #busy = false;
  #time;

  /** `actions` are `cancel(job)` and `again(job)`; both return promises. */
  constructor(job, actions) {
    this.#time = ago(job.createdAt);
    this.element = h(
      "li",
      { class: "job" },
      h(
        "div",
        { class: "job__head" },
        this.#title,
        h(
          "span",
          { class: "job__state" },
          svg(
            "svg",
            { class: "job__shape", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" },
            svg("circle", { cx: 8, cy: 8, r: 7 }),
            this.#shape,
          ),
          this.#state,
        ),
      ),
      this.#bar,
      this.#line,
      this.#sent,
      this.#fault,
      h("div", { class: "job__foot" }, this.#time, h("div", { class: "job__acts" }, this.#file, this.#again, this.#cancel)),
    );
    this.#cancel.addEventListener("click", () => {
      if (this.#asked || this.#job.stopping) return;
      this.#asked = true;
      this.#act(actions.cancel);
    });
    this.#again.addEventListener("click", () => this.#act(actions.again));
    this.show(job);
  }

  /** Show the job as it is now, touching only what differs. */
  show(job) {
    this.#job = job;
    const over = isOver(job);
    const stopping = (this.#asked || job.stopping) && !over;
    this.element.dataset.state = job.state;
    say(this.#title, titleOf(job));
    say(this.#state, stopping ? "Stopping" : stateOf(job));
    this.#shape.setAttribute("d", SHAPES[job.state]);
    this.#showBar(job, over);
    say(this.#line, lineOf(job));
    this.#line.hidden = !this.#line.textContent;
    this.#showSent(job.sent.slice(-SENT_SHOWN));
    showAgo(this.#time, job.endedAt ?? job.createdAt);
    this.#showFile(over ? fileOf(job) : null);
    const focused = this.element.contains(document.activeElement);
    this.#again.hidden = !over;
    this.#cancel.hidden = over;
    this.#cancel.setAttribute("aria-disabled", String(stopping)); // really disabled, it would lose the focus
    this.#name(this.#again, "Again");
    this.#name(this.#cancel, "Cancel");
    if (focused && over && document.activeElement !== this.#file) this.#again.focus(); // what had it is gone
  }

  #showBar(job, over) {
    const share = shareOf(job);
    this.#bar.hidden = over || (job.state === "queued" && share === null);
    this.#bar.setAttribute("aria-label", `${titleOf(job)}, progress`);
    if (share === null) this.#bar.removeAttribute("value");
    else this.#bar.value = share;
  }

  /** Add what is new, and take away what was followed by more. */
  #showSent(sent) {
    const held = new Set(sent.map(({ id }) => id));
    for (const [id, line] of this.#lines) {
      if (held.has(id)) continue;
      line.remove();
      this.#lines.delete(id);
    }
    for (const { id, text } of sent) {
      if (this.#lines.has(id)) continue;
      const line = h("li", {}, text);
      this.#lines.set(id, line);
      this.#sent.append(line);
    }
    this.#sent.hidden = sent.length === 0;
  }

  #showFile(file) {
    this.#file.hidden = !file;
    if (!file) return;
    this.#file.href = file.url;
    this.#file.title = file.name;
    say(this.#file, "Download");
    this.#file.setAttribute("aria-label", `Download ${file.name}`);
  }

  #name(button, word) {
    button.setAttribute("aria-label", `${word}: ${titleOf(this.#job)}`); // there are many of them
  }

  async #act(action) {
    if (this.#busy) return;
    this.#busy = true;
    this.#fault.hidden = true;
    this.show(this.#job);
    try {
      await action(this.#job);
    } catch (problem) {
      this.#asked = false;
      this.#fault.textContent = problem.message;
      this.#fault.hidden = false;
      if (!problem.fields) throw problem; // ours, not the server's: let the console have it
    } finally {
      this.#busy = false;
      this.show(this.#job);
    }
  }
}

function lineOf(job) {
  if (job.state === "failed" || (job.state === "queued" && job.error)) return job.error ?? "";
  return job.state === "complete" ? resultOf(job) : isOver(job) ? "" : progressOf(job);
}

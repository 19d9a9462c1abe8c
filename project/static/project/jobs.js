/**
 * The user's jobs: how many are under way, and the panel that lists them and starts more.
 *
 * Their lives are on the user's own channel. A job's channel, which has its progress, is followed
 * for as long as the job is under way and no longer.
 */

import { api, freshKey } from "./api.js";
import { announce, h, icon, say } from "./dom.js";
import { after, fromApi, fromQueued, isOver, progressOf, titleOf, TYPES } from "./job.js";
import { JobCard } from "./jobcard.js";
import { Launch } from "./launch.js";
import { Panel } from "./panel.js";
import { LIVE, LOADING, RECONNECTING, REFUSED } from "./wire.js";

const BARS = ["M6 4.500h12a3 3 0 0 1 0 6H6a3 3 0 0 1 0-6zm0 9h12a3 3 0 0 1 0 6H6a3 3 0 0 1 0-6z", "M6.500 7.500h8m-8 9h3"];
const SOON_MS = 60_000; // in which who asks again means the same
const PAGE = 10;
const MOST_FOLLOWED = 20; // a stream takes 50 channels, and has others to carry
const SPOKEN_MS = 15_000; // between two words about a job's progress: it must not talk over the page

export class Jobs {
  #part;
  #panel;
  #badge = h("span", { class: "badge", "aria-hidden": "true", hidden: true });
  #button = h("button", { class: "bar__button", type: "button" }, icon(...BARS), this.#badge);
  #jobs = new Map(); // id → job
  #cards = new Map(); // id → JobCard
  #next = null; // the token of the page behind them
  #followed = "";
  #asked = new Map(); // id → what was asked to start it again, with its key, until that has succeeded
  #spokenAt = new Map(); // id → when its progress was said
  #note = h("p", { class: "quiet", role: "status" });
  #list = h("ul", { class: "jobs", role: "list" });
  #closed = () => {};
  #older = h("button", { class: "link jobs__older", type: "button", hidden: true }, "Older jobs");

  /** `element` goes into the bar. */
  constructor({ wire, demoJobs }) {
    const launch = demoJobs && new Launch((name, params, key) => this.#start(name, params, key));
    if (launch) this.#closed = launch.end;
    const closed = () => this.#closed();
    this.#panel = new Panel({ name: "jobs", title: "My jobs", button: this.#button, closed });
    this.element = h("div", { class: "bar__part" }, this.#button, this.#panel.element);
    this.#panel.show(launch ? launch.element : "", this.#note, this.#list, this.#older);
    this.#older.addEventListener("click", () => this.#showOlder());
    this.#part = wire.join({
      load: (signal) => load(signal),
      take: ({ page, sent }) => {
        const before = this.#jobs;
        this.#jobs = new Map();
        this.#append(page, before);
        for (const [id, event] of sent) this.#hear("JobSent", event, id);
      },
      events: {
        JobQueued: (event) => this.#add(fromQueued(event)),
        ...Object.fromEntries(TYPES.map((type) => [type, (event, id) => this.#hear(type, event, id)])),
      },
      changed: () => this.#show(),
    });
    this.#show();
  }

  /** Leave: nothing goes on in the panel any more. */
  stop() {
    this.#closed();
  }

  /** Open the panel, at a job where it is listed. */
  open(id) {
    this.#panel.element.showPopover();
    this.#cards.get(id)?.element.scrollIntoView({ block: "nearest" });
  }

  #append({ results, next }, before = this.#jobs) {
    for (const row of results) this.#jobs.set(row.id, fromApi(row, before.get(row.id)?.sent));
    this.#next = next;
  }

  #add(job) {
    if (this.#jobs.has(job.id)) return; // whatever we hold is as new
    this.#jobs = new Map([[job.id, job], ...this.#jobs]);
  }

  #hear(type, event, id) {
    const job = this.#jobs.get(event.job_id);
    if (!job) return; // behind what is listed, or of another program
    const changed = after(job, type, event, id);
    this.#jobs.set(job.id, changed);
    if (this.#part.state === LIVE && type !== "JobSent") this.#speak(job, changed);
  }

  /** Say what nobody else says: the bell tells of an end, the card of each step. */
  #speak(before, job) {
    const title = titleOf(job);
    if (job.state === "cancelled" && before.state !== "cancelled") announce(`${title}: cancelled.`);
    else if (job.state === "queued" && before.state === "running") announce(`${title}: it failed and is tried again.`);
    else if (job.state === "running" && this.#panel.open) {
      const last = this.#spokenAt.get(job.id) ?? job.createdAt.getTime();
      if (Date.now() - last < SPOKEN_MS) return;
      this.#spokenAt.set(job.id, Date.now());
      announce(`${title}: ${progressOf(job)}`);
    }
  }

  async #start(name, params, key) {
    this.#add(fromApi(await api.startJob(name, params, key)));
    this.#show();
    this.#list.firstElementChild?.scrollIntoView({ block: "nearest" });
    announce(`${titleOf({ name })}: started.`);
  }

  #actions = {
    cancel: async ({ id }) => {
      try {
        await api.cancelJob(id);
      } catch (problem) {
        if (problem.code !== "job_over") throw problem; // it was quicker, and the wire says so
      }
    },
    again: async ({ id, name, params }) => {
      // The very same, soon after: an answer that broke off may have been of a job that was started.
      if (!this.#asked.has(id)) {
        const asked = [name, params, freshKey()];
        this.#asked.set(id, asked);
        setTimeout(() => this.#asked.get(id) === asked && this.#asked.delete(id), SOON_MS); // not a later one
      }
      await this.#start(...this.#asked.get(id));
      this.#asked.delete(id);
    },
  };

  async #showOlder() {
    const asked = this.#next;
    try {
      await this.#part.fetch(
        () => api.jobs({ limit: PAGE, after: asked }),
        (page) => asked === this.#next && this.#append(page),
      );
    } catch (problem) {
      this.#note.textContent = problem.message;
      this.#note.hidden = false;
      if (!problem.fields) throw problem;
    }
  }

  #show() {
    const jobs = [...this.#jobs.values()];
    const active = jobs.filter((job) => !isOver(job));
    this.#follow(active);
    this.#badge.textContent = active.length;
    this.#badge.hidden = active.length === 0;
    const name = active.length ? `Jobs, ${active.length} under way` : "Jobs";
    if (this.#button.ariaLabel !== name) this.#button.ariaLabel = name;
    this.#reconcile(jobs);
    const note = this.#noteOf(jobs);
    say(this.#note, note);
    this.#note.hidden = !note;
    this.#older.hidden = this.#next === null;
  }

  #noteOf(jobs) {
    const { state, loaded, problem, detail } = this.#part ?? { state: LOADING };
    if (state === REFUSED) return problem?.message ?? detail;
    if (state === RECONNECTING) return "Reconnecting. What is here may be old.";
    if (!loaded) return "Loading your jobs…";
    return jobs.length ? "" : "You have asked for no job yet.";
  }

  #follow(active) {
    const channels = active.slice(0, MOST_FOLLOWED).map(({ id }) => `job:${id}`);
    const wanted = channels.join();
    if (!this.#part || wanted === this.#followed) return;
    this.#followed = wanted;
    this.#part.follow(channels);
  }

  /** Make the cards those of the jobs, touching only what differs. */
  #reconcile(jobs) {
    for (const [id, card] of this.#cards) {
      if (this.#jobs.has(id)) continue;
      card.element.remove();
      this.#cards.delete(id);
    }
    let place = this.#list.firstElementChild;
    for (const job of jobs) {
      let card = this.#cards.get(job.id);
      if (card) card.show(job);
      else this.#cards.set(job.id, (card = new JobCard(job, this.#actions)));
      if (card.element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(card.element, place);
    }
  }
}

/** Ask for the latest jobs, and for what they have sent so far; where that is refused, they are shown all the same. */
async function load(signal) {
  const page = await api.jobs({ limit: PAGE }, signal);
  const ids = page.results.map(({ id }) => id);
  const sent = ids.length ? await api.sentBy(ids, signal).catch(noneWhereRefused) : [];
  return { page, sent };
}

function noneWhereRefused(problem) {
  if (!problem.fields || problem.passing) throw problem; // else it would never be asked for again
  return [];
}

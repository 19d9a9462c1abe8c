/** Tells the server what a person has before them, so that its notifications are read: in every tab. */

const AGAIN_MS = 5_000; // after a try that failed

export class Seen {
  #inbox;
  #changed;
  #item = null; // the one that is open
  #asking = false;
  #told = false; // whether it was told since the item was opened
  #failed = false;
  #timer = null;
  #stopping = new AbortController();

  /** `changed` is called after what is `before` the person changed. */
  constructor(inbox, changed) {
    this.#inbox = inbox;
    this.#changed = changed;
    const { signal } = this.#stopping;
    document.addEventListener("visibilitychange", () => this.#again(), { signal });
  }

  /** Note which item is open, or null. */
  look(item) {
    this.#item = item;
    this.#told = false;
    this.#again();
  }

  /** Whether a notification's item is before the person: then it is as good as read. */
  before(row) {
    return row.itemId !== null && row.itemId === this.#item && visible() && !this.#failed;
  }

  /** Tell, if there is anything to be told: call it after each change of the inbox. */
  async check() {
    const item = this.#item;
    if (item === null || this.#asking || this.#failed || !visible() || !this.#inbox.part.loaded) return;
    // Of what is not held there may be some of this item: once is enough for that.
    const unheld = !this.#inbox.allHeld && !this.#told;
    if (!unheld && !this.#inbox.unread().some((row) => row.itemId === item)) return;
    this.#asking = this.#told = true;
    try {
      await this.#inbox.sawItem(item);
    } catch (problem) {
      if (!problem.fields) throw problem;
      this.#failed = true;
      if (problem.passing) this.#timer = setTimeout(() => this.#again(), AGAIN_MS);
    } finally {
      this.#asking = false;
    }
    if (this.#item !== item) this.check();
    this.#changed();
  }

  /** Leave: nothing is told any more. */
  stop() {
    this.#item = null;
    this.#stopping.abort();
    clearTimeout(this.#timer);
  }

  #again() {
    clearTimeout(this.#timer);
    this.#failed = false;
    this.check();
    this.#changed();
  }
}

const visible = () => document.visibilityState === "visible";

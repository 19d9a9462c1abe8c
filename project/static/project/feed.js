/** An item's comments on the wire: what `comments` holds is what the log says, or `state` says that it is not yet. */

import { api } from "./api.js";
import { Comments } from "./comments.js";

export class Feed {
  comments = new Comments();

  #part;

  /** Follow an item until `stop`; `changed` is called after each change of anything here. */
  constructor(wire, itemId, changed) {
    const { comments } = this;
    const ours = (handle) => (event) => event.item_id === itemId && handle(event);
    this.#part = wire.join({
      channels: [`item:${itemId}`],
      load: async (signal) => {
        const finish = comments.snapshot();
        const { results } = await api.comments(itemId, signal);
        return () => finish(results);
      },
      take: (finish) => finish(),
      events: {
        CommentAdded: ours((event) => comments.added(event)),
        CommentUpdated: ours((event) => comments.updated(event)),
        CommentDeleted: ours((event) => comments.deleted(event)),
      },
      ask: (signal) => api.item(itemId, signal),
      changed,
    });
  }

  get state() {
    return this.#part.state;
  }

  get detail() {
    return this.#part.detail;
  }

  get missed() {
    return this.#part.missed;
  }

  get lastEventAt() {
    return this.#part.lastEventAt;
  }

  get problem() {
    return this.#part.problem;
  }

  get loaded() {
    return this.#part.loaded;
  }

  /** Leave: nothing is called any more. */
  stop() {
    this.#part.leave();
  }
}

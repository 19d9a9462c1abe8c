/**
 * The comments of one item, folded from a snapshot, the item's events and the answers to our
 * own requests: each comment once, in the order of CommentAdded, with its last text.
 *
 * Three sources tell of the same facts, in any interleaving. The rules that keep them apart:
 *
 * - A snapshot has pages, each true at a cursor of its own, later pages at later ones. The
 *   events are applied from the cursor of the FIRST page, so what a later page already shows
 *   comes again: an addition of a known comment changes nothing (its text may be an older
 *   one; the edits that made it newer follow), and edits are applied in the log's order, so
 *   the last one stays.
 * - Nothing is applied while a snapshot loads; its pages cannot undo an event's delete.
 * - A comment's id is never used again: once deleted, neither a late answer nor a repeated
 *   addition brings it back. Only a newer snapshot may (a restored database).
 * - The answer to our POST can come before its event, and before the events of comments that
 *   were committed before it. So it is shown at once, but below all others, and takes its
 *   place when its own event comes.
 * - The answer to our PATCH counts only if no edit of that comment came meanwhile: that edit
 *   may be ours already, or a later one, and the stream brings whatever is missing.
 */
export class Comments {
  #placed = new Map(); // id → comment; a Map keeps the order of insertion, which is the log's
  #answered = new Map(); // id → our new comment, whose event has not come yet
  #deleted = new Set();
  #edits = new Map(); // id → edits seen
  #snapshots = 0;

  /** Return the comments as they are to be shown. */
  list() {
    return [...this.#placed.values(), ...this.#answered.values()];
  }

  /** Return the comment, or undefined. */
  get(id) {
    return this.#placed.get(id) ?? this.#answered.get(id);
  }

  /**
   * Begin a snapshot; call the returned function with its rows when all are there.
   *
   * What was answered before the snapshot began is in its rows, or was deleted since: it must
   * not stay on as a ghost that no event will ever remove.
   */
  snapshot() {
    const before = [...this.#answered.keys()];
    return (rows) => {
      this.#snapshots += 1;
      this.#placed = new Map(rows.map((row) => [row.id, fromApi(row)]));
      for (const id of before) this.#answered.delete(id);
      for (const id of this.#placed.keys()) {
        this.#answered.delete(id);
        this.#deleted.delete(id);
      }
    };
  }

  /** Apply CommentAdded. */
  added({ comment_id: id, item_id, author_id, author_name, text, timestamp }) {
    if (this.#placed.has(id) || this.#deleted.has(id)) return;
    const known = this.#answered.get(id);
    this.#answered.delete(id);
    const row = { id, item_id, author_id, author_name, text, created_at: timestamp, edited_at: null };
    this.#placed.set(id, known ?? fromApi(row));
  }

  /** Apply CommentUpdated. */
  updated({ comment_id: id, new_text: text, edited_at }) {
    this.#edits.set(id, this.#editsOf(id) + 1);
    this.#change(id, { text, editedAt: moment(edited_at) });
  }

  /** Apply CommentDeleted, or the answer to our DELETE: there is no way back, so both are final. */
  deleted({ comment_id: id }) {
    this.#deleted.add(id);
    this.#placed.delete(id);
    this.#answered.delete(id);
  }

  /** Take in the answer to our POST. */
  answeredPost(row) {
    if (this.get(row.id) || this.#deleted.has(row.id)) return;
    this.#answered.set(row.id, fromApi(row));
  }

  /** Begin an edit; call the returned function with the answer to our PATCH. */
  edit(id) {
    const [snapshots, edits] = [this.#snapshots, this.#editsOf(id)];
    return (row) => {
      if (snapshots !== this.#snapshots || edits !== this.#editsOf(id)) return;
      const { text, editedAt } = fromApi(row);
      this.#change(id, { text, editedAt });
    };
  }

  #editsOf(id) {
    return this.#edits.get(id) ?? 0;
  }

  #change(id, changes) {
    const where = this.#placed.has(id) ? this.#placed : this.#answered;
    if (where.has(id)) where.set(id, { ...where.get(id), ...changes });
  }
}

function fromApi(row) {
  return {
    id: row.id,
    authorId: row.author_id,
    authorName: row.author_name,
    text: row.text,
    createdAt: moment(row.created_at),
    editedAt: moment(row.edited_at),
  };
}

/** Return a Date: events count Unix seconds, the API writes ISO 8601. */
function moment(time) {
  if (time === null || time === undefined) return null;
  return new Date(typeof time === "number" ? time * 1000 : time);
}

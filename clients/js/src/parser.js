/** How a `text/event-stream` is read (WHATWG HTML, 9.2.6). */

/**
 * Takes bytes as they come and hands on each block that says something: `{ id, lastId, type, data }`. `id` is
 * the block's own, undefined where it has none; `lastId` the one to come back with; `data` is undefined for a
 * block without, which is no event but moves the place.
 */
export class Parser {
  lastId = "";
  retry = null; // milliseconds, once the server said so

  #hand;
  #decoder = new TextDecoder(); // it leaves out the BOM
  #text = ""; // of a line that has not ended
  #afterCR = false; // an LF that comes now ends no line
  #id; // of the block that has not ended
  #type;
  #data;

  constructor(hand) {
    this.#hand = hand;
  }

  /** Take the next bytes. */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (this.#afterCR && text) {
      if (text[0] === "\n") text = text.slice(1);
      this.#afterCR = false;
    }
    if (text.endsWith("\r")) this.#afterCR = true;
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#text + lines[0];
    this.#text = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (!line) return this.#end();
    const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line);
    if (name === "data") this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = +value;
  }

  #end() {
    const [id, type, data] = [this.#id, this.#type || "message", this.#data];
    this.#id = this.#type = this.#data = undefined;
    const lastId = (this.lastId = id ?? this.lastId);
    if (id !== undefined || data !== undefined) this.#hand({ id, lastId, type, data });
  }
}

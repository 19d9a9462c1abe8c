// npm's `eventsource`: keeps its place and comes back by itself, so every habit is `steady` here.
import { createInterface } from 'node:readline';
import { EventSource } from 'eventsource';

function say(name, kind, facts) {
  process.stdout.write(JSON.stringify({ c: name, t: Date.now() / 1000, k: kind, ...facts }) + '\n');
}

function take(client, event) {
  const data = JSON.parse(event.data);
  const token = (event.type === 'CommentAdded' ? data.text : data.token) ?? null;
  const transient = event.type === 'PresenceChanged';
  const facts = transient || event.type.startsWith('stream.') ? { data } : {};
  // A frame that has no id is given the last one (WHATWG HTML 9.2.6).
  const id = transient && event.lastEventId === client.last ? null : event.lastEventId || null;
  client.last = event.lastEventId;
  say(client.name, 'frame', { id, event: event.type, token, ...facts });
}

// It dispatches what it gets by name, and only to who asked for that name; here all are wanted.
class All extends EventSource {
  #client;

  constructor({ name, base, path, cookie }) {
    const client = { name, asked: null, last: '' };
    super(base + path, {
      fetch: (url, init) => {
        client.asked = init.headers['Last-Event-ID'] ?? null;
        return fetch(url, { ...init, headers: { ...init.headers, Cookie: cookie } });
      },
    });
    this.#client = client;
  }

  dispatchEvent(event) {
    const { name, asked } = this.#client;
    if (event.type === 'open') {
      say(name, 'connect', { last: asked });
    } else if (event.type === 'error') {
      const why = event.code ? `status ${event.code}` : event.message || 'closed';
      say(name, this.readyState === EventSource.CLOSED ? 'gaveup' : 'cut', { why });
    } else {
      take(this.#client, event);
    }
    return super.dispatchEvent(event);
  }
}

const sources = [];
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'stop') break;
  if (line !== 'settle') sources.push(...JSON.parse(line).clients.map((client) => new All(client)));
}
sources.forEach((source) => source.close());
process.exit(0);

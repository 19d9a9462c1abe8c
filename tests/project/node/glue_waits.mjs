// Prints how long the generated glue waits while every answer is a refusal, and what it asks for then.
import { pathToFileURL } from 'node:url';

const { tickertape } = await import(pathToFileURL(process.argv[2]));
const [sources, waits, timers] = [[], [], []];
class Refused {
  static CLOSED = 2;
  readyState = 2;
  handlers = {};
  constructor(url) {
    this.url = url;
    sources.push(this);
  }
  addEventListener(name, handle) {
    this.handlers[name] = handle;
  }
  close() {}
}
let drawn = 1;
Math.random = () => drawn;
globalThis.setTimeout = (then, ms) => (waits.push(ms), timers.push(then));
const refuse = () => sources.at(-1).onerror?.();
const again = () => (refuse(), timers.pop()?.());

tickertape(
  { ports: { listen: { subscribe: (listen) => listen(['system']) }, received: { send() {} } } },
  { EventSource: Refused },
);
for (let n = 0; n < 7; n += 1) again();
drawn = 0.5;
again();
sources.at(-1).handlers['stream.open']?.({ data: '{}', lastEventId: 'é-1' });
again();
sources.at(-1).readyState = 0; // it comes back by itself
refuse();
console.log(JSON.stringify({ waits, urls: [sources[1]?.url, sources.at(-1).url] }));

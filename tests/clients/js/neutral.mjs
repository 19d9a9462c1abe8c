// npm's `eventsource` as its documentation has it; says all that it hands on, whatever its name.
import { EventSource } from 'eventsource';

const [url, headers] = process.argv.slice(2);
const more = JSON.parse(headers);

class All extends EventSource {
  dispatchEvent(event) {
    if (event.type !== 'open' && event.type !== 'error') {
      const { type, data, lastEventId: id } = event;
      process.stdout.write(JSON.stringify({ event: type, data, id }) + '\n');
    }
    return super.dispatchEvent(event);
  }
}

new All(url, { fetch: (asked, init) => fetch(asked, { ...init, headers: { ...init.headers, ...more } }) });

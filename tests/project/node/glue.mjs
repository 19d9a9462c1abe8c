// Runs the generated glue for an app that is none; prints what it is sent. It is told on stdin what is wanted.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [modules, glue, base, cookie] = process.argv.slice(2);
const { EventSource } = createRequire(modules + '/')('eventsource');
const { tickertape } = await import(pathToFileURL(glue));
class WithCookie extends EventSource {
  constructor(url) {
    super(url, { fetch: (to, init) => fetch(to, { ...init, headers: { ...init.headers, Cookie: cookie } }) });
  }
}
const subscribe = (listen) => createInterface({ input: process.stdin }).on('line', (line) => listen(JSON.parse(line)));
const send = ({ event, data }) => console.log(event, data.text ?? '');
tickertape({ ports: { listen: { subscribe }, received: { send } } }, { base, EventSource: WithCookie });

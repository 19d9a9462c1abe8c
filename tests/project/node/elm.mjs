// Runs an Elm program with the generated ports; prints what it says. Without a base, it is handed the
// messages that are given, one a line.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, program, ports, base, cookie] = process.argv.slice(2);
const require = createRequire(modules + '/');
const { EventSource } = require('eventsource');
const { tickertape } = await import(pathToFileURL(ports));
const { Elm } = require(program);
const app = Elm.Main.init();
const sources = [];
app.ports.said.subscribe((line) => {
  console.log(line);
  if (line === 'enough') sources.forEach((source) => source.close());
});
if (base) {
  class WithCookie extends EventSource {
    constructor(url) {
      super(url, { fetch: (to, init) => fetch(to, { ...init, headers: { ...init.headers, Cookie: cookie } }) });
      sources.push(this);
    }
  }
  tickertape(app, { base, EventSource: WithCookie });
} else {
  for (const line of readFileSync(0, 'utf8').split('\n').filter(Boolean)) app.ports.received.send(JSON.parse(line));
}

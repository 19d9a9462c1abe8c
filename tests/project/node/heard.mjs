// Runs the TypeScript client, compiled, on npm's eventsource; prints what its handlers are handed.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, client, base, cookie, item] = process.argv.slice(2);
const { EventSource } = createRequire(modules + '/')('eventsource');
globalThis.EventSource = class extends EventSource {
  constructor(url) {
    super(url, { fetch: (to, init) => fetch(to, { ...init, headers: { ...init.headers, Cookie: cookie } }) });
  }
};
const { eventSource, subscribeToItem } = await import(pathToFileURL(client));
const say = (...said) => console.log(JSON.stringify(said));
const stop = subscribeToItem(
  item,
  {
    'stream.open': (open) => say('open', open.mode),
    CommentAdded: (comment, { id }) => say('added', comment.text, id),
    CommentDeleted: (comment) => {
      say('deleted', comment.comment_id);
      stop();
    },
    each: ({ event }) => event.startsWith('Comment') && say('each', event),
  },
  eventSource(base),
);

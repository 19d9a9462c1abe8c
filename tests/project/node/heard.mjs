// Runs the TypeScript client, compiled, on the JavaScript client; prints what its handlers are handed.
import { pathToFileURL } from 'node:url';

const [client, url, cookie, item] = process.argv.slice(2);
const { connect, subscribeToItem } = await import(pathToFileURL(client));
const say = (...said) => console.log(JSON.stringify(said));
const connected = connect({ url, headers: { Cookie: cookie } });
const subscription = subscribeToItem(item, {
  CommentAdded: (comment, { id }) => say('added', comment.text, id),
  CommentDeleted: (comment) => {
    say('deleted', comment.comment_id);
    connected.close();
  },
  each: ({ type }) => type.startsWith('Comment') && say('each', type),
});
subscription.ready.then(() => say('ready'));

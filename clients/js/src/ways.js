/**
 * The ways to a stream. Each is called with where to go and whom to tell, and returns how to stop.
 *
 * - `at`: `url(path, query)`, `path` of the stream, `place`, `types`, `headers`, `method`, `body`,
 *   `credentials`, `wait` (seconds of one poll).
 * - `on.alive()`: something came, be it a heartbeat. `on.frame({ id, type, data })`: the server said it;
 *   without `type` only the place moves. `on.lost()`: it broke off, and the browser itself comes back.
 * - `on.end({ status, problem, retry })`: it is over; with a status, refused. `{ untold: true }`: refused, and
 *   the browser keeps to itself why.
 */

import { Parser } from "./parser.js";

const CONTROL = ["stream.open", "stream.live", "stream.reset", "stream.end"];

/** Read JSON; what is none is what it is. */
function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * The browser's own. It hands on only the types it was asked for; it hides heartbeats, `retry:` and the status
 * of a refusal; and a frame without an id is shown with the one before, which is how such a one is known.
 */
export function eventSource(at, on) {
  const source = new EventSource(at.url(at.path), { withCredentials: at.credentials === "include" });
  let seen;
  let open = false;
  for (const type of new Set([...CONTROL, ...at.types])) {
    source.addEventListener(type, ({ lastEventId, data }) => {
      const id = lastEventId === seen ? undefined : lastEventId;
      seen = lastEventId;
      open = true;
      on.alive();
      on.frame({ id, type, data: read(data) });
    });
  }
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      on.end({ untold: true });
    } else if (open) {
      open = false;
      on.lost(); // it knows its place better than we can see it, and when the server wants it back
    } else {
      source.close();
      on.end({});
    }
  };
  return () => source.close();
}

/** `fetch`, read as it comes: with headers, a body, heartbeats, `retry:`, and the status of a refusal. */
export function fetchStream(at, on) {
  return aborted(on, async (signal) => {
    const response = await ask(at, at.url(at.path), signal);
    const type = response.headers.get("Content-Type") ?? "";
    if (response.status !== 200 || !type.startsWith("text/event-stream")) return refusal(response);
    const parser = new Parser(({ id, type: name, data }) => {
      on.frame({ id, type: data === undefined ? data : name, data: read(data) });
    });
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return { retry: parser.retry };
      on.alive();
      parser.push(value);
    }
  });
}

/** A WebSocket: the same frames as JSON. A close code of 4000 and more has a refusal's status in it. */
export function webSocket(at, on) {
  const socket = new WebSocket(at.url("ws/streams/").replace(/^http/, "ws"));
  let problem;
  let retry;
  let open = false;
  socket.onmessage = ({ data: text }) => {
    const { id, event, data, retry: asked } = JSON.parse(text);
    retry = asked ?? retry;
    open = true;
    on.alive();
    if (event === "stream.error") problem = data;
    else on.frame({ id, type: event, data });
  };
  socket.onclose = ({ code }) => {
    on.end(code > 4000 ? { status: code - 4000, problem } : { retry, shut: !open });
  };
  return () => {
    socket.onmessage = socket.onclose = null;
    socket.close();
  };
}

/** Long-polling: one answer after the other, each made into the frames that a stream would have had. */
export function longPoll(at, on) {
  return aborted(on, async (signal) => {
    let { place } = at;
    let behind = true;
    for (let first = true; ; first = false) {
      const url = at.url("streams/poll/", { after: place, wait: behind ? 0 : at.wait, last_event_id: null });
      const response = await ask(at, url, signal);
      if (!response.ok) return refusal(response);
      const { events, cursor, reset } = await response.json();
      on.alive();
      if (first || reset) {
        const mode = reset ? "reset" : place ? "resumed" : "live";
        const from = (!reset && place) || cursor;
        on.frame({ id: from, type: "stream.open", data: { mode, cursor: from } });
        if (reset) on.frame({ id: cursor, type: "stream.reset", data: { reason: reset } });
      }
      for (const { id, event, data } of events) on.frame({ id, type: event, data });
      // What is not in the log is told by every answer: it does not say that there is more behind.
      const caughtUp = behind && !(place && events.some(({ id }) => id));
      on.frame({ id: cursor, type: caughtUp ? "stream.live" : undefined, data: {} });
      behind &&= !caughtUp;
      place = cursor;
    }
  });
}

function ask({ method, headers, body, credentials }, url, signal) {
  const all = { Accept: "text/event-stream, application/json", ...headers };
  return fetch(url, { method, body, credentials, signal, cache: "no-store", headers: all });
}

/** Ask for a stream and read only how the answer begins; return why it is refused, if it is. */
export async function probe(at) {
  const abort = new AbortController();
  const response = await ask(at, at.url(at.path), abort.signal);
  const found = response.ok ? {} : await refusal(response);
  abort.abort();
  return found;
}

/** Read why there is no stream. Only a problem refuses it: what else answers so stands in between, and will pass. */
async function refusal(response) {
  const retry = response.headers.get("Retry-After") * 1000;
  const ours = /^application\/problem\+json/.test(response.headers.get("Content-Type"));
  return { status: ours || response.ok ? response.status : null, problem: read(await response.text()), retry };
}

/** Run until it is over or stopped; return how to stop. */
function aborted(on, run) {
  const abort = new AbortController();
  run(abort.signal).then(
    (end) => on.end(end),
    (error) => on.end({ error }),
  );
  return () => abort.abort();
}

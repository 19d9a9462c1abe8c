/**
 * The HTTP API as a few calls: JSON in and out, every failure a Problem with words for a person.
 */

/** What went wrong with a request. `status` 0 means that no whole answer of ours came; `fields` maps names to messages. */
export class Problem extends Error {
  constructor({ status, code = "", detail, errors = [] }) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.code = code;
    this.fields = new Map(errors.map(({ field, message }) => [lastPart(field), sentence(message)]));
  }

  /** Whether the same request may well succeed later: no answer, too many, or a fault of the server's. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

// A schema's error may name a field by its way there: `body.text` is the field `text`.
const lastPart = (path) => path.split(".").at(-1);

const sentence = (words) => {
  const whole = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
};

/** Told of each 401 but the log-in form's own: the session is over. */
export const session = { over: () => {} };

// Read anew for each request: logging in, also in another tab, changes it.
function csrfToken() {
  const found = document.cookie.match(/(?:^|; )csrftoken=([^;]*)/);
  return found ? decodeURIComponent(found[1]) : "";
}

async function send(method, path, { body, signal, key } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRFToken"] = csrfToken();
  if (key) headers["Idempotency-Key"] = key;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      signal,
      credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    throw none(error, "The server cannot be reached. Check your connection and try again.");
  }
  if (!response.ok) throw await problemOf(response);
  try {
    return response.status === 204 ? null : await response.json();
  } catch (error) {
    throw none(error, "The server's answer broke off. Try again."); // what was asked may be done
  }
}

/** Return what to throw where there is no whole answer: a Problem, unless we gave up ourselves. */
const none = (error, detail) => (error.name === "AbortError" ? error : new Problem({ status: 0, detail }));

async function problemOf(response) {
  const ours = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  const told = await response.json().catch(() => ({})); // a proxy in between answers in HTML
  return new Problem({
    status: ours ? response.status : 0, // a proxy's 404 or a portal's 401 says nothing of what was asked for
    code: told.code,
    detail: sentence(told.detail || told.title || `The server answered with an error (${response.status})`),
    errors: told.errors,
  });
}

async function call(...request) {
  try {
    return await send(...request);
  } catch (error) {
    if (error.status === 401) session.over(error);
    throw error;
  }
}

/** Collect a whole list, page by page; the cursor is the first page's. */
async function all(path, signal) {
  const results = [];
  let cursor;
  let next = null;
  do {
    const after = next === null ? "" : `&after=${encodeURIComponent(next)}`;
    const page = await call("GET", `${path}?limit=100${after}`, { signal });
    results.push(...page.results);
    cursor ??= page.cursor;
    next = page.next;
  } while (next !== null && next !== undefined);
  return { results, cursor };
}

/**
 * Return a random key that makes a POST's repetition harmless.
 *
 * Not `crypto.randomUUID`, which plain http on a local network does not have.
 */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

const seg = encodeURIComponent;
const inbox = "/api/notifications";
const SENT_PAGES = 20; // of jobs' events: to find the latest behind them would take too long

export const api = {
  logIn: (username, password) => send("POST", "/api/session", { body: { username, password } }),
  logOut: () => send("DELETE", "/api/session"),
  items: (signal) => all("/api/items", signal),
  createItem: (item, key) => call("POST", "/api/items", { body: item, key }),
  item: (id, signal) => call("GET", `/api/items/${seg(id)}`, { signal }),
  comments: (id, signal) => all(`/api/items/${seg(id)}/comments`, signal),
  addComment: (id, text, key) => call("POST", `/api/items/${seg(id)}/comments`, { body: { text }, key }),
  editComment: (id, text) => call("PATCH", `/api/comments/${seg(id)}`, { body: { text } }),
  deleteComment: (id) => call("DELETE", `/api/comments/${seg(id)}`),
  unread: (signal) => call("GET", `${inbox}/count`, { signal }),
  notifications: (query, signal) => call("GET", `${inbox}?${new URLSearchParams(query)}`, { signal }),
  readAll: () => call("POST", `${inbox}/read-all`),
  /** `what` is read, unread or archive. */
  markNotification: (id, what) => call("POST", `${inbox}/${seg(id)}/${what}`),
  sawItem: (id) => call("POST", `/api/items/${seg(id)}/seen`),
  attention: (id, signal) => call("GET", `/api/items/${seg(id)}/watch`, { signal }),
  /** `what` is watch or mute. */
  attend: (id, what, wanted) => call(wanted ? "PUT" : "DELETE", `/api/items/${seg(id)}/${what}`),
  jobs: (query, signal) => call("GET", `/api/jobs?${new URLSearchParams(query)}`, { signal }),
  startJob: (name, params, key) => call("POST", `/api/jobs/${seg(name)}`, { body: params, key }),
  /** Return `[id, payload]` of all that some jobs sent so far, in its order; nothing where it is too much. */
  sentBy: async (ids, signal) => {
    const sent = [];
    let after = "earliest";
    for (let pages = 0; pages < SENT_PAGES; pages += 1) {
      const query = new URLSearchParams([...ids.map((id) => ["channel", `job:${id}`]), ["after", after], ["wait", 0]]);
      const { events, cursor } = await call("GET", `/streams/poll/?${query}`, { signal });
      for (const { id, event, data } of events) if (event === "JobSent") sent.push([id, data]);
      if (!events.some(({ id }) => id)) return sent; // what has none is how they stand, and comes each time
      after = cursor;
    }
    return []; // its beginning would be taken for the latest
  },
  cancelJob: (id) => call("DELETE", `/api/jobs/${seg(id)}`),
  activeBroadcasts: (signal) => call("GET", "/api/broadcasts/active", { signal }),
  dismissBroadcast: (id) => call("POST", `/api/broadcasts/${seg(id)}/dismiss`),
  preferences: (signal) => call("GET", "/api/preferences", { signal }),
  prefer: (preferences) => call("PUT", "/api/preferences", { body: preferences }),
};

/**
 * A job as its row and its events tell it, and the words for it.
 *
 * A job is a plain value; `after` returns what an event makes of it. It bears events that the row
 * knows already, as the wire wants it: what is over stays so, and an earlier try changes nothing.
 */

const OVER = ["complete", "failed", "cancelled"];

const TITLES = { export: "Export of comments", recount: "Recount", slow: "Slow job" };

const STATES = {
  queued: "Waiting",
  running: "Running",
  complete: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

// How the demo's jobs say what came of them.
const RESULTS = {
  export: ({ rows }) => counted(rows, "comment"),
  recount: ({ comments, items, not_in_rows: lost }) =>
    `${counted(comments, "comment")} in ${counted(items, "item")}; ${lost ? `${lost} are missing` : "log and rows agree"}`,
  slow: ({ steps, tries }) => `${counted(steps, "step")}${tries > 1 ? `, at try ${tries}` : ""}`,
};

const RESULT_CHARACTERS = 200;
const SENT_HELD = 100; // of what it sent, the latest: more than comes while it is loaded, to know it again

const counted = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;

/** Make a job of a row of the API's; what it `sent` comes by events only. */
export const fromApi = (row, sent = []) => ({
  id: row.id,
  name: row.name,
  params: row.params,
  state: row.state,
  tries: row.tries,
  progress: row.progress,
  result: row.result,
  error: row.error,
  stopping: row.stopping,
  file: row.file,
  sent,
  createdAt: new Date(row.created_at),
  startedAt: row.started_at ? new Date(row.started_at) : null,
  endedAt: row.ended_at ? new Date(row.ended_at) : null,
});

/** Make a job of the event that somebody asked for it. */
export const fromQueued = ({ job_id: id, task_type: name, params, timestamp }) => ({
  id,
  name,
  params,
  state: "queued",
  tries: 0,
  progress: null,
  result: null,
  error: null,
  stopping: false,
  file: null,
  sent: [],
  createdAt: new Date(timestamp * 1000),
  startedAt: null,
  endedAt: null,
});

/** Whether nothing will change it any more. */
export const isOver = ({ state }) => OVER.includes(state);

const begun = (job, { attempt, timestamp }) => ({
  ...job,
  state: "running",
  tries: attempt,
  progress: attempt > job.tries ? null : job.progress,
  stopping: attempt > job.tries ? false : job.stopping,
  startedAt: new Date(timestamp * 1000),
});

const ended = (job, state, at, more = {}) => ({ ...job, state, stopping: false, endedAt: at, ...more });

const fileUrl = ({ id }) => `/api/jobs/${id}/file`;

/** Add something that it sent, once. */
const withSent = (job, { event, data }, id) =>
  job.sent.some((each) => each.id === id)
    ? job
    : { ...job, sent: [...job.sent, { id, text: (event ? `${event}: ` : "") + inWords(data) }].slice(-SENT_HELD) };

const CHANGES = {
  JobStarted: (job, event) => (event.attempt < job.tries ? job : begun(job, event)),
  JobRetrying: (job, { attempt, error }) => (attempt < job.tries ? job : { ...job, state: "queued", error }),
  JobProgressed: (job, { done, total, message }) => ({ ...job, progress: { done, total, message } }),
  JobSent: withSent,
  // Told when a stream opens. It may be ahead of the events, which tell the rest in their order.
  JobState: (job, { progress, stopping }) => ({
    ...job,
    progress: progress ?? job.progress,
    stopping: job.stopping || Boolean(stopping),
  }),
  TaskComplete: (job, { result, duration_ms: ms }) =>
    ended(job, "complete", new Date((job.startedAt ?? new Date()).getTime() + ms), {
      result,
      error: null,
      file: result?.url === fileUrl(job) ? fileUrl(job) : null, // it was made just now
    }),
  JobFailed: (job, { error, timestamp }) => ended(job, "failed", new Date(timestamp * 1000), { error }),
  JobCancelled: (job, { timestamp }) => ended(job, "cancelled", new Date(timestamp * 1000)),
};

/** The types of events that change a job. */
export const TYPES = Object.keys(CHANGES);

/** Return what an event makes of a job; `id` is the event's. */
export const after = (job, type, event, id) =>
  isOver(job) && type !== "JobSent" ? job : CHANGES[type](job, event, id);

/** Say what kind of job it is. */
export const titleOf = ({ name }) => TITLES[name] ?? name;

/** Say where it stands. */
export function stateOf({ state, tries }) {
  if (state === "queued" && tries > 0) return "Trying again";
  return state === "running" && tries > 1 ? `Running, try ${tries}` : STATES[state];
}

/** Return how much of it is done, from 0 to 1; null where nobody knows. */
export function shareOf({ progress }) {
  if (!progress || !(progress.total > 0)) return null;
  return Math.min(1, Math.max(0, progress.done / progress.total));
}

/** Say how far it is. */
export function progressOf(job) {
  const { progress } = job;
  if (!progress) return "";
  const share = shareOf(job);
  const far = share === null ? `${progress.done} done` : `${Math.floor(share * 100)} %`;
  return progress.message ? `${far} · ${progress.message}` : far;
}

/** Say what came of it. */
export function resultOf(job) {
  const { name, result } = job;
  if (result === null || result === undefined) return "";
  const gone = result.url === fileUrl(job) && !job.file ? ". The file is no longer kept." : "";
  try {
    return RESULTS[name](result) + gone;
  } catch {
    return inWords(result) + gone; // of a job that the demo does not know
  }
}

/** Say something that a job's code made, as it is. */
function inWords(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > RESULT_CHARACTERS ? `${text.slice(0, RESULT_CHARACTERS)}…` : text;
}

/** Return the address and the name of the file that it made, or null where there is none, or none any more. */
export const fileOf = ({ file, result }) => (file ? { url: file, name: result?.file ?? "the file" } : null);

/** Broadcasts as the API and the events tell of them, in one shape; and when they expire. */

const LONGEST_MS = 2 ** 31 - 1; // that a timer takes; a longer wait is waited in parts

/** From the API, as active or in the inbox. */
export const broadcastFromApi = ({ id, title, message, severity, link, starts_at: starts, expires_at: expires }) => ({
  id,
  title,
  message,
  severity,
  link,
  startsAt: new Date(starts),
  expiresAt: expires && new Date(expires),
});

/** From SystemAlert and SystemAlertUpdated. */
export const broadcastFromEvent = ({ broadcast_id: id, starts_at: starts, expires_at: expires, ...said }) => ({
  id,
  title: said.title,
  message: said.message,
  severity: said.severity,
  link: said.link,
  startsAt: new Date(starts * 1000),
  expiresAt: expires === null ? null : new Date(expires * 1000),
});

export const SEVERITIES = { info: "Info", warning: "Warning", critical: "Critical" };

/** Calls `expired` when the next of some moments has come. */
export class Expiry {
  #timer = null;
  #expired;

  constructor(expired) {
    this.#expired = expired;
  }

  /** Wait for the first of some dates, in place of those before; null is never. */
  wait(dates) {
    this.stop();
    const next = Math.min(...dates.filter(Boolean).map(Number));
    if (next === Infinity) return;
    this.#timer = setTimeout(this.#expired, Math.min(Math.max(next - Date.now(), 0), LONGEST_MS));
  }

  stop() {
    clearTimeout(this.#timer);
  }
}

/** Whether a broadcast's time is over. */
export const isOver = ({ expiresAt }) => Boolean(expiresAt) && expiresAt <= new Date();

/** Return a link's URL if it leads into the web: what else a browser would run or open, nobody sent. */
export function webAddress(link) {
  try {
    const url = new URL(link);
    return ["http:", "https:"].includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

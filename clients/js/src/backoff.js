/** How long to wait before the next try. */

const FIRST_MS = 1_000;
const MOST_MS = 30_000;
const ASKED_MS = 60_000; // no server is waited for longer, whatever it says

/**
 * Return milliseconds: any up to a most that doubles with each failure, so that a crowd which was cut off
 * together comes back spread over the time (full jitter); but no sooner than the server asked for, within reason.
 */
export function pause(failures, asked, random = Math.random) {
  const least = Math.min(Math.max(asked || 0, 0), ASKED_MS); // NaN is a `Retry-After` that is a date
  if (least && !failures) return least; // it has jittered that itself
  return Math.max(least, random() * Math.min(MOST_MS, FIRST_MS * 2 ** failures));
}

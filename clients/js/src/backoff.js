/** How long to wait before the next try. */

const FIRST_MS = 1_000;
const MOST_MS = 30_000;

/**
 * Return milliseconds: any up to a most that doubles with each failure, so that a crowd which was cut off
 * together comes back spread over the time (full jitter); but no sooner than the server asked for.
 */
export function pause(failures, asked = null, random = Math.random) {
  if (asked && !failures) return asked; // it has jittered that itself
  return Math.max(asked, random() * Math.min(MOST_MS, FIRST_MS * 2 ** failures));
}

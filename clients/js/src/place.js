/**
 * Places on the tape: the ids of events, `<epoch>-<position>`.
 *
 * To begin a stream from one, and to go on from it, nothing is known of it. Only where several stand at places
 * of their own are two compared, as one stream has to do for all of them. Where they cannot be (they are of
 * different epochs, or of a form that is newer than this), nothing counts as heard.
 */

const FORM = /^(.*)-(\d+)$/;

/** Tell whether who stands at `place` has heard the event of this `id`. */
export function heard(id, place) {
  const [, epoch, position] = FORM.exec(id) ?? [];
  const [, other, reached] = FORM.exec(place) ?? [];
  return id === place || (epoch === other && +position <= +reached);
}

/** Tell whether an event's `id` is known to lie behind `place`, or on another tape. */
export const newer = (id, place) => FORM.test(id) && !heard(id, place);

/** Return the place to begin from so that nobody who stands at one of these misses anything; null for none. */
export function earliest(places) {
  return places.reduce((least, place) => (place && (!least || newer(least, place)) ? place : least), null);
}

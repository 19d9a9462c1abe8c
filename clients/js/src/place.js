/**
 * Places on the tape: the ids of events, `<epoch>-<position>`.
 *
 * To begin a stream from one, nothing need be known of it. Only to tell what was heard already are two
 * compared, and where they cannot be (they are of different epochs, or one is no id of an event), nothing
 * counts as heard: the server, asked to go on from there, says what is so.
 */

const FORM = /^(.*)-(\d+)$/;

/** Tell whether an event's `id` lies behind `place`, so that who stands there has not heard it. */
export function newer(id, place) {
  const [a, b] = [FORM.exec(id), FORM.exec(place)];
  return !!a && (a[1] !== b?.[1] || +a[2] > +b[2]);
}

/** Return the place to begin from so that nobody who stands at one of these misses anything; null for none. */
export function earliest(places) {
  return places.reduce((least, place) => (place && (!least || newer(least, place)) ? place : least), null);
}

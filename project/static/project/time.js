/** Times for people: how long ago, which stays right while it is looked at, and exactly when. */

import { h, say } from "./dom.js";

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });

const shown = new Map(); // <time> element → {date, words}

/** Make a <time> that says how long ago a date was, with the exact time as its title. */
export function ago(date, words = (text) => text) {
  const element = h("time", {});
  showAgo(element, date, words);
  return element;
}

/** Show another date in such a <time>. */
export function showAgo(element, date, words = (text) => text) {
  element.dateTime = date.toISOString();
  element.title = EXACT.format(date);
  shown.set(element, { date, words });
  say(element, words(relative(date)));
}

function relative(date) {
  const seconds = Math.round((Date.now() - date) / 1000);
  if (seconds < 5) return "just now"; // also where the server's clock is ahead of ours
  if (seconds < 60) return RELATIVE.format(-seconds, "second");
  if (seconds < 3600) return RELATIVE.format(-Math.floor(seconds / 60), "minute");
  if (seconds < 86_400) return RELATIVE.format(-Math.floor(seconds / 3600), "hour");
  if (seconds < 7 * 86_400) return RELATIVE.format(-Math.floor(seconds / 86_400), "day");
  return DAY.format(date);
}

setInterval(() => {
  for (const [element, { date, words }] of shown) {
    if (element.isConnected) say(element, words(relative(date)));
    else shown.delete(element); // its view is gone
  }
}, 1_000);

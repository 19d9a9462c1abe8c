/** Times for people: how long ago, which stays right while it is looked at, and exactly when. */

import { h, say } from "./dom.js";

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });

const shown = new Map(); // <time> element → {date, words, due}: what it shows, until when it is right

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
  refresh(element, { date, words });
}

function refresh(element, { date, words }) {
  say(element, words(relative(date)));
  const age = Date.now() - date;
  const rightFor = age < 60_000 ? 1_000 : age < 3_600_000 ? 15_000 : 300_000;
  shown.set(element, { date, words, due: Date.now() + rightFor });
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
  const now = Date.now();
  for (const [element, entry] of shown) {
    if (!element.isConnected) shown.delete(element); // its view is gone
    else if (entry.due <= now) refresh(element, entry);
  }
}, 1_000);

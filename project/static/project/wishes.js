/**
 * What the user wishes of broadcasts: which are shown at once, and which only go into the inbox.
 *
 * The server lists them by the same rule; here it is for those that come while the page is open.
 */

import { api } from "./api.js";

export class Wishes {
  #way; // undefined until it is known
  #quiet = null; // {start, end}, as HH:MM in the zone
  #zone = "UTC";

  constructor(wire) {
    wire.join({
      load: (signal) => api.preferences(signal),
      take: ({ types, quiet_hours: quiet, time_zone: zone }) => this.#become(types, quiet, zone),
      events: {
        PreferencesChanged: ({ types, quiet_start: start, quiet_end: end, time_zone: zone }) =>
          this.#become(types, start && end ? { start, end } : null, zone),
      },
    });
  }

  /** Whether some broadcasts are kept from the screen. */
  get any() {
    return this.#way !== "live" || this.#quiet !== null;
  }

  /** Return how one is told: `live`; `quiet` or `digest`, in the inbox only; null, not at all; undefined, not known yet. */
  delivery({ severity, startsAt }) {
    if (severity === "critical") return "live";
    if (this.#way === "off") return null;
    return this.#way === "live" && this.#isQuiet(startsAt) ? "quiet" : this.#way;
  }

  #become(types, quiet, zone) {
    this.#way = types.broadcast ?? "live";
    this.#quiet = quiet;
    this.#zone = zone;
  }

  /** Tell whether a moment is in the quiet hours, which may span midnight. */
  #isQuiet(date) {
    if (!this.#quiet) return false;
    const { start, end } = this.#quiet;
    const now = clock(this.#zone).format(date);
    return start < end ? start <= now && now < end : now >= start || now < end;
  }
}

function clock(timeZone) {
  const parts = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  try {
    return new Intl.DateTimeFormat("en-GB", { ...parts, timeZone });
  } catch {
    return new Intl.DateTimeFormat("en-GB", { ...parts, timeZone: "UTC" }); // this browser does not know it
  }
}

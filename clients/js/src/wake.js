/** When a tab sleeps, and what tells that its connection may have died. */

import { here, looked } from "./tools.js";

/**
 * Call `sleep` when nobody has looked at the tab for `after` milliseconds (null: never), or the browser puts
 * it away; `wake` when somebody looks again; `online` when the network is back. Return how to stop.
 */
export function watchSleep({ after, sleep, wake, online }) {
  const { document } = here;
  if (!document) return () => {};
  const stopping = new AbortController();
  let timer = null;
  const on = (target, type, then) => target.addEventListener(type, then, stopping);
  const shownOrHidden = () => {
    clearTimeout(timer);
    if (looked()) wake();
    else if (after !== null) timer = setTimeout(sleep, after);
  };
  on(document, "visibilitychange", shownOrHidden);
  on(document, "freeze", sleep);
  on(document, "resume", shownOrHidden);
  on(here, "pagehide", sleep); // closed, or kept for the way back
  on(here, "pageshow", (event) => event.persisted && wake());
  on(here, "online", online);
  shownOrHidden();
  return () => {
    clearTimeout(timer);
    stopping.abort();
  };
}

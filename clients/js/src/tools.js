/** What several modules need. */

export const here = globalThis;

/** Tell whether somebody looks at this tab; where there are no tabs, somebody does. */
export const looked = () => here.document?.visibilityState !== "hidden";

/** The statuses that would be the same again: of the client's faults all but 408, 425 and 429, which pass. */
export const REFUSED = /^4(?!08|25|29)/;

/** Return the address that paths are resolved against; the service may live under a path of its own. */
export function base(url = "/") {
  const found = new URL(url, here.location?.href);
  if (!found.pathname.endsWith("/")) found.pathname += "/";
  return found.href;
}

/** Call an app's function, if there is one; what it throws is its own affair, and is reported as such. */
export function safely(call, ...args) {
  try {
    call?.(...args);
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}

/**
 * What htmx keeps to itself: that a request failed. It is said in the part of the page that made the request, until
 * an answer takes the part's place.
 */

function words(xhr, advice) {
  if (!xhr.status) return `The server cannot be reached. ${advice}`;
  const ours = xhr.getResponseHeader("Content-Type")?.startsWith("application/problem+json");
  return ours ? JSON.parse(xhr.responseText).detail : `The server answered with an error (${xhr.status}). ${advice}`;
}

function say({ target, detail: { xhr } }) {
  const alert = target.querySelector("[role=alert][data-advice]");
  if (alert) alert.textContent = words(xhr, alert.dataset.advice);
}

document.addEventListener("htmx:sendError", say);
document.addEventListener("htmx:responseError", say);

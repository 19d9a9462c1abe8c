/**
 * The composer of broadcasts in Django's admin: shows what is typed as users will see it, asks how
 * many would get it, and tells the server the browser's time zone. Without it, the review says all.
 */

const ESTIMATE_MS = 300; // after the last key: each asks the database

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const known = /(?:^|; )tickertape_zone=/.test(document.cookie);
document.cookie = `tickertape_zone=${ZONE}; path=/admin/; max-age=31536000; samesite=lax`;

function compose(form) {
  const toast = form.querySelector(".toast");
  const part = (name) => toast.querySelector(`.toast__${name}`);
  const typed = (name) => form.elements[name]?.value ?? "";

  function preview() {
    const severity = typed("severity") || "info";
    toast.dataset.severity = severity;
    part("severity").textContent = severity[0].toUpperCase() + severity.slice(1);
    part("title").textContent = typed("title");
    part("title").hidden = !typed("title").trim();
    part("message").textContent = typed("message") || "…";
    const link = typed("link").trim();
    part("more").hidden = !link;
    // Only what the server would take is made a link, here too.
    if (/^https?:\/\//.test(link)) part("link").href = link;
    else part("link").removeAttribute("href");
  }

  /** Show of the fields that say whom only those of the chosen kind. */
  function choose() {
    const to = typed("to");
    for (const kind of ["groups", "users", "item"]) {
      const row = form.querySelector(`[data-field="${kind}"]`);
      if (row) row.hidden = kind !== to;
    }
  }

  const words = form.querySelector("#estimate");
  let asked = 0;
  let timer;

  async function estimate() {
    const number = ++asked;
    const asking = fetch(form.dataset.estimate, { method: "POST", body: new FormData(form) });
    const { words: said = "" } = await asking.then((answer) => (answer.ok ? answer.json() : {})).catch(() => ({}));
    if (number === asked && words.textContent !== said) words.textContent = said;
  }

  function changed(event) {
    preview();
    choose();
    if (words && (!event || ["to", "groups", "users", "item"].includes(event.target.name))) {
      clearTimeout(timer);
      timer = setTimeout(estimate, ESTIMATE_MS);
    }
  }

  // The server did not know the zone yet, and nothing was typed in another.
  const zone = form.elements.time_zone;
  if (!known && !typed("starts_at") && !typed("expires_at") && zone.value === "UTC") zone.value = ZONE;
  if (!zone.value) zone.value = "UTC";
  form.addEventListener("input", changed);
  changed();
}

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("compose");
  if (form) compose(form);
});

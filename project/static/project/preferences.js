/** How one wants to be told: a dialog over the page, with what the API knows of it. */

import { api } from "./api.js";
import { Field, announce, form, h } from "./dom.js";

const KINDS = {
  mention: "Somebody names you",
  reply: "An answer to a comment of yours",
  comment: "A comment on an item of yours",
  watch: "A comment on an item that you watch",
  job: "A job of yours ended",
  broadcast: "An admin speaks",
};

const WAYS = { live: "At once", digest: "In the inbox, and by mail once a day", off: "Not at all" };

const NIGHT = { start: "22:00", end: "07:00" };

/** Open the dialog; it loads by itself, and is gone when it is closed. */
export async function openPreferences() {
  const heading = h("h2", { id: "preferences-heading", tabindex: "-1", autofocus: true }, "Preferences");
  const body = h("div", {}, h("p", { class: "quiet", role: "status" }, "Loading…"));
  const close = h("button", { class: "drop__close", type: "button", "aria-label": "Close" }, "×");
  const head = h("header", { class: "drop__head" }, heading, close);
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": heading.id }, head, body);
  const leaving = new AbortController();
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  dialog.addEventListener("close", () => {
    leaving.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  await load();

  async function load() {
    try {
      body.replaceChildren(makeForm(await api.preferences(leaving.signal), () => dialog.close()));
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!problem.fields) throw problem;
      const again = h("button", { class: "button", type: "button", onclick: load }, "Try again");
      body.replaceChildren(h("div", { class: "fault", role: "alert" }, h("p", {}, problem.message), again));
    }
  }
}

function makeForm({ types, quiet_hours: quiet, time_zone: zone, presence }, close) {
  const kinds = Object.entries(types).map(([kind, way]) => [kind, new Field(KINDS[kind] ?? kind, choice(way))]);
  const start = new Field("From", h("input", { type: "time", value: quiet?.start ?? NIGHT.start }));
  const end = new Field("To", h("input", { type: "time", value: quiet?.end ?? NIGHT.end }));
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const timeZone = new Field(
    "Time zone",
    h("input", {
      value: quiet || zone !== "UTC" ? zone : here,
      list: "time-zones",
      autocomplete: "off",
      spellcheck: "false",
    }),
  );
  const wanted = h("input", { type: "checkbox", id: "quiet-hours", checked: quiet !== null });
  const hiding = h("input", {
    type: "checkbox",
    id: "hiding",
    checked: presence === "hidden",
    "aria-describedby": "hiding-hint",
  });
  const element = form({
    fields: { ...Object.fromEntries(kinds), start, end, time_zone: timeZone },
    buttons: [
      h("button", { class: "button button--main" }, "Save"),
      h("button", { class: "button", type: "button", onclick: close }, "Cancel"),
    ],
    attributes: { class: "dialog__form" },
    submit: async () => {
      if (wanted.checked && start.control.value === end.control.value) {
        end.refuse("Must differ from the start."); // the API's words for it are for programs
        end.control.focus();
        return;
      }
      await api.prefer({
        types: Object.fromEntries(kinds.map(([kind, field]) => [kind, field.control.value])),
        quiet_hours: wanted.checked ? { start: start.control.value, end: end.control.value } : null,
        time_zone: timeZone.control.value,
        presence: hiding.checked ? "hidden" : "shown",
      });
      close();
      announce("Preferences saved.");
    },
  });
  const hours = h("div", { class: "dialog__hours" }, start.element, end.element, timeZone.element);
  const show = () => (hours.hidden = !wanted.checked);
  wanted.addEventListener("change", show);
  show();
  element.prepend(
    h(
      "fieldset",
      { class: "dialog__group" },
      h("legend", {}, "Tell me"),
      kinds.map(([, field]) => field.element),
      h("p", { class: "field__hint" }, "What an admin calls critical is always told at once."),
    ),
    h(
      "fieldset",
      { class: "dialog__group" },
      h("legend", {}, "Quiet hours"),
      h("div", { class: "choice" }, wanted, h("label", { for: wanted.id }, "Do not disturb me at night: leave it in the inbox")),
      hours,
    ),
    h(
      "fieldset",
      { class: "dialog__group" },
      h("legend", {}, "Others"),
      h("div", { class: "choice" }, hiding, h("label", { for: hiding.id }, "Do not show others what I have open")),
      h("p", { class: "field__hint", id: "hiding-hint" }, "On any device. You still see who else has an item open."),
    ),
    h("datalist", { id: "time-zones" }, Intl.supportedValuesOf("timeZone").map((value) => h("option", { value }))),
  );
  return element;
}

function choice(way) {
  return h(
    "select",
    {},
    Object.entries(WAYS).map(([value, words]) => h("option", { value, selected: value === way }, words)),
  );
}

/** The log-in view: a form, and in demo mode a button for each demo user. */

import { api } from "./api.js";
import { Field, focusHeading, form, h } from "./dom.js";
import { mark, strip } from "./mark.js";

/** Show the view in `root`; `entered` is called with the user once logged in. */
export function showLogin(root, { demoUsers, notice = "", entered }) {
  const username = new Field(
    "User name",
    h("input", { name: "username", autocomplete: "username", autocapitalize: "none", spellcheck: "false" }),
  );
  const password = new Field(
    "Password",
    h("input", { name: "password", type: "password", autocomplete: "current-password" }),
  );
  const enter = async (name, secret) => entered((await api.logIn(name, secret)).user);
  const heading = h("h1", {}, "Log in");
  const element = form({
    fields: { username, password },
    buttons: [h("button", { class: "button button--main" }, "Log in")],
    attributes: { class: "panel login__form" },
    submit: async () => {
      if (!username.control.value.trim()) {
        username.refuse("Type your user name.");
        username.control.focus();
        return;
      }
      try {
        await enter(username.control.value, password.control.value);
      } catch (problem) {
        password.control.value = "";
        if (problem.status === 401) {
          password.refuse("This user name and password do not go together. Try again.");
          password.control.focus();
          return;
        }
        throw problem;
      }
    },
  });
  element.prepend(heading, ...(notice ? [h("p", { class: "login__notice", role: "status" }, notice)] : []));

  root.replaceChildren(
    h(
      "div",
      { class: "login" },
      strip("every comment  the moment it is made  nobody misses one"),
      h(
        "div",
        { class: "login__pitch" },
        h("p", { class: "login__line" }, "Every comment, the moment it is made."),
        h("p", {}, "And if your connection drops: everything you missed, in order, once."),
      ),
      demoUsers.length > 0 && demoPanel(demoUsers, enter),
      element,
    ),
  );
  document.title = "Log in · Tickertape";
  if (notice || !matchMedia("(pointer: fine)").matches) focusHeading(heading); // no keyboard over a phone's screen
  else username.control.focus();
}

function demoPanel(demoUsers, enter) {
  const fault = h("p", { class: "form__fault", role: "alert", hidden: true });
  return h(
    "section",
    { class: "login__demo", "aria-labelledby": "demo-heading" },
    h("h2", { id: "demo-heading" }, "Step in as"),
    h(
      "div",
      { class: "login__people" },
      demoUsers.map(({ username, password }) =>
        h(
          "button",
          {
            class: "person",
            type: "button",
            onclick: () =>
              enter(username, password).catch((problem) => {
                fault.textContent = problem.message;
                fault.hidden = false;
              }),
          },
          mark(username),
          username,
        ),
      ),
    ),
    fault,
  );
}

/** The page: who is logged in, which view the address means, and the bar above both. */

import { api, session } from "./api.js";
import { Bell } from "./bell.js";
import { focusHeading, h } from "./dom.js";
import { ItemView } from "./item.js";
import { ItemList } from "./items.js";
import { Jobs } from "./jobs.js";
import { showLogin } from "./login.js";
import { mark } from "./mark.js";
import { Toasts } from "./toasts.js";
import { Wire } from "./wire.js";
import { Wishes } from "./wishes.js";

const boot = JSON.parse(document.getElementById("boot").textContent);
const root = document.getElementById("root");
const barParts = document.getElementById("bar-parts");
const userBar = document.getElementById("user-bar");
const otherTabs = new BroadcastChannel("tickertape-session");

let user = boot.user;
let page = null; // what its parts share, while somebody is logged in
let list = null;
let open = null; // the ItemView

function itemOf(path) {
  return path.match(/^\/items\/([1-9][0-9]*)\/?$/)?.[1] ?? null;
}

/** Show the view that the address means. */
function show({ arriving = false } = {}) {
  open?.stop();
  open = null;
  if (!user) {
    showLogin(root, { demoUsers: boot.demo_users, entered });
    return;
  }
  const id = itemOf(location.pathname);
  document.body.dataset.view = id ? "item" : "items";
  if (!page) begin();
  if (!list) {
    list = new ItemList(user, go);
    root.replaceChildren(h("div", { class: "desk" }, list.element, h("div", { class: "desk__main" })));
    list.refresh();
  } else if (!id) {
    list.refresh(); // others may have added some
  }
  list.select(id);
  const place = root.querySelector(".desk__main");
  if (id) {
    open = new ItemView(id, page, list.find(id));
    place.replaceChildren(open.element);
    open.start();
  } else {
    document.title = "Items · Tickertape";
    place.replaceChildren(h("p", { class: "desk__hint" }, "Open an item to watch its tape."));
    if (!arriving) focusHeading(list.heading);
  }
  if (!arriving && !id) window.scrollTo({ top: 0 });
}

/** Make what stays for as long as the user does: the wire, and the parts of the bar that live on it. */
function begin() {
  const wire = new Wire();
  page = { wire, user, go, parts: [], demoJobs: boot.demo_jobs, wishes: new Wishes(wire) };
  page.jobs = new Jobs(page);
  const bell = new Bell(page);
  page.seen = bell.seen;
  page.parts.push(page.jobs, bell);
  barParts.replaceChildren(...page.parts.map((part) => part.element));
  page.parts.push(new Toasts(page, document.getElementById("toasts")));
}

function go(path) {
  history.pushState(null, "", path);
  show();
}

function entered(newUser) {
  user = newUser;
  otherTabs.postMessage(user.id);
  showUser();
  show();
}

/** Forget all that was this user's, and ask who comes next. */
function left(notice) {
  user = null;
  open?.stop();
  list?.stop();
  for (const part of page?.parts ?? []) part.stop();
  page?.wire.stop();
  open = list = page = null;
  barParts.replaceChildren();
  delete document.body.dataset.view;
  showUser();
  showLogin(root, { demoUsers: boot.demo_users, notice, entered });
}

async function logOut() {
  const fault = userBar.querySelector("[role=alert]");
  fault.textContent = "";
  try {
    await api.logOut();
  } catch (problem) {
    if (problem.status !== 401) {
      fault.textContent = problem.message;
      return;
    }
  }
  sessionStorage.clear(); // drafts are the user's
  otherTabs.postMessage(null);
  history.replaceState(null, "", "/");
  left("You are logged out.");
}

function showUser() {
  userBar.hidden = !user;
  if (!user) return;
  userBar.replaceChildren(
    h("span", { class: "bar__fault", role: "alert" }),
    h("span", { class: "bar__user" }, mark(user.username), h("bdi", {}, user.username)),
    h("button", { class: "link", type: "button", onclick: logOut }, "Log out"),
  );
}

session.over = () => user && left("Your session has ended. Log in to go on.");

// Another tab logged in or out: this one must not go on in the name of someone else.
otherTabs.onmessage = ({ data }) => data !== (user?.id ?? null) && location.reload();

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || link.origin !== location.origin || link.target) return;
  if (link.pathname !== "/" && !itemOf(link.pathname)) return; // the API's pages, the admin
  event.preventDefault();
  if (link.pathname !== location.pathname) go(link.pathname);
});
window.addEventListener("popstate", () => show());

showUser();
show({ arriving: true });

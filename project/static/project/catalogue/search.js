/** The catalogue's finder: shows the entries that hold every word that was typed. */

const finder = document.querySelector(".finder");
const input = document.getElementById("find");
const found = document.getElementById("found");
const entries = [...document.querySelectorAll(".entry")].map((element) => ({
  element,
  text: element.textContent.toLowerCase(),
}));

function show() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { element, text } of entries) {
    element.hidden = !words.every((word) => text.includes(word));
    shown += !element.hidden;
  }
  if (!words.length) found.textContent = "";
  else found.textContent = shown ? `${shown} of ${entries.length}` : "Nothing holds all of these words.";
}

/** Show an entry that a link leads to, whatever was searched for. */
function reveal() {
  const aim = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!aim?.hidden) return;
  input.value = "";
  show();
  aim.scrollIntoView();
}

finder.hidden = false;
input.addEventListener("input", show);
addEventListener("hashchange", reveal);
show(); // a browser that comes back to the page fills the field in
reveal();

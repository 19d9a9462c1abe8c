"""What a person sees and does in one browser tab."""

import re

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from tests.stack import eventually

# Chromium's own words for answers that are not 2xx, and for a network that is cut off.
_EXPECTED = ("Failed to load resource",)
# What screen readers are told is in the page for some seconds only.
_KEEP_SAID = """() => {
  window.said = [];
  const note = ({ target, addedNodes }) =>
    target.id === "announcer" && addedNodes.forEach((each) => window.said.push(each.textContent));
  const all = { childList: true, subtree: true };
  new MutationObserver((changes) => changes.forEach(note)).observe(document, all);
}"""


class Tab:
    """A browser tab with the page in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.add_init_script(f"({_KEEP_SAID})()")
        page.on("pageerror", lambda error: self.faults.append(f"{error.name}: {error.message}"))
        page.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        # Also where the page breaks its own security policy.
        if message.type in ("error", "warning") and not message.text.startswith(_EXPECTED):
            self.faults.append(message.text)

    def log_in(self, user: str) -> None:
        """Get a session without the form."""
        answer = self.page.request.post("/api/session", data={"username": user, "password": f"demo-{user}"})
        assert answer.ok, answer.text()

    # --- the open item -----------------------------------------------------------------------

    @property
    def comments(self) -> Locator:
        """The comments' texts."""
        return self.page.locator(".comment__text")

    def texts(self) -> list[str]:
        """Return the comments' texts as they are, white space and all."""
        return self.comments.evaluate_all("all => all.map(each => each.textContent)")

    def row(self, text: str) -> Locator:
        """Return the comment with a text."""
        return self.page.get_by_role("listitem").filter(has=self.page.get_by_text(text, exact=True))

    def comment(self, text: str) -> None:
        """Write a comment and send it."""
        self.page.get_by_label("Add a comment").fill(text)
        self.page.get_by_role("button", name="Comment", exact=True).click()

    def is_live(self) -> None:
        """Wait until the light says so."""
        self.shows_light("live")

    def shows_light(self, state: str, *, seconds: float = 20) -> None:
        """Wait for a state of the light."""
        expect(self.page.locator(".light")).to_have_attribute("data-state", state, timeout=seconds * 1000)

    def shows(self, *texts: str, seconds: float = 20) -> None:
        """Wait until exactly these comments are there, in this order."""
        expect(self.comments).to_have_text(list(texts), timeout=seconds * 1000)

    # --- what happened to the page ----------------------------------------------------------------

    def mark(self) -> None:
        """Leave a mark that a reload would wipe away, and note what the light says from now on."""
        self.page.evaluate(
            """() => {
              window.mark = "here since";
              const light = document.querySelector(".light");
              window.lights = [light.dataset.state];
              new MutationObserver(() => {
                if (window.lights.at(-1) !== light.dataset.state) window.lights.push(light.dataset.state);
              }).observe(light, { attributes: true });
            }"""
        )

    @property
    def not_reloaded(self) -> bool:
        """Whether the mark is still there."""
        return self.page.evaluate("window.mark") == "here since"

    @property
    def lights(self) -> list[str]:
        """What the light said since the mark."""
        return self.page.evaluate("window.lights")

    def said(self) -> str:
        """Return what screen readers were told since the page was loaded, a line each."""
        return str(self.page.evaluate("window.said.join('\\n')"))

    def says(self, words: str) -> None:
        """Wait until screen readers were told this, among others."""
        eventually(lambda: words in self.said())

    def focused(self) -> str:
        """Return the name of the focused element: its label, else its text."""
        return self.page.evaluate(
            """() => {
              const at = document.activeElement;
              return (at.ariaLabel || at.labels?.[0]?.textContent || at.textContent || at.tagName).trim();
            }"""
        )

    def tab_to(self, name: str, *, back: bool = False) -> None:
        """Press Tab until something of that name is focused."""
        for _ in range(60):
            self.page.keyboard.press("Shift+Tab" if back else "Tab")
            if self.focused().startswith(name):
                return
        raise AssertionError(f"the keyboard does not get to {name!r}")

    # --- the bell -----------------------------------------------------------------------------------

    @property
    def bell(self) -> Locator:
        """The bell's button."""
        return self.page.get_by_role("button", name="Notifications, ")

    def counts(self, unread: int | str, *, seconds: float = 20) -> None:
        """Wait until the bell says so, for ears and for eyes."""
        expect(self.bell).to_have_accessible_name(f"Notifications, {unread} unread", timeout=seconds * 1000)
        badge = self.bell.locator(".badge")
        if unread == 0:
            expect(badge).to_be_hidden()
        else:
            expect(badge).to_have_text("99+" if unread == "more than 99" else str(unread))

    def open_bell(self) -> Locator:
        """Open the bell's panel and return it."""
        self.bell.click()
        panel = self.page.get_by_role("dialog", name="Notifications")
        expect(panel).to_be_visible()
        return panel

    @property
    def notes(self) -> Locator:
        """What the notifications in the open panel say."""
        return self.page.locator(".note__words")

    def note(self, words: str) -> Locator:
        """Return the notification that says something."""
        return self.page.locator(".note").filter(has=self.page.get_by_text(words, exact=True))

    # --- the jobs -----------------------------------------------------------------------------------

    def open_jobs(self) -> None:
        """Open the panel that lists them."""
        self.page.get_by_role("button", name=re.compile("^Jobs")).click()
        expect(self.page.get_by_role("dialog", name="My jobs")).to_be_visible()

    @property
    def jobs(self) -> Locator:
        """The jobs' cards, the newest first."""
        return self.page.locator(".job")

    def start_slow(self, *, seconds: float | str, fail: str = "never") -> None:
        """Start the demo's slow job by its form."""
        self.page.get_by_role("button", name="Slow job…").click()
        self.page.get_by_label("It fails").select_option(fail)
        self.page.get_by_label("Seconds").fill(str(seconds))
        self.page.get_by_role("button", name="Start", exact=True).click()

    def shows_job(
        self, state: str, *, line: str | re.Pattern[str] | None = None, seconds: float = 20
    ) -> None:
        """Wait until the newest job's card says so."""
        card = self.jobs.first
        expect(card.locator(".job__state")).to_have_text(state, timeout=seconds * 1000)
        if line is not None:
            expect(card.locator(".job__line")).to_have_text(line, timeout=seconds * 1000)

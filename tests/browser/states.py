"""Every state that the page can be in, each as a way to get there.

They are looked at in all sizes and colours. A new part of the page adds its states here, with `@state`.
"""

import re
from collections.abc import Callable

import httpx
from playwright.sync_api import expect

from tests.browser.tab import Tab
from tests.stack import Stack, eventually
from tests.test_end_to_end import comment, item_of

LONG_WORD = "Pneumonoultramicroscopicsilicovolcanoconiosis"


class World:
    """Who and what there is to be shown."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.alice: httpx.Client = stack.login("alice")
        self.bob: httpx.Client = stack.login("bob")
        self.item = item_of(self.alice, title=LONG_WORD, visibility="members")
        comment(self.alice, self.item, "https://example.org/" + "long" * 100)
        comment(self.alice, self.item, "line\n" * 40)
        self.told = item_of(self.alice, title=f"Told of {LONG_WORD}")
        comment(self.bob, self.told, "News")
        comment(self.bob, self.told, "For @alice")
        eventually(lambda: self.unread_of(self.told) == 2)

    def unread_of(self, item: str) -> int:
        """Return how many of alice's notifications of an item are unread."""
        rows = self.alice.get("/api/notifications?unread=true").json()["results"]
        return sum(row["item_id"] == item for row in rows)


State = Callable[[Tab, World], None]
STATES: dict[str, State] = {}


def state(reach: State) -> State:
    """Have a state looked at. In the order of this file: log-in first, then as alice."""
    STATES[reach.__name__] = reach
    return reach


@state
def log_in_refused(tab: Tab, world: World) -> None:
    tab.page.goto("/")
    tab.page.get_by_role("button", name="Log in").click()
    expect(tab.page.get_by_text("Type your user name.")).to_be_visible()


@state
def items(tab: Tab, world: World) -> None:
    tab.log_in("alice")
    tab.page.goto("/")
    expect(tab.page.get_by_role("link", name=LONG_WORD).first).to_be_visible()


@state
def new_item_refused(tab: Tab, world: World) -> None:
    tab.page.get_by_role("button", name="New item").click()
    tab.page.get_by_role("button", name="Add item").click()
    expect(tab.page.get_by_label("Title")).to_have_attribute("aria-invalid", "true")


@state
def item(tab: Tab, world: World) -> None:
    tab.page.goto(f"/items/{world.item}")
    tab.is_live()
    tab.page.get_by_role("button", name="Watch").wait_for()


@state
def comment_refused_and_two_being_changed(tab: Tab, world: World) -> None:
    tab.comment(" ")
    expect(tab.page.get_by_label("Add a comment")).to_have_attribute("aria-invalid", "true")
    tab.page.get_by_role("button", name="Delete").last.click()
    tab.page.get_by_role("button", name="Edit").first.click()


@state
def blank_item(tab: Tab, world: World) -> None:
    tab.page.goto(f"/items/{item_of(world.alice, title='Blank')}")
    expect(tab.page.get_by_text("The tape is still blank.")).to_be_visible()
    tab.is_live()


@state
def item_that_is_not_there(tab: Tab, world: World) -> None:
    tab.page.goto("/items/999999")
    tab.shows_light("refused")


@state
def bell_with_news(tab: Tab, world: World) -> None:
    tab.page.goto("/")
    expect(tab.bell).to_have_accessible_name(re.compile("[1-9]"))
    tab.open_bell()
    expect(tab.page.locator(".note--unread").first).to_be_visible()


@state
def bell_whose_click_failed(tab: Tab, world: World) -> None:
    tab.page.route("**/archive", lambda route: route.abort(), times=1)
    tab.page.get_by_role("button", name="Archive").first.click()
    expect(tab.page.get_by_role("dialog").get_by_role("alert")).to_be_visible()


@state
def preferences(tab: Tab, world: World) -> None:
    tab.page.get_by_role("button", name="Preferences").click()
    tab.page.get_by_label("Do not disturb me at night").check()
    tab.page.get_by_label("Time zone").fill("Mars/Olympus")
    tab.page.get_by_role("button", name="Save").click()
    expect(tab.page.get_by_label("Time zone")).to_have_attribute("aria-invalid", "true")


@state
def preferences_that_do_not_load(tab: Tab, world: World) -> None:
    tab.page.keyboard.press("Escape")
    away = {"title": "Away", "detail": "The database is away.", "status": 503, "errors": []}
    tab.page.route("**/api/preferences", lambda route: route.fulfill(status=503, json=away), times=1)
    tab.open_bell()
    tab.page.get_by_role("button", name="Preferences").click()
    tab.page.get_by_role("button", name="Try again").wait_for()
    tab.page.keyboard.press("Escape")


@state
def jobs_that_went_well_and_that_did_not(tab: Tab, world: World) -> None:
    tab.page.goto("/")
    tab.open_jobs()
    tab.page.get_by_role("button", name="Export comments").click()
    tab.shows_job("Done")
    for fail, said in (("result", "Failed"), ("never", "Running")):
        tab.start_slow(seconds=0.1 if fail == "result" else 60, fail=fail)
        tab.shows_job(said)


@state
def job_that_is_refused_beside_a_text_that_is_streamed(tab: Tab, world: World) -> None:
    tab.page.get_by_role("button", name="Stream a text").click()
    tab.start_slow(seconds="soon")
    expect(tab.page.get_by_label("Seconds")).to_have_attribute("aria-invalid", "true")
    expect(tab.page.get_by_text("This one goes on.")).to_be_visible()


@state
def job_that_is_cancelled(tab: Tab, world: World) -> None:
    tab.page.get_by_role("button", name="Cancel: Slow job").click()
    tab.shows_job("Cancelled")


@state
def reconnecting(tab: Tab, world: World) -> None:
    tab.page.goto(f"/items/{world.item}")
    tab.is_live()
    tab.page.route("**/streams/**", lambda route: route.abort())
    tab.page.evaluate("window.dispatchEvent(new Event('online'))")
    tab.shows_light("reconnecting")
    tab.open_bell()
    expect(tab.page.locator(".notes__status")).to_contain_text("Reconnecting")
    tab.page.unroute("**/streams/**")


@state
def toasts(tab: Tab, world: World) -> None:
    """More than are shown at once, of each severity; told to this tab alone."""
    said = [
        {
            "id": str(number), "title": LONG_WORD if number else "", "message": "Please read. " * 9 * number,
            "severity": severity, "link": "https://example.org/x", "starts_at": "2026-01-01T00:00:00Z",
            "expires_at": None, "state": "live",
        }
        for number, severity in enumerate(["info", "info", "warning", "critical", "info"], start=1)
    ]  # fmt: skip
    answer = {"results": said, "next": None, "cursor": ""}
    tab.page.route("**/api/broadcasts/active", lambda route: route.fulfill(json=answer), times=1)
    tab.page.goto("/")
    expect(tab.page.locator(".toast:visible")).to_have_count(3)
    expect(tab.page.get_by_role("button", name="2 more")).to_be_visible()


@state
def bell_that_is_empty(tab: Tab, world: World) -> None:
    tab.log_in("admin")
    for row in tab.page.request.get("/api/notifications?limit=200").json()["results"]:
        token = next(each["value"] for each in tab.page.context.cookies() if each["name"] == "csrftoken")
        tab.page.request.post(f"/api/notifications/{row['id']}/archive", headers={"X-CSRFToken": token})
    tab.page.goto("/")
    tab.open_bell()
    expect(tab.page.get_by_text("Nothing new.")).to_be_visible()


@state
def no_jobs_yet(tab: Tab, world: World) -> None:
    tab.page.goto("/")
    tab.open_jobs()
    expect(tab.page.get_by_text("You have asked for no job yet.")).to_be_visible()

"""The page's one connection: answers and events in any interleaving end at what the log says."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab
from tests.stack import eventually
from tests.test_end_to_end import comment, item_of

INBOX = re.compile(r"/api/notifications\?")


@pytest.fixture
def alice(stack):
    """Alice's own device, with nothing unread."""
    client = stack.login("alice")
    stack.rest()
    assert client.post("/api/notifications/read-all").status_code == 204
    return client


@pytest.fixture
def bob(stack):
    """Bob, who comments."""
    return stack.login("bob")


def unread(client) -> int:
    """Return the bell's number, as the API has it."""
    return client.get("/api/notifications/count").json()["unread"]


def news(client) -> list[tuple[str, int]]:
    """Return of which items there is something unread, and of how many things it tells."""
    rows = client.get("/api/notifications?unread=true").json()["results"]
    return [(row["item_id"], row["count"]) for row in rows]


def wait_for(tab: Tab, held: list, number: int = 1) -> None:
    """Wait until so many requests are held; the browser's events are heard while Playwright waits."""
    eventually(lambda: len(held) == number or tab.page.wait_for_timeout(10))


@pytest.mark.parametrize("answer", ["made before", "made after"])
def test_what_happens_while_the_inbox_loads_is_in_it_once(alice, bob, open_tab, answer):
    """An answer may be older than events that came already, or hold what events are yet to say."""
    seen = item_of(alice, title=f"Seen, answer {answer}")
    item = item_of(alice, title=f"Raised, answer {answer}")
    comment(bob, seen, "News")
    eventually(lambda: unread(alice) == 1)
    held = []
    tab = open_tab()
    tab.log_in("alice")
    made = {"made before": lambda route: route.fetch(), "made after": lambda route: None}[answer]
    tab.page.route(INBOX, lambda route: held.append((route, made(route))))
    with tab.page.expect_request("**/streams/**"):
        tab.page.goto("/")
    wait_for(tab, held, 2)
    expect(tab.bell).to_have_accessible_name("Notifications, not loaded yet")

    comment(bob, item, "One")
    comment(bob, item, "Two")
    assert alice.post(f"/api/items/{seen}/seen").status_code == 204
    eventually(lambda: news(alice) == [(item, 2)])
    expect(tab.bell).to_have_accessible_name("Notifications, not loaded yet")
    for route, response in held:
        route.fulfill(response=response) if response else route.continue_()

    tab.counts(1)
    tab.open_bell()
    expect(tab.notes.nth(0)).to_have_text(f"bob commented on “Raised, answer {answer}”")
    expect(tab.notes.nth(1)).to_have_text(f"bob commented on “Seen, answer {answer}”")
    expect(tab.note(f"bob commented on “Raised, answer {answer}”")).to_have_count(1)
    expect(tab.note(f"bob commented on “Seen, answer {answer}”")).not_to_have_class(
        re.compile("note--unread")
    )
    assert tab.said() == ""


def test_an_older_page_that_is_late_undoes_nothing(alice, bob, open_tab):
    for number in range(22):
        comment(bob, item_of(alice, title=f"Late {number}"), "News")
    eventually(lambda: unread(alice) == 22)
    tab = open_tab("alice")
    tab.counts(22)
    tab.open_bell()
    held = []
    tab.page.route(INBOX, lambda route: held.append((route, route.fetch())))

    tab.page.get_by_role("button", name="Older").click()
    wait_for(tab, held)
    rows = alice.get("/api/notifications?limit=22").json()["results"]
    assert alice.post(f"/api/notifications/{rows[-1]['id']}/archive").status_code == 204
    assert alice.post("/api/notifications/read-all").status_code == 204
    tab.counts(0)
    [(route, response)] = held
    route.fulfill(response=response)

    expect(tab.note("bob commented on “Late 1”")).to_have_count(1)
    expect(tab.note("bob commented on “Late 0”")).to_have_count(0)
    tab.counts(0)
    expect(tab.page.locator(".note--unread")).to_have_count(0)


def test_a_late_answer_to_a_click_does_not_undo_a_newer_one(alice, bob, open_tab):
    words = "bob commented on “Undecided”"
    comment(bob, item_of(alice, title="Undecided"), "News")
    tab = open_tab("alice")
    tab.counts(1)
    tab.open_bell()
    held = []
    tab.page.route("**/read", lambda route: held.append((route, route.fetch())))

    tab.note(words).get_by_role("button", name="Mark read").click()
    tab.counts(0)
    wait_for(tab, held)
    [row] = alice.get("/api/notifications?limit=1").json()["results"]
    assert alice.post(f"/api/notifications/{row['id']}/unread").status_code == 204
    tab.counts(1)
    [(route, response)] = held
    route.fulfill(response=response)

    tab.says("Marked as read.")
    tab.counts(1)


def test_an_item_opened_late_shows_what_is_and_not_what_was(alice, bob, open_tab):
    """The stream's own place is before all this, so the events come, and tell of what is long gone."""
    item = item_of(alice, title="History")
    tab = open_tab("bob")
    expect(tab.bell).to_have_accessible_name(re.compile("unread"))
    gone = comment(alice, item, "Gone")
    kept = comment(alice, item, "Kept")
    alice.patch(f"/api/comments/{kept}", json={"text": "Kept, edited"})
    assert alice.delete(f"/api/comments/{gone}").status_code == 204
    tab.page.evaluate(
        """() => {
          window.texts = new Set();
          const look = () => {
            const shown = document.querySelectorAll(".comment__text");
            for (const { textContent } of shown) window.texts.add(textContent);
          };
          const all = { subtree: true, childList: true, characterData: true };
          new MutationObserver(look).observe(document.body, all);
        }"""
    )

    tab.page.get_by_role("link", name="History").first.click()

    tab.shows("Kept, edited")
    tab.is_live()
    comment(alice, item, "And on")
    tab.shows("Kept, edited", "And on")
    assert tab.page.evaluate("[...window.texts]") == ["Kept, edited", "And on"]
    assert "Gone" not in tab.said()


def test_one_part_that_is_refused_leaves_the_others_alone(alice, bob, open_tab):
    item = item_of(bob, title="Closed", visibility="members")
    tab = open_tab("alice", f"/items/{item}")
    expect(tab.page.get_by_role("heading", name="This item is not open to you")).to_be_visible()

    comment(bob, item_of(alice, title="Open"), "News")

    tab.counts(1)


def test_one_part_that_cannot_load_is_tried_again_and_leaves_the_others_alone(alice, bob, open_tab):
    item = item_of(alice, title="Broken inbox")
    tab = open_tab()
    tab.log_in("alice")
    away = {"title": "Away", "detail": "The database is away.", "status": 503, "errors": []}
    tab.page.route(INBOX, lambda route: route.fulfill(status=503, json=away))
    tab.page.goto(f"/items/{item}")
    tab.is_live()
    comment(bob, item_of(alice, title="Unheard so far"), "News")
    tab.open_bell()
    expect(tab.page.locator(".notes__status")).to_have_text("Reconnecting. The database is away.")
    expect(tab.bell).to_have_accessible_name("Notifications, not loaded yet")

    tab.page.unroute(INBOX)

    tab.counts(1, seconds=20)
    expect(tab.notes.first).to_have_text("bob commented on “Unheard so far”")
    expect(tab.page.locator(".notes__status")).to_be_hidden()


def test_a_web_process_that_was_killed_and_started_again_costs_nothing(alice, bob, stack, open_tab):
    item, other = item_of(alice, title="Open here"), item_of(alice, title="Told of")
    stack.start("uvicorn8")
    try:
        tabs = [open_tab("alice", f"/items/{item}", at=stack.url("uvicorn8")) for _ in range(2)]
        for tab in tabs:
            tab.is_live()
            tab.counts(0)
            tab.mark()

        stack.kill("uvicorn8")
        for tab in tabs:
            tab.shows_light("reconnecting")
        comment(bob, item, "While it was dead")
        comment(bob, other, "And this")
        stack.start("uvicorn8")

        for tab in tabs:
            tab.shows("While it was dead", seconds=20)
            tab.is_live()
            tab.counts(1, seconds=20)
            assert tab.not_reloaded
    finally:
        stack.stop("uvicorn8")
        del stack.ports["uvicorn8"]


def test_one_tab_keeps_one_connection_for_all_its_parts(alice, open_tab):
    item = item_of(alice, title="Crowded")
    first = open_tab("alice")
    tabs = [first, *(Tab(first.page.context.new_page()) for _ in range(4))]
    for tab in tabs:  # five streams of one browser leave one of its six connections for all else
        tab.page.goto(f"/items/{item}")
        tab.is_live()

    first.comment("Still room for a click")

    for tab in tabs:
        tab.shows("Still room for a click")
    assert [fault for tab in tabs for fault in tab.faults] == []

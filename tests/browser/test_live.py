"""Comments as they are made, and after a network was lost: promise 3 as a person sees it."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser import on_both
from tests.browser.breaking import Breaking
from tests.stack import eventually
from tests.test_end_to_end import comment, item_of


def listed(client: httpx.Client, item: str) -> list[str]:
    """Return the texts that the API lists."""
    answer = client.get(f"/api/items/{item}/comments?limit=200")
    return [each["text"] for each in answer.json()["results"]]


@on_both
def test_a_comment_shows_at_another_reader_without_reload(stack, server, open_tab):
    item = item_of(stack.login("alice", server))
    alice = open_tab("alice", f"/items/{item}", at=server)
    bob = open_tab("bob", f"/items/{item}", at=server)
    expect(bob.page.get_by_text("The tape is still blank.")).to_be_visible()
    bob.is_live()
    bob.mark()

    alice.comment("Hello bob")

    bob.shows("Hello bob")
    alice.shows("Hello bob")
    assert bob.not_reloaded
    assert bob.lights == ["live"]
    expect(bob.page.locator(".light__when")).to_contain_text("last event")
    bob.says("alice: Hello bob")


@on_both
def test_a_reader_who_was_cut_off_comes_back_to_exactly_the_right_list(stack, server, network, open_tab):
    alice = stack.login("alice", server)
    item = item_of(alice)
    one, two = comment(alice, item, "one"), comment(alice, item, "two")
    bob = open_tab("bob", f"/items/{item}", at=network.url)
    bob.shows("one", "two")
    bob.is_live()
    bob.mark()

    network.cut()
    bob.shows_light("reconnecting")
    three, four, _five = (comment(alice, item, text) for text in ("three", "four", "five"))
    assert alice.patch(f"/api/comments/{one}", json={"text": "one, edited"}).status_code == 200
    assert alice.patch(f"/api/comments/{four}", json={"text": "four, edited"}).status_code == 200
    assert alice.delete(f"/api/comments/{two}").status_code == 204
    assert alice.delete(f"/api/comments/{three}").status_code == 204
    bob.shows("one", "two")
    network.restore()

    bob.shows("one, edited", "four, edited", "five", seconds=20)
    bob.is_live()
    comment(alice, item, "six")
    bob.shows("one, edited", "four, edited", "five", "six")
    assert bob.texts() == listed(alice, item)
    assert bob.not_reloaded
    assert (bob.lights[0], bob.lights[1], bob.lights[-1]) == ("live", "reconnecting", "live")


def test_a_list_that_cannot_be_resumed_is_loaded_anew(stack, server, network, open_tab):
    alice = stack.login("alice", server)
    item = item_of(alice)
    one = comment(alice, item, "one")
    comment(alice, item, "two")
    bob = open_tab("bob", f"/items/{item}", at=network.url)
    bob.is_live()
    bob.mark()
    snapshots = []

    network.cut()
    bob.shows_light("reconnecting")
    assert alice.delete(f"/api/comments/{one}").status_code == 204
    comment(alice, item, "three")
    with stack.connect() as connection:
        connection.execute("SELECT tickertape_new_epoch(NULL)")
    bob.page.route("**/comments?*", lambda route: snapshots.append(route))  # noqa: PLW0108 (it takes no builtin)
    network.restore()

    bob.shows_light("catching-up")
    bob.shows("one", "two")
    while not snapshots:  # spread over a moment, as a crowd would ask all at once
        bob.page.wait_for_timeout(20)
    [route] = snapshots
    route.continue_()
    bob.shows("two", "three", seconds=20)
    bob.is_live()
    comment(alice, item, "four")
    bob.shows("two", "three", "four")
    assert bob.not_reloaded


def test_a_stream_that_the_browser_gave_up_is_opened_again(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    bob = open_tab()
    bob.log_in("bob")
    asked = []

    def away(route):  # as a proxy whose server is: EventSource never comes back from that by itself
        asked.append(route.request.url)
        route.fulfill(status=502, body="Bad gateway")

    bob.page.route("**/streams/**", away)
    bob.page.goto(f"/items/{item}")

    bob.shows_light("reconnecting")
    eventually(lambda: len(asked) >= 2 or bob.page.wait_for_timeout(10))
    bob.page.unroute("**/streams/**")
    bob.is_live()
    comment(alice, item, "Here again")
    bob.shows("Here again")


OURS = re.compile("/(api|streams)/")


def proxy_answers(tab, status):
    """Have something in between answer for the service; return what it was asked for."""
    asked = []

    def answer(route):
        asked.append(route.request.url)
        route.fulfill(status=status, content_type="text/html", body="<h1>Not here, not now</h1>")

    tab.page.route(OURS, answer)
    return asked


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_status_that_is_not_the_services_own_is_no_refusal(stack, network, open_tab, status):
    alice = stack.login("alice")
    item = item_of(alice)
    bob = open_tab("bob", f"/items/{item}", at=network.url)
    bob.is_live()
    bob.mark()
    asked = proxy_answers(bob, status)

    network.cut()
    network.restore()
    counts = "/api/notifications/count"
    eventually(lambda: len([url for url in asked if counts in url]) >= 2 or bob.page.wait_for_timeout(10))
    bob.shows_light("reconnecting")
    comment(alice, item, "Behind it")
    bob.page.unroute(OURS)

    bob.is_live()
    bob.shows("Behind it")
    assert bob.not_reloaded


def test_an_item_that_a_proxy_does_not_find_is_asked_for_again(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice, title="Found in the end")
    comment(alice, item, "Here")
    bob = open_tab()
    bob.log_in("bob")
    asked = proxy_answers(bob, 404)
    bob.page.goto(f"/items/{item}")
    mine = f"/api/items/{item}"
    eventually(lambda: len([url for url in asked if mine in url]) >= 2 or bob.page.wait_for_timeout(10))
    bob.page.unroute(OURS)

    expect(bob.page.get_by_role("heading", name="Found in the end")).to_be_visible()
    bob.shows("Here")
    bob.is_live()


def test_comments_that_cannot_be_loaded_are_tried_again(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    comment(alice, item, "Patience")
    bob = open_tab()
    bob.log_in("bob")
    away = {"title": "Away", "detail": "The database is away.", "status": 503, "errors": []}
    bob.page.route("**/comments?*", lambda route: route.fulfill(status=503, json=away))
    bob.page.goto(f"/items/{item}")

    expect(bob.page.get_by_text("The database is away.")).to_be_visible()
    bob.page.unroute("**/comments?*")
    bob.shows("Patience")
    bob.is_live()


@on_both
def test_an_answer_that_breaks_off_in_its_middle_is_asked_for_again(stack, server, open_tab):
    alice = stack.login("alice", server)
    item = item_of(alice)
    comment(alice, item, "Whole in the end")
    with Breaking(server, b"/comments?") as network:
        bob = open_tab("bob", f"/items/{item}", at=network.url)
        bob.shows("Whole in the end")
        bob.is_live()
        assert network.broken == 2


def test_an_item_whose_own_answer_breaks_off_is_asked_for_again_though_nothing_else_happens(stack, open_tab):
    item = item_of(stack.login("alice"), title="Named in the end")
    comment(stack.login("bob"), item, "Delete me")
    own = f"GET /api/items/{item} ".encode()
    with Breaking(stack.url("daphne"), own, left=100) as network:
        alice = open_tab("alice", f"/items/{item}", at=network.url)
        alice.shows("Delete me")
        alice.is_live()
        eventually(lambda: network.broken >= 2)
        alice.page.wait_for_timeout(500)  # what goes on while it becomes live is over: it is quiet
        network.left = 0

        named = alice.page.get_by_role("heading", name="Named in the end")
        expect(named).to_be_visible(timeout=60_000)  # no two tries are more than 30 s apart
        expect(alice.page).to_have_title("Named in the end · Tickertape")
        expect(alice.row("Delete me").get_by_role("button", name="Delete")).to_be_visible()  # its owner may


def test_for_an_item_that_was_left_no_request_is_made(stack, open_tab):
    alice = stack.login("alice")
    item, other = item_of(alice), item_of(alice, title="The next")
    asked = []
    bob = open_tab()
    bob.page.clock.install()
    bob.log_in("bob")
    bob.page.route(f"**/api/items/{item}", lambda route: (asked.append(1), route.abort()))
    bob.page.goto(f"/items/{item}")
    bob.is_live()
    eventually(lambda: len(asked) >= 2 or bob.page.wait_for_timeout(10))

    bob.page.get_by_role("link", name="The next").click()
    expect(bob.page.get_by_role("heading", name="The next")).to_be_visible()
    assert bob.page.url.endswith(f"/items/{other}")
    before = len(asked)
    bob.page.clock.fast_forward(30_000)  # no two tries are further apart
    bob.page.wait_for_timeout(500)

    assert len(asked) == before


def test_changes_between_the_pages_of_a_list_are_all_shown(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    ids = [comment(alice, item, f"comment {number}") for number in range(6)]
    bob = open_tab()
    bob.log_in("bob")
    pages = []

    def load_page(route):
        pages.append(route.request.url)
        if len(pages) == 2:  # the first page was read before this, the others after it
            alice.delete(f"/api/comments/{ids[0]}")
            alice.patch(f"/api/comments/{ids[1]}", json={"text": "comment 1, edited"})
            alice.delete(f"/api/comments/{ids[3]}")
            alice.patch(f"/api/comments/{ids[4]}", json={"text": "comment 4, edited"})
            comment(alice, item, "comment 6")
            alice.delete(f"/api/comments/{comment(alice, item, 'comment 7')}")
        route.continue_(url=route.request.url.replace("limit=100", "limit=2"))

    bob.page.route("**/comments?*", load_page)
    bob.page.goto(f"/items/{item}")

    bob.is_live()
    bob.shows("comment 1, edited", "comment 2", "comment 4, edited", "comment 5", "comment 6")
    assert len(pages) == 3
    assert bob.texts() == listed(alice, item)


@pytest.mark.parametrize("first", ["the stream", "the answer"])
def test_an_own_comment_is_shown_once_whichever_comes_first(stack, open_tab, first):
    bob = stack.login("bob")
    item = item_of(bob)
    alice = open_tab("alice", f"/items/{item}")
    alice.is_live()
    held = []

    def hold(route):
        if route.request.method == "POST":
            held.append((route, route.fetch()))
        else:
            route.continue_()

    if first == "the stream":
        alice.page.route("**/comments", hold)
        alice.comment("Only once")
        alice.shows("Only once")
        comment(bob, item, "After it")
        alice.shows("Only once", "After it")
        eventually(lambda: held or alice.page.wait_for_timeout(10))
        [(route, response)] = held
        route.fulfill(response=response)
        expect(alice.page.get_by_label("Add a comment")).to_have_value("")
        alice.shows("Only once", "After it")
    else:
        # A stream that is away shows nothing: what is shown comes from the answer.
        alice.page.route("**/streams/**", lambda route: route.abort())
        alice.page.evaluate("window.dispatchEvent(new Event('online'))")
        alice.shows_light("reconnecting")
        comment(bob, item, "Before it")
        alice.comment("Only once")
        alice.shows("Only once")
        comment(bob, item, "After it")
        alice.page.unroute("**/streams/**")
        alice.is_live()
        alice.shows("Before it", "Only once", "After it")


def test_an_own_comment_that_was_deleted_unseen_does_not_stay(stack, open_tab):
    owner = stack.login("bob")
    item = item_of(owner)
    alice = open_tab("alice", f"/items/{item}")
    alice.is_live()
    alice.page.route("**/streams/**", lambda route: route.abort())
    alice.page.evaluate("window.dispatchEvent(new Event('online'))")
    alice.comment("Gone before its event came")
    alice.shows("Gone before its event came")

    [own] = owner.get(f"/api/items/{item}/comments").json()["results"]
    assert owner.delete(f"/api/comments/{own['id']}").status_code == 204
    with stack.connect() as connection:  # so that its events never come
        connection.execute("SELECT tickertape_new_epoch(NULL)")
    alice.page.unroute("**/streams/**")

    alice.is_live()
    alice.shows()


def test_a_late_answer_to_an_edit_does_not_undo_a_newer_one(stack, open_tab):
    elsewhere = stack.login("alice")
    item = item_of(elsewhere)
    edited = comment(elsewhere, item, "first")
    alice = open_tab("alice", f"/items/{item}")
    alice.is_live()
    held = []
    alice.page.route("**/api/comments/*", lambda route: held.append((route, route.fetch())))

    alice.page.get_by_role("button", name="Edit").click()
    alice.page.get_by_label("Edit your comment").fill("second")
    alice.page.get_by_role("button", name="Save").click()
    expect(alice.comments).to_have_text(["second"])
    elsewhere.patch(f"/api/comments/{edited}", json={"text": "third"})
    expect(alice.comments).to_have_text(["third"])
    eventually(lambda: held or alice.page.wait_for_timeout(10))
    [(route, response)] = held
    route.fulfill(response=response)

    expect(alice.page.get_by_role("button", name="Save")).to_have_count(0)
    assert alice.texts() == ["third"]


def test_a_hidden_tab_gives_its_connection_back_and_catches_up_when_looked_at(stack, network, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    bob = open_tab()
    bob.page.clock.install()
    bob.log_in("bob")
    bob.page.goto(f"{network.url}/items/{item}")
    bob.is_live()

    def look(state: str) -> None:
        bob.page.evaluate(
            """state => {
              Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            state,
        )

    look("hidden")
    with bob.page.expect_event("requestfailed", lambda request: "/streams/" in request.url):
        bob.page.clock.fast_forward(30_000)
    comment(alice, item, "While you were away")
    look("visible")

    bob.is_live()
    bob.shows("While you were away")


def test_a_machine_that_slept_renews_its_connection_and_its_times(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    comment(alice, item, "Good night")
    bob = open_tab()
    bob.page.clock.install()
    bob.log_in("bob")
    bob.page.goto(f"/items/{item}")
    bob.is_live()
    written = bob.page.locator(".comment time")
    expect(written).not_to_have_text("1 hr. ago")

    with bob.page.expect_request("**/streams/**"):
        bob.page.clock.fast_forward("01:00:00")

    expect(written).to_have_text("1 hr. ago")
    bob.is_live()
    comment(alice, item, "Good morning")
    bob.shows("Good night", "Good morning")

"""Coming in, going out, and being refused: the page always says which, and why."""

import re

from playwright.sync_api import expect

from tests.stack import eventually
from tests.test_end_to_end import comment, item_of


def log_in(tab, user: str, password: str) -> None:
    tab.page.get_by_label("User name").fill(user)
    tab.page.get_by_label("Password").fill(password)
    tab.page.get_by_role("button", name="Log in").click()


def test_a_wrong_password_is_refused_beside_its_field(open_tab):
    tab = open_tab()

    log_in(tab, "alice", "not-it")

    expect(tab.page.get_by_label("Password")).to_have_accessible_description(
        "This user name and password do not go together. Try again."
    )
    expect(tab.page.get_by_label("Password")).to_be_focused()
    expect(tab.page.get_by_label("Password")).to_have_value("")
    log_in(tab, "alice", "demo-alice")
    expect(tab.page.get_by_role("heading", name="Items")).to_be_visible()


def test_a_form_without_a_user_name_asks_for_it(open_tab):
    tab = open_tab()

    tab.page.get_by_role("button", name="Log in").click()

    expect(tab.page.get_by_label("User name")).to_have_accessible_description("Type your user name.")
    expect(tab.page.get_by_label("User name")).to_be_focused()


def test_a_server_that_is_away_is_said_at_the_form(open_tab):
    tab = open_tab()
    tab.page.route("**/api/session", lambda route: route.abort())

    log_in(tab, "alice", "demo-alice")

    expect(tab.page.get_by_role("alert")).to_have_text(
        "The server cannot be reached. Check your connection and try again."
    )


def test_the_demos_people_are_not_offered_outside_the_demo(open_tab):
    tab = open_tab()

    expect(tab.page.get_by_role("heading", name="Log in")).to_be_visible()

    expect(tab.page.get_by_role("button")).to_have_count(1)
    assert "demo-" not in tab.page.content()


def test_an_items_address_leads_there_also_through_the_log_in(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice, title="Straight here")
    comment(alice, item, "You found it")

    tab = open_tab(path=f"/items/{item}")
    log_in(tab, "bob", "demo-bob")

    expect(tab.page.get_by_role("heading", name="Straight here")).to_be_focused()
    tab.shows("You found it")
    assert tab.page.url.endswith(f"/items/{item}")
    assert tab.page.title() == "Straight here · Tickertape"


def test_back_and_forward_go_between_items_and_only_one_stream_stays_open(stack, open_tab):
    alice = stack.login("alice")
    first, second = item_of(alice, title="The first"), item_of(alice, title="The second")
    comment(alice, first, "in the first")
    comment(alice, second, "in the second")
    tab = open_tab("bob", "/")
    streams = set()
    tab.page.on("request", lambda request: "/streams/" in request.url and streams.add(request))
    tab.page.on("requestfailed", lambda request: streams.discard(request))  # noqa: PLW0108 (it takes no builtin)

    tab.page.get_by_role("link", name="The first").first.click()
    tab.shows("in the first")
    tab.page.get_by_role("link", name="The second").first.click()
    tab.shows("in the second")
    tab.page.go_back()
    tab.shows("in the first")
    tab.is_live()

    def one_is_open():
        """One stream is open; that another was left may be heard of later."""
        tab.page.wait_for_timeout(10)
        return len(streams) == 1

    eventually(one_is_open)
    [stream] = streams
    assert stream.url.endswith(f"&channel=item%3A{first}")

    with tab.page.expect_request(re.compile(r"/streams/me/\?last_event_id=[^&]*$")):
        tab.page.go_back()
    expect(tab.page.get_by_text("Open an item to watch its tape.")).to_be_visible()
    expect(tab.comments).to_have_count(0)
    eventually(one_is_open)


def test_an_item_that_does_not_exist_is_said_so(open_tab):
    tab = open_tab("bob", "/items/999999")

    expect(tab.page.get_by_role("heading", name="There is no such item")).to_be_visible()
    tab.shows_light("refused")
    expect(tab.page.get_by_label("Add a comment")).to_be_hidden()


def test_an_item_of_others_is_refused_and_opens_to_a_new_member(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice, visibility="members")
    comment(alice, item, "Only for us")
    tab = open_tab("bob", f"/items/{item}")

    expect(tab.page.get_by_role("heading", name="This item is not open to you")).to_be_visible()
    expect(tab.comments).to_have_count(0)

    bob = tab.page.request.get("/api/session").json()["user"]["id"]
    assert alice.put(f"/api/items/{item}/members/{bob}").status_code == 204
    tab.page.reload()
    tab.shows("Only for us")
    tab.is_live()

    assert alice.delete(f"/api/items/{item}/members/{bob}").status_code == 204
    expect(tab.page.get_by_role("heading", name="This item is not open to you")).to_be_visible()
    expect(tab.page.get_by_text("Only for us")).to_be_hidden()


def test_a_session_that_ended_elsewhere_leads_to_the_log_in_and_back(stack, open_tab):
    item = item_of(stack.login("alice"), title="Still here")
    tab = open_tab("bob", f"/items/{item}")
    tab.is_live()
    tab.page.get_by_label("Add a comment").fill("Half a thou")

    token = next(cookie["value"] for cookie in tab.page.context.cookies() if cookie["name"] == "csrftoken")
    ended = tab.page.request.delete("/api/session", headers={"X-CSRFToken": token})

    assert ended.status == 204
    expect(tab.page.get_by_text("Your session has ended. Log in to go on.")).to_be_visible()
    log_in(tab, "bob", "demo-bob")
    expect(tab.page.get_by_role("heading", name="Still here")).to_be_visible()
    expect(tab.page.get_by_label("Add a comment")).to_have_value("Half a thou")


def test_logging_out_shows_the_log_in_in_every_tab(stack, open_tab):
    item = item_of(stack.login("alice"))
    tab = open_tab("bob", f"/items/{item}")
    other = tab.page.context.new_page()
    other.goto("/")
    expect(other.get_by_role("heading", name="Items")).to_be_visible()

    tab.page.get_by_role("button", name="Log out").click()

    expect(tab.page.get_by_text("You are logged out.")).to_be_visible()
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()
    assert tab.page.request.get("/api/items").status == 401

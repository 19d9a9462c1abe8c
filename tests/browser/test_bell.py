"""The bell: what one person does shows in every tab of theirs, and in nobody else's."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab
from tests.stack import eventually
from tests.test_end_to_end import comment, item_of


@pytest.fixture
def alice(stack):
    """Alice's own device, with nothing unread."""
    client = stack.login("alice")
    stack.rest()
    assert client.post("/api/notifications/read-all").status_code == 204
    yield client
    client.put("/api/preferences", json={"types": {"comment": "live"}, "quiet_hours": None})


@pytest.fixture
def bob(stack):
    """Bob, who comments."""
    return stack.login("bob")


def two_tabs(open_tab, path: str = "/", user: str = "alice", **options: str) -> tuple[Tab, Tab]:
    """Open two tabs, each of a browser of its own; nothing is unread yet."""
    tabs = open_tab(user, path, **options), open_tab(user, path, **options)
    for tab in tabs:
        tab.counts(0)
    return tabs


def unread(client, item: str) -> list[dict]:
    """Return what is unread of an item, as the API has it."""
    rows = client.get("/api/notifications?unread=true&limit=200").json()["results"]
    return [row for row in rows if row["item_id"] == item]


def test_a_comment_rings_in_both_tabs_and_grows_into_one_notification(alice, bob, stack, server, open_tab):
    item = item_of(alice, title="Rings")
    one, two = two_tabs(open_tab, at=server)
    bobs = open_tab("bob", f"/items/{item}", at=server), open_tab("bob", at=server)
    bobs[0].is_live()
    one.open_bell()

    bobs[0].comment("First")

    for tab in (one, two):
        tab.counts(1)
    expect(one.notes.first).to_have_text("bob commented on “Rings”")
    expect(one.note("bob commented on “Rings”").get_by_text("Unread.")).to_be_attached()
    one.says("bob commented on “Rings”")

    comment(stack.login("carol"), item, "Second")
    bobs[0].comment("Third")
    expect(one.notes.first).to_have_text("bob and 1 other commented on “Rings”")
    for tab in (one, two):
        tab.counts(1)
    two.open_bell()
    expect(two.notes.first).to_have_text("bob and 1 other commented on “Rings”")
    expect(bobs[1].bell).to_be_visible()
    expect(bobs[1].note("bob and 1 other commented on “Rings”")).to_have_count(0)


def test_read_in_one_tab_is_read_in_the_other_and_back(alice, bob, open_tab):
    words = "bob commented on “Read me”"
    item = item_of(alice, title="Read me")
    one, two = two_tabs(open_tab)
    comment(bob, item, "News")
    for tab in (one, two):
        tab.counts(1)
        tab.open_bell()

    one.note(words).get_by_role("button", name="Mark read").click()
    for tab in (one, two):
        tab.counts(0)
    expect(two.note(words).get_by_role("button", name="Mark unread")).to_be_visible()
    expect(two.note(words)).not_to_have_class(re.compile("note--unread"))
    assert unread(alice, item) == []

    two.note(words).get_by_role("button", name="Mark unread").click()
    for tab in (one, two):
        tab.counts(1)
    expect(one.note(words)).to_have_class(re.compile("note--unread"))
    assert len(unread(alice, item)) == 1


def test_all_are_read_at_once_in_every_tab(alice, bob, open_tab):
    one, two = two_tabs(open_tab)
    for number in range(3):
        comment(bob, item_of(alice, title=f"Thing {number}"), "News")
    for tab in (one, two):
        tab.counts(3)
        tab.open_bell()

    one.page.get_by_role("button", name="Mark all read").click()

    for tab in (one, two):
        tab.counts(0)
        expect(tab.page.get_by_role("button", name="Mark all read")).to_be_hidden()
        expect(tab.page.locator(".note--unread")).to_have_count(0)
    assert alice.get("/api/notifications/count").json()["unread"] == 0


def test_what_is_archived_is_gone_from_every_tab_and_comes_back_if_unread(alice, bob, open_tab):
    words = "bob commented on “Put away”"
    item = item_of(alice, title="Put away")
    one, two = two_tabs(open_tab)
    comment(bob, item, "News")
    for tab in (one, two):
        tab.counts(1)
        tab.open_bell()
    [row] = unread(alice, item)

    one.note(words).get_by_role("button", name="Archive").click()
    for tab in (one, two):
        tab.counts(0)
        expect(tab.note(words)).to_have_count(0)

    # From a third device, which shows archives; one of these tabs holds it still, the other never did.
    two.page.reload()
    two.counts(0)
    assert alice.post(f"/api/notifications/{row['id']}/unread").status_code == 204
    for tab in (one, two):
        tab.counts(1)
    two.open_bell()
    for tab in (one, two):
        expect(tab.note(words)).to_have_count(1)


def test_a_muted_item_is_silent_in_every_tab_until_it_is_unmuted(alice, bob, open_tab):
    words = "bob commented on “Loud”"
    item, other = item_of(alice, title="Loud"), item_of(alice, title="Other")
    one, two = two_tabs(open_tab)
    comment(bob, item, "News")
    for tab in (one, two):
        tab.counts(1)
        tab.open_bell()

    one.note(words).get_by_role("button", name="Mute").click()
    expect(one.note(words).get_by_role("button", name="Unmute")).to_be_visible()
    expect(two.note(words).get_by_role("button", name="Unmute")).to_be_visible()
    comment(bob, item, "More, unheard")
    comment(bob, other, "Heard")
    for tab in (one, two):
        tab.counts(2)
    expect(one.notes.first).to_have_text("bob commented on “Other”")
    assert [row["count"] for row in unread(alice, item)] == [1]

    two.page.reload()
    two.counts(2)
    two.open_bell()
    two.note(words).get_by_role("button", name="Unmute").click()
    expect(one.note(words).get_by_role("button", name="Mute", exact=False)).to_contain_text("Mute")
    comment(bob, item, "Heard again")
    expect(one.notes.first).to_have_text(words)
    assert [row["count"] for row in unread(alice, item)] == [2]


def test_opening_the_item_reads_what_was_told_of_it_in_every_tab(alice, bob, open_tab):
    item, other = item_of(alice, title="Opened"), item_of(alice, title="Left")
    one, two = two_tabs(open_tab)
    comment(bob, item, "One")
    comment(bob, item, "Two, @alice")
    comment(bob, other, "Elsewhere")
    for tab in (one, two):
        tab.counts(3)  # a comment and a mention are two things
    one.open_bell()

    one.note("bob commented on “Opened”").get_by_role("link").click()

    expect(one.page.get_by_role("heading", name="Opened")).to_be_focused()
    expect(one.page.get_by_role("dialog", name="Notifications")).to_be_hidden()
    for tab in (one, two):
        tab.counts(1)
    assert unread(alice, item) == []
    assert len(unread(alice, other)) == 1


def test_what_comes_while_the_item_is_looked_at_is_read_and_not_announced(alice, bob, open_tab):
    item = item_of(alice, title="Before me")
    looking, away = two_tabs(open_tab)
    looking.page.goto(f"/items/{item}")
    looking.is_live()

    comment(bob, item, "Right here")
    looking.shows("Right here")

    def read():
        """It was told of, and is read."""
        [row] = alice.get("/api/notifications?limit=1").json()["results"]
        return (row["item_id"], row["read"]) == (item, True)

    eventually(read)
    for tab in (looking, away):
        tab.counts(0)
    assert "commented on" not in looking.said()

    look(looking, "hidden")
    comment(bob, item, "Behind my back")
    for tab in (looking, away):
        tab.counts(1)
    look(looking, "visible")
    for tab in (looking, away):
        tab.counts(0)


def look(tab: Tab, state: str) -> None:
    """Show or hide a tab, as far as its page can tell."""
    tab.page.evaluate(
        """state => {
          Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def test_a_tab_that_was_offline_ends_with_the_right_count(alice, bob, network, open_tab):
    item, other = item_of(alice, title="Away"), item_of(alice, title="Far away")
    tab = open_tab("alice", at=network.url)
    tab.counts(0)
    comment(bob, item, "Before")
    tab.counts(1)
    tab.open_bell()

    network.cut()
    expect(tab.page.locator(".notes__status")).to_contain_text("Reconnecting")
    comment(bob, item, "Meanwhile")
    comment(bob, other, "Meanwhile too")
    eventually(lambda: len(unread(alice, other)) == 1)
    assert alice.post(f"/api/items/{item}/seen").status_code == 204
    comment(bob, item, "And after that")
    eventually(lambda: len(unread(alice, item)) == 1)
    network.restore()

    tab.counts(2, seconds=20)
    expect(tab.notes.first).to_have_text("bob commented on “Away”")
    expect(tab.page.locator(".notes__status")).to_be_hidden()


def test_a_click_that_does_not_get_through_says_so_and_changes_nothing(alice, bob, network, open_tab):
    item = item_of(alice, title="Stuck")
    tab = open_tab("alice", at=network.url)
    tab.counts(0)
    comment(bob, item, "News")
    tab.counts(1)
    panel = tab.open_bell()
    network.cut()

    tab.note("bob commented on “Stuck”").get_by_role("button", name="Mark read").click()
    expect(panel.get_by_role("alert")).to_contain_text("The server cannot be reached")
    tab.counts(1)

    network.restore()
    tab.note("bob commented on “Stuck”").get_by_role("button", name="Mark read").click()
    tab.counts(0, seconds=20)
    expect(panel.get_by_role("alert")).to_be_hidden()


def test_the_log_that_began_anew_is_loaded_anew(alice, bob, stack, network, open_tab):
    item = item_of(alice, title="Restored")
    tab = open_tab("alice", at=network.url)
    tab.counts(0)
    network.cut()
    comment(bob, item, "Before the restore")
    eventually(lambda: len(unread(alice, item)) == 1)
    with stack.connect() as connection:
        connection.execute("SELECT tickertape_new_epoch(NULL)")
    network.restore()

    tab.counts(1, seconds=20)
    comment(bob, item_of(alice, title="After it"), "News")
    tab.counts(2)


def test_older_pages_come_on_demand_and_keep_up(alice, bob, open_tab):
    for number in range(25):
        comment(bob, item_of(alice, title=f"Page {number}"), "News")
    eventually(lambda: alice.get("/api/notifications/count").json()["unread"] == 25)
    one, two = open_tab("alice"), open_tab("alice")
    for tab in (one, two):
        tab.counts(25)
        tab.open_bell()
    expect(one.notes).to_have_count(20)
    expect(one.notes.nth(0)).to_have_text("bob commented on “Page 24”")

    one.page.get_by_role("button", name="Older").click()
    expect(one.note("bob commented on “Page 4”").get_by_role("link")).to_be_focused()
    expect(one.note("bob commented on “Page 0”")).to_have_count(1)
    two.page.get_by_role("button", name="Mark all read").click()
    for tab in (one, two):
        tab.counts(0)
    expect(one.page.locator(".note--unread")).to_have_count(0)


MANY = """
from django.contrib.auth.models import User
from events import comments, items
alice, bob = (User.objects.get(username=name) for name in ("alice", "bob"))
for number in range(205):
    comments.add_comment(bob, items.create_item(alice, title=f"Many {number}").pk, text="News")
"""


def test_past_ninety_nine_nobody_counts_until_fewer_are_left(alice, stack, open_tab):
    stack.manage("shell", "--verbosity=0", "-c", MANY)
    eventually(lambda: alice.get("/api/notifications/count").json()["unread"] == 205, seconds=60)
    one, two = open_tab("alice"), open_tab("alice")
    for tab in (one, two):
        tab.counts("more than 99")

    # Most of what a tab holds at first; the rest has to be got for the count to be right.
    for row in alice.get("/api/notifications?limit=120").json()["results"]:
        assert alice.post(f"/api/notifications/{row['id']}/read").status_code == 204
    for tab in (one, two):
        tab.counts(85)


def test_the_bell_is_used_with_the_keyboard_alone(alice, bob, open_tab):
    first, second = item_of(alice, title="By key one"), item_of(alice, title="By key two")
    tab = open_tab("alice")
    tab.counts(0)
    comment(bob, first, "News")
    comment(bob, second, "News")
    tab.counts(2)
    keys = tab.page.keyboard

    tab.tab_to("Notifications, 2 unread")
    keys.press("Enter")
    assert tab.focused() == "Notifications"
    tab.tab_to("Unread. bob commented on “By key two”")
    keys.press("ArrowDown")
    assert tab.focused() == "Unread. bob commented on “By key one”"
    keys.press("ArrowUp")
    tab.tab_to("Mark read “bob commented on “By key two””")
    keys.press("Enter")
    tab.counts(1)
    assert tab.focused().startswith("Mark unread")
    keys.press("Tab")
    assert tab.focused().startswith("Archive")
    keys.press("Enter")
    expect(tab.note("bob commented on “By key two”")).to_have_count(0)
    assert tab.focused() == "Unread. bob commented on “By key one”"

    comment(bob, second, "Comes on top, and takes no focus away")
    expect(tab.note("bob commented on “By key two”")).to_have_count(1)
    assert tab.focused() == "Unread. bob commented on “By key one”"

    keys.press("Escape")
    expect(tab.page.get_by_role("dialog", name="Notifications")).to_be_hidden()
    expect(tab.bell).to_be_focused()
    keys.press("Enter")
    tab.tab_to("Unread. bob commented on “By key one”")
    keys.press("Enter")
    expect(tab.page.get_by_role("heading", name="By key one")).to_be_focused()
    tab.counts(1)


def test_watching_and_muting_on_the_item_are_the_same_in_every_tab(alice, bob, open_tab):
    item = item_of(bob, title="Followed")
    one, two = two_tabs(open_tab, f"/items/{item}")
    watch, mute = (
        lambda tab, name=name: tab.page.get_by_role("button", name=name, exact=True)
        for name in ("Watch", "Mute")
    )
    expect(watch(one)).to_have_attribute("aria-pressed", "false")

    watch(one).click()
    for tab in (one, two):
        expect(watch(tab)).to_have_attribute("aria-pressed", "true")
    assert alice.get(f"/api/items/{item}/watch").json()["watching"] is True
    mute(two).click()
    for tab in (one, two):
        expect(mute(tab)).to_have_attribute("aria-pressed", "true")
    watch(two).click()
    for tab in (one, two):
        expect(watch(tab)).to_have_attribute("aria-pressed", "false")
    found = alice.get(f"/api/items/{item}/watch").json()
    assert (found["watching"], found["muted"]) == (False, True)


def test_who_comments_watches_from_then_on(alice, bob, open_tab):
    item = item_of(bob, title="Joined in")
    one, two = two_tabs(open_tab, f"/items/{item}")
    for tab in (one, two):
        expect(tab.page.get_by_role("button", name="Watch")).to_have_attribute("aria-pressed", "false")

    one.comment("Me too")

    for tab in (one, two):
        expect(tab.page.get_by_role("button", name="Watch")).to_have_attribute("aria-pressed", "true")


def test_preferences_are_changed_in_the_page(alice, bob, open_tab):
    tab = open_tab("alice", timezone_id="Europe/Berlin")
    tab.counts(0)
    tab.open_bell()
    tab.page.get_by_role("button", name="Preferences").click()
    dialog = tab.page.get_by_role("dialog", name="Preferences")

    dialog.get_by_label("A comment on an item of yours").select_option("Not at all")
    dialog.get_by_label("Do not disturb me at night").check()
    dialog.get_by_label("From").fill("23:30")
    dialog.get_by_label("To", exact=True).fill("23:30")
    expect(dialog.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_label("To", exact=True)).to_have_accessible_description(
        "Must differ from the start."
    )
    expect(dialog.get_by_label("To", exact=True)).to_be_focused()
    dialog.get_by_label("To", exact=True).fill("06:45")
    dialog.get_by_label("Time zone").fill("Mars/Olympus")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_label("Time zone")).to_have_accessible_description(
        re.compile("not the name of a time zone")
    )
    assert alice.get("/api/preferences").json()["quiet_hours"] is None

    dialog.get_by_label("Time zone").fill("Europe/Paris")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    tab.says("Preferences saved.")
    saved = alice.get("/api/preferences").json()
    assert saved["types"]["comment"] == "off"
    assert saved["quiet_hours"] == {"start": "23:30", "end": "06:45"}
    assert saved["time_zone"] == "Europe/Paris"

    item = item_of(alice, title="Unheard")
    comment(bob, item, "Nobody is told")
    comment(bob, item, "But of this, @alice")
    tab.counts(1)
    tab.open_bell()
    expect(tab.notes.first).to_have_text("bob mentioned you on “Unheard”")
    expect(tab.note("bob commented on “Unheard”")).to_have_count(0)


def test_an_empty_bell_says_what_comes_in_here(stack, open_tab):
    stack.manage(
        "shell", "--verbosity=0", "-c",
        "from django.contrib.auth.models import User\nUser.objects.create_user('dora', password='demo-dora')",
    )  # fmt: skip
    one, _two = two_tabs(open_tab, user="dora")
    panel = one.open_bell()
    expect(panel.get_by_text("Nothing new.")).to_be_visible()
    expect(panel.get_by_role("button", name="Mark all read")).to_be_hidden()
    expect(panel.get_by_role("button", name="Older")).to_be_hidden()

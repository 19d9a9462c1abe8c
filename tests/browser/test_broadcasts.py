"""Broadcasts on every screen: composed in the admin, followed by two users in two tabs each, also late."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.browser import axe
from tests.browser.tab import Tab
from tests.browser.test_looks import CONTRASTS, LEAST_CONTRAST
from tests.stack import eventually

SOON_SECONDS = 10  # ahead: of a plan that the clock is to begin, of one that is to expire


class Desk:
    """The admin's tab, with Django's admin in it."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page

    def compose(self, message: str, *, to: str = "Everyone", **fields: str) -> None:
        """Fill the form in, from the list on."""
        self.page.goto("/admin/events/broadcast/")
        self.page.get_by_role("link", name="Add broadcast").click()
        self.page.get_by_label("Message").fill(message)
        self.page.get_by_role("radio", name=to, exact=True).check()
        for label, value in fields.items():
            if value in ("Info", "Warning", "Critical"):
                self.page.get_by_role("radio", name=value).check()
            else:
                self.page.get_by_label(label, exact=True).fill(value)

    def review(self) -> None:
        self.page.get_by_role("button", name="Review…").click()

    def send(self) -> None:
        """Review what is composed, and send it."""
        self.review()
        self.page.get_by_role("button", name=re.compile("^(Send now|Schedule)")).click()
        expect(self.page.get_by_text(re.compile("^(Sent|Scheduled)\\.$"))).to_be_visible()

    def change(self, **fields: str) -> None:
        for label, value in fields.items():
            self.page.get_by_label(label).fill(value)
        self.page.get_by_role("button", name="Save").click()
        expect(self.page.get_by_text("Changed.")).to_be_visible()

    def recall(self) -> None:
        self.page.get_by_role("link", name="Recall…").click()
        self.page.get_by_role("button", name="Recall").click()
        expect(self.page.get_by_text("Recalled.")).to_be_visible()


@pytest.fixture
def desk(open_tab):
    return Desk(open_tab("admin", "/admin/", timezone_id="Asia/Kolkata"))


@pytest.fixture(autouse=True)
def nothing_said(stack):
    """Leave nothing on the screens of other tests, nor have anything of theirs counted here."""
    stack.rest()
    yield
    admin = stack.login("admin")
    for row in admin.get("/api/broadcasts?limit=200").json()["results"]:
        if row["state"] in ("live", "scheduled"):
            assert admin.delete(f"/api/broadcasts/{row['id']}").status_code == 204


@pytest.fixture
def screens(open_tab):
    """Two users, two tabs each, live."""
    tabs = [open_tab(user) for user in ("alice", "bob") for _ in range(2)]
    for tab in tabs:
        expect(tab.page.get_by_role("button", name=re.compile("^Notifications, "))).to_be_visible()
    return tabs


def toast(tab, message):
    return tab.page.locator(".toast").filter(has=tab.page.get_by_text(message, exact=True))


def all_show(tabs, message, *, seconds=20):
    for tab in tabs:
        expect(toast(tab, message)).to_be_visible(timeout=seconds * 1000)


def none_shows(tabs, message, *, seconds=20):
    for tab in tabs:
        expect(toast(tab, message)).to_have_count(0, timeout=seconds * 1000)


def moment(seconds):
    """Return a moment ahead, as the form wants it, in the admin's zone."""
    return (datetime.now(ZoneInfo("Asia/Kolkata")) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def test_it_is_composed_with_a_preview_and_shown_until_it_is_recalled(desk, screens, open_tab):
    alice, alices, bob, _ = screens
    desk.compose("Back at noon", Title="Maintenance", Link="https://example.org/x", Severity="Warning")
    preview = desk.page.locator(".composer__preview .toast")
    expect(preview).to_contain_text("Warning")
    expect(preview).to_contain_text("Maintenance")
    expect(preview).to_contain_text("Back at noon")
    expect(desk.page.locator("#estimate")).to_have_text(
        re.compile(r"^About \d users, \d of them connected now\.$")
    )
    none_shows(screens, "Back at noon")

    desk.send()

    all_show(screens, "Back at noon")
    shown = toast(bob, "Back at noon")
    expect(shown.get_by_text("Warning")).to_be_visible()
    expect(shown.get_by_role("link", name="Read more")).to_have_attribute("href", "https://example.org/x")
    expect(shown.get_by_role("link", name="Read more")).to_have_attribute("rel", "noopener noreferrer")
    late = open_tab("carol")
    all_show([late], "Back at noon")

    desk.change(Message="Back at one")
    all_show([*screens, late], "Back at one")
    none_shows([*screens, late], "Back at noon")

    toast(alice, "Back at one").get_by_role("button", name="Dismiss").click()
    none_shows([alice, alices], "Back at one")
    all_show([bob, late], "Back at one")
    alice.page.reload()
    expect(alice.page.get_by_role("button", name=re.compile("^Notifications, "))).to_be_visible()
    none_shows([alice], "Back at one")

    desk.recall()
    none_shows([*screens, late], "Back at one")
    later = open_tab("carol")
    expect(later.page.get_by_role("button", name=re.compile("^Notifications, "))).to_be_visible()
    none_shows([later], "Back at one")


def test_the_clock_begins_a_plan_and_it_expires_by_itself(desk, screens, open_tab):
    desk.compose("For a moment")
    desk.page.get_by_label("Starts").fill(moment(SOON_SECONDS))
    desk.page.get_by_label("Expires").fill(moment(2 * SOON_SECONDS))
    desk.send()
    expect(desk.page.get_by_text("scheduled", exact=True)).to_be_visible()
    none_shows(screens, "For a moment", seconds=1)

    all_show(screens, "For a moment", seconds=SOON_SECONDS + 20)

    none_shows(screens, "For a moment", seconds=SOON_SECONDS + 20)
    late = open_tab("carol")
    expect(late.page.get_by_role("button", name=re.compile("^Notifications, "))).to_be_visible()
    none_shows([late], "For a moment")
    desk.page.goto("/admin/events/broadcast/?state=expired")
    expect(desk.page.locator("#result_list")).to_contain_text("For a moment")


def test_only_its_audience_sees_it(desk, screens):
    alice, alices, *bobs = screens
    desk.compose("For alice alone", to="Users")
    desk.page.locator("#id_users").fill("alice")
    desk.send()

    all_show([alice, alices], "For alice alone")
    none_shows(bobs, "For alice alone")


IN_CREW = (
    "from django.contrib.auth.models import Group, User;"
    "User.objects.get(username='bob').groups.{}(Group.objects.get_or_create(name='crew')[0])"
)


def test_who_joins_a_group_sees_what_it_was_told_and_who_leaves_it_does_not(stack, open_tab):
    stack.manage("shell", "--verbosity=0", "-c", IN_CREW.format("remove"))
    bob = open_tab("bob")
    said = {"message": "For the crew", "audience": {"groups": ["crew"]}}
    assert stack.login("admin").post("/api/broadcasts", json=said).status_code == 201
    # Not wait_for_function: what it asks again, the page's policy refuses.
    asked = "performance.getEntriesByType('resource').some(({name}) => name.includes('active'))"
    eventually(lambda: bob.page.evaluate(asked))
    none_shows([bob], "For the crew")

    stack.manage("shell", "--verbosity=0", "-c", IN_CREW.format("add"))
    all_show([bob], "For the crew")

    stack.manage("shell", "--verbosity=0", "-c", IN_CREW.format("remove"))
    none_shows([bob], "For the crew")


def test_in_the_bell_it_counts_and_is_read_and_put_away_in_every_tab(stack, desk, open_tab):
    client = stack.login("bob")
    client.post("/api/notifications/read-all")
    one, two = open_tab("bob"), open_tab("bob")
    for tab in (one, two):
        tab.counts(0)
    desk.compose("Look here", Title="News")
    desk.send()
    for tab in (one, two):
        tab.counts(1)
    one.open_bell()
    note = one.page.locator(".note").filter(has_text="News — Look here")
    expect(note).to_have_count(1)

    note.get_by_role("button", name=re.compile("^Mark read")).click()
    for tab in (one, two):
        tab.counts(0)
    all_show([two], "Look here")
    note.get_by_role("button", name=re.compile("^Archive")).click()

    expect(note).to_have_count(0)
    none_shows([one, two], "Look here")


def test_critical_is_said_at_once_and_goes_by_its_own_button(desk, open_tab):
    tab = open_tab("bob")
    expect(tab.page.get_by_role("button", name=re.compile("^Notifications, "))).to_be_visible()
    desk.compose("Read the news")
    desk.send()
    desk.compose("Leave the house", Severity="Critical")
    desk.send()
    expect(tab.page.get_by_role("alert").filter(has_text="Leave the house")).to_be_visible()
    expect(tab.page.get_by_role("status").filter(has_text="Read the news")).to_be_visible()
    assert tab.page.locator(".toast").first.text_content().startswith("Critical")

    tab.tab_to("Dismiss “Leave the house”")
    tab.page.keyboard.press("Escape")
    expect(toast(tab, "Leave the house")).to_be_visible()
    tab.tab_to("Dismiss “Read the news”")
    tab.page.keyboard.press("Escape")
    none_shows([tab], "Read the news")
    assert tab.focused().startswith("Dismiss “Leave the house”"), "the focus is not lost"
    tab.page.keyboard.press("Enter")
    none_shows([tab], "Leave the house")


def test_many_are_a_stack_of_few(stack, open_tab):
    admin = stack.login("admin")
    for number in range(5):
        said = {"message": f"Number {number}", "audience": {"all": True}}
        assert admin.post("/api/broadcasts", json=said).status_code == 201
    tab = open_tab("bob")

    expect(tab.page.locator(".toast:visible")).to_have_count(3)
    all_show([tab], "Number 4")
    tab.page.get_by_role("button", name="2 more").click()
    expect(tab.page.locator(".toast:visible")).to_have_count(5)
    assert tab.focused() == "Dismiss “Number 1”"


def test_what_a_user_wants_to_hear_of_none_of_is_not_shown_but_what_is_critical_is(stack, open_tab):
    admin, bob = stack.login("admin"), stack.login("bob")
    tab = open_tab("bob")
    tab.counts(len(bob.get("/api/notifications?unread=true&limit=200").json()["results"]))
    try:
        assert bob.put("/api/preferences", json={"types": {"broadcast": "off"}}).status_code == 204
        for message, severity in (("Cake", "info"), ("Fire", "critical")):
            said = {"message": message, "severity": severity, "audience": {"all": True}}
            assert admin.post("/api/broadcasts", json=said).status_code == 201
        all_show([tab], "Fire")
        none_shows([tab], "Cake")
        tab.page.reload()
        all_show([tab], "Fire")
        none_shows([tab], "Cake")
    finally:
        bob.put("/api/preferences", json={"types": {"broadcast": "live"}})


NOTED = """() => {
  window.shown = [];
  const note = ({ addedNodes }) => addedNodes.forEach((each) => window.shown.push(each.textContent ?? ""));
  const observer = new MutationObserver((changes) => changes.forEach(note));
  observer.observe(document, { childList: true, subtree: true });
}"""


@pytest.mark.parametrize("way", ["off", "live"])
def test_until_it_is_known_what_one_wishes_nothing_is_shown_that_may_be_unwished_and_nothing_lost(
    stack, open_tab, way
):
    admin, bob, held = stack.login("admin"), stack.login("bob"), []
    bob.post("/api/notifications/read-all")
    bob.put("/api/preferences", json={"types": {"broadcast": way}})
    tab = open_tab()
    tab.log_in("bob")
    tab.page.add_init_script(f"({NOTED})()")

    def hold(route):  # the answer does not come
        held.append(route)

    tab.page.route("**/api/preferences", hold)
    try:
        tab.page.goto("/")
        tab.counts(0)
        for message, severity in (("Fire", "critical"), ("Cake", "info"), ("Flood", "critical")):
            said = {"message": message, "severity": severity, "audience": {"all": True}}
            assert admin.post("/api/broadcasts", json=said).status_code == 201
        all_show([tab], "Fire")
        all_show([tab], "Flood")
        tab.counts(2 if way == "off" else 3)
        if way == "live":
            all_show([tab], "Cake")
        assert held, "nobody asked what is wished, so this tests nothing"
        assert any("Cake" in text for text in tab.page.evaluate("window.shown")) == (way == "live")
    finally:
        bob.put("/api/preferences", json={"types": {"broadcast": "live"}})
        for route in held:
            route.abort()


def test_a_link_that_is_none_of_the_webs_is_no_link(stack, open_tab):
    """The server takes none; what an older log may hold is not made one either."""
    tab = open_tab("bob")
    said = {
        "id": "1", "title": "", "message": "Click", "severity": "info", "link": "javascript:alert(1)",
        "starts_at": "2026-01-01T00:00:00Z", "expires_at": None, "state": "live",
    }  # fmt: skip
    tab.page.route("**/api/broadcasts/active", lambda route: route.fulfill(json={"results": [said]}))
    tab.page.reload()

    all_show([tab], "Click")
    expect(toast(tab, "Click").get_by_role("link")).to_have_count(0)


def test_a_dismissal_that_did_not_arrive_says_so_and_can_be_tried_again(stack, open_tab):
    admin = stack.login("admin")
    admin.post("/api/broadcasts", json={"message": "Stay", "audience": {"all": True}})
    tab = open_tab("bob")
    all_show([tab], "Stay")
    tab.page.route("**/dismiss", lambda route: route.abort())
    dismiss = toast(tab, "Stay").get_by_role("button", name="Dismiss")

    dismiss.click()
    expect(toast(tab, "Stay")).to_contain_text("cannot be reached")
    tab.page.unroute("**/dismiss")
    dismiss.click()

    none_shows([tab], "Stay")


def test_the_form_says_beside_the_field_what_is_wrong(desk, screens):
    desk.compose("Never sent", Starts="2001-01-01T00:00")
    desk.review()
    expect(desk.page.locator(".field-starts_at")).to_contain_text("Is in the past.")
    desk.compose("Never sent", Starts=moment(7200), Expires=moment(3600))
    desk.review()
    expect(desk.page.locator(".field-expires_at")).to_contain_text("Must be after the start.")
    for to, field in (("Groups", "groups"), ("Users", "users"), ("An item's watchers", "item")):
        desk.compose("Never sent", to=to)
        desk.review()
        expect(desk.page.locator(f".field-{field}")).to_contain_text("Say whom it is for.")

    none_shows(screens, "Never sent", seconds=1)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_the_admins_pages_can_be_read_on_a_phone_and_on_a_desk(open_tab, scheme, width):
    desk = Desk(open_tab("admin", "/admin/", color_scheme=scheme, viewport={"width": width, "height": 720}))
    desk.compose("Half a thought", to="Groups", Severity="Critical")
    desk.review()
    expect(desk.page.locator(".field-groups")).to_contain_text("Say whom it is for.")
    assert barred(desk) == []
    desk.compose("A whole one", Severity="Warning", Link="https://example.org/x", Title="News")
    desk.review()
    assert barred(desk) == []
    desk.page.get_by_role("button", name="Send now").click()
    desk.page.get_by_role("link", name="History").click()
    assert barred(desk) == []


def barred(desk):
    """Return what is hard to read in the part of the page that is ours, and what axe-core has against it."""
    contrasts = desk.page.evaluate(CONTRASTS)
    assert contrasts
    before = list(desk.tab.faults)
    grave = axe.grave_faults(desk.tab)
    desk.tab.faults[:] = before  # axe-core tries styles of its own, which the policy forbids
    ours = desk.page.evaluate("document.querySelector('.composer').scrollWidth - window.innerWidth")
    return [
        *(found for found in contrasts if found[0] < LEAST_CONTRAST and "toast" in found[1]),
        *([f"{ours} px too wide"] if ours > 0 else []),
        *grave,
    ]

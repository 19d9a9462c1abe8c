"""Broadcasts in Django's admin: composed, reviewed, sent, changed and recalled, by the rules of the API."""

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import broadcasts, edge, marks, preferences
from events.models import Broadcast, Event
from tests.events.support import events_on, types_on
from tests.events.test_broadcasts import HELLO, begin_at, soon

LIST = "/admin/events/broadcast/"
ADD = f"{LIST}add/"


@pytest.fixture
def admin(users):
    client = Client()
    client.force_login(users.admin, backend="events.logins.Backend")
    return client


def typed(**more):
    said = {
        "severity": "warning", "title": "News", "message": "Back at noon", "link": "https://example.org/x",
        "to": "all", "users": "", "item": "", "starts_at": "", "expires_at": "", "time_zone": "UTC",
        "broadcast_id": str(uuid4()),
    }  # fmt: skip
    return {**said, **more}


def send(client, **more):
    return client.post(ADD, {**typed(**more), "_send": "1"})


def shown(answer, status=200):
    """Return the page's words, without its tags."""
    assert answer.status_code == status, answer.content
    text = re.sub(r"<(script|style|nav).*?</\1>", "", answer.content.decode(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def faults(answer):
    """Return the fields that a form's errors stand beside, with the first of each."""
    found = {}
    for row in answer.content.decode().split('<div class="form-row')[1:]:
        error = re.search(r'class="errorlist"[^>]*><li>(.*?)</li>', row)
        if error:
            found[re.search(r'data-field="(\w+)"', row)[1]] = unescape(error[1])
    return found


def path_of(broadcast, more=""):
    return f"{LIST}{broadcast.pk}/{more or 'change/'}"


def nobody_was_told():
    return not Event.objects.filter(type__in=["BroadcastPlanned", "SystemAlert"]).exists()


# --- Compose, review, send -----------------------------------------------------------------------


def test_it_is_reviewed_before_it_is_sent(users, admin):
    assert "Compose a broadcast" in shown(admin.get(ADD))
    form = typed()

    review = admin.post(ADD, form)

    words = shown(review)
    assert "Review, then send" in words
    assert "This goes to everyone" in words
    assert "About 4 users" in words
    assert "Back at noon" in words
    assert nobody_was_told()
    hidden = dict(
        re.findall(r'name="(\w+)" value="([^"]*)"', review.content.decode().partition("novalidate")[2])
    )
    assert hidden["broadcast_id"] == form["broadcast_id"]
    hidden.pop("_back")

    sent = admin.post(ADD, {**hidden, "_send": "Send"})

    assert sent.status_code == 302, faults(sent)
    broadcast = Broadcast.objects.get()
    assert sent["Location"] == path_of(broadcast)
    assert broadcast.author_id == users.admin.pk
    [(kind, data)] = events_on("system")
    assert (kind, data["message"], data["severity"]) == ("SystemAlert", "Back at noon", "warning")


def test_a_form_that_is_sent_twice_says_it_once(users, admin):
    form = typed()

    for _ in range(2):
        assert admin.post(ADD, {**form, "_send": "1"}).status_code == 302

    assert types_on("system") == ["SystemAlert"]


def test_one_that_was_sent_and_is_sent_again_in_other_words_is_refused_and_not_lost_silently(users, admin):
    form = typed()
    admin.post(ADD, {**form, "_send": "1"})

    again = admin.post(ADD, {**form, "message": "Back at one", "_send": "1"})

    assert again.status_code == 200
    assert "was sent before, with other words" in shown(again)
    assert "Back at one" in again.content.decode()
    assert types_on("system") == ["SystemAlert"]


def test_one_sent_twice_at_once_says_it_once(users, held, background):
    broadcast_id = uuid4()

    def work():
        broadcasts.send(users.admin, HELLO, broadcast_id=broadcast_id)

    with held(work):
        second = background(work)
    second.result(20)

    assert types_on("system") == ["SystemAlert"]


def test_from_the_review_one_comes_back_to_what_one_typed(users, admin):
    back = admin.post(ADD, {**typed(message="Half a thou"), "_back": "Change"})

    assert "Half a thou" in back.content.decode()
    assert "Compose a broadcast" in shown(back)
    assert faults(back) == {}
    assert nobody_was_told()


def test_times_are_of_the_zone_that_the_form_names(users, admin):
    starts = (timezone.now() + timedelta(days=40)).replace(hour=12, minute=30, second=0, microsecond=0)
    local = {"starts_at": starts.strftime("%Y-%m-%dT%H:%M"), "time_zone": "Asia/Kolkata"}

    review = admin.post(ADD, typed(**local))
    assert f"{starts:%Y}, 12:30 Asia/Kolkata" in shown(review)
    assert send(admin, **local).status_code == 302

    broadcast = Broadcast.objects.get()
    assert broadcasts.state(broadcast) == "scheduled"
    assert broadcast.starts_at == starts.replace(hour=7, minute=0)
    assert nobody_was_told() is False
    assert types_on("system") == []


def test_the_zone_is_the_preferences_or_the_browsers(users, admin):
    assert "Times are of UTC" in shown(admin.get(LIST))
    admin.cookies["tickertape_zone"] = "Europe/Berlin"
    assert "Times are of Europe/Berlin" in shown(admin.get(LIST))
    admin.cookies["tickertape_zone"] = "../../etc/passwd"
    assert "Times are of UTC" in shown(admin.get(LIST))
    preferences.change(users.admin, time_zone="Asia/Tokyo")
    assert "Times are of Asia/Tokyo" in shown(admin.get(LIST))
    assert '<option value="Asia/Tokyo" selected' in admin.get(ADD).content.decode()


@pytest.mark.parametrize(
    ("to", "heard"),
    [
        ({"to": "groups", "groups": ["crew"]}, ["group:crew"]),
        ({"to": "users", "users": "bob,\n carol"}, ["user:bob", "user:carol"]),
        ({"to": "item", "item": "{item}"}, ["user:alice"]),
    ],
)
def test_to_whom(users, admin, item, to, heard):
    group = Group.objects.create(name="crew")
    if "groups" in to:
        to = {**to, "groups": [group.pk]}
    if "item" in to:
        to = {**to, "item": str(item.pk)}

    assert send(admin, **to).status_code == 302

    for channel in heard:
        kind, _, key = channel.partition(":")
        found = types_on(channel if kind == "group" else f"user:{getattr(users, key).pk}")
        assert "SystemAlert" in found
    assert types_on("system") == []


def test_how_many_are_connected_is_said_where_it_is_known(users, admin, monkeypatch):
    monkeypatch.setattr(edge, "_connected", lambda: {users.bob.pk, users.carol.pk})
    estimate = f"{LIST}estimate/"

    def words(**more):
        return admin.post(estimate, typed(**more)).json()["words"]

    assert words() == "About 4 users, 2 of them connected now."
    assert words(to="users", users="bob, alice", message="") == "About 2 users, 1 of them connected now."
    assert words(to="users", users="nobody") == ""
    assert words(to="groups") == ""
    monkeypatch.setattr(edge, "_connected", lambda: None)
    assert words() == "About 4 users; who is connected now is unknown."
    assert admin.get(estimate).status_code == 405
    assert nobody_was_told()


def minute(**ahead):
    return (timezone.now() + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"message": "  "}, {"message": "Must not be blank."}),
        ({"message": "x" * 5_001}, {"message": "Must have at most 5000 characters."}),
        ({"title": "x" * 201}, {"title": "Must have at most 200 characters."}),
        ({"link": "javascript:alert(1)"}, {"link": None}),
        ({"severity": "loud"}, {"severity": None}),
        ({"to": ""}, {"to": "Say whom it is for."}),
        ({"to": "nobody"}, {"to": None}),
        ({"to": "groups"}, {"groups": "Say whom it is for."}),
        ({"to": "groups", "groups": ["999"]}, {"groups": None}),
        ({"to": "users", "users": " , "}, {"users": "Say whom it is for."}),
        ({"to": "users", "users": "bob, nobody"}, {"users": "There is no active user nobody."}),
        ({"to": "item", "item": "999999"}, {"item": "There is no such item."}),
        ({"to": "item", "item": "x"}, {"item": None}),
        ({"to": "item"}, {"item": "Say whom it is for."}),
        ({"starts_at": "2001-01-01T00:00"}, {"starts_at": "Is in the past."}),
        ({"starts_at": "soon"}, {"starts_at": None}),
        (
            {"starts_at": minute(hours=2), "expires_at": minute(hours=1)},
            {"expires_at": "Must be after the start."},
        ),
        ({"expires_at": minute(hours=-1)}, {"expires_at": None}),
        ({"time_zone": "Moon/Base"}, {"time_zone": None}),
    ],
)
@pytest.mark.parametrize("step", ["_send", "review"])
def test_what_cannot_be_is_refused_beside_the_field_and_nobody_is_told(users, admin, more, said, step):
    answer = admin.post(ADD, {**typed(**more), step: "1"})

    assert answer.status_code == 200
    found = faults(answer)
    assert list(found) == list(said)
    for field, message in said.items():
        assert message in (None, found[field])
    assert nobody_was_told()


def test_what_is_typed_is_never_markup(users, admin):
    evil = '"><script>alert(1)</script>'
    for page in (
        admin.post(ADD, typed(title=evil, message=evil)),
        admin.post(ADD, typed(title=evil, message=evil, link="javascript:alert(1)")),
    ):
        assert "<script>alert" not in page.content.decode()
        assert 'href="javascript' not in page.content.decode()
    send(admin, title=evil, message=evil)
    broadcast = Broadcast.objects.get()
    for path in (LIST, path_of(broadcast), path_of(broadcast, "recall/"), path_of(broadcast, "history/")):
        page = admin.get(path).content.decode()
        assert "alert(1)" in page
        assert "<script>alert" not in page


# --- Afterwards --------------------------------------------------------------------------------------


def test_the_list_says_how_each_stands(users, admin, monkeypatch):
    Group.objects.create(name="crew")
    live = broadcasts.send(users.admin, replace(HELLO, title="A live one"))
    broadcasts.send(
        users.admin, replace(HELLO, message="A plan", starts_at=soon(hours=1), audience=("group:crew",))
    )
    gone = broadcasts.send(users.admin, replace(HELLO, message="Taken back"))
    broadcasts.recall(users.admin, gone.pk)
    old = broadcasts.send(users.admin, replace(HELLO, message="An old one", expires_at=soon(hours=1)))
    Broadcast.objects.filter(pk=old.pk).update(expires_at=soon(seconds=-1))
    marks.dismiss(users.bob, live.pk)
    monkeypatch.setattr(edge, "_delivered", lambda ids: dict.fromkeys(ids, 1234))

    words = shown(admin.get(LIST))
    for part in (
        "A live one",
        "A plan",
        "group crew",
        "everyone",
        "1234",
        "scheduled",
        "recalled",
        "expired",
    ):
        assert part in words
    for state, title in (
        ("live", "A live one"), ("scheduled", "A plan"), ("recalled", "Taken back"), ("expired", "An old one")
    ):  # fmt: skip
        page = admin.get(f"{LIST}?state={state}")
        rows = re.findall(r'field-what"><a[^>]*>(.*?)</a>', page.content.decode())
        assert rows == [title]
    row = re.search(r'field-dismissed">(.*?)<', admin.get(f"{LIST}?state=live").content.decode())
    assert row[1] == "1"
    monkeypatch.setattr(edge, "_delivered", lambda ids: None)
    assert 'field-delivered">unknown<' in admin.get(LIST).content.decode()


def test_the_list_asks_for_all_names_at_once(users, admin):
    asked = []
    for _ in range(2):
        for person in (users.alice, users.bob, users.carol):
            send(admin, to="users", users=person.username)
        with CaptureQueriesContext(connection) as queries:
            assert "carol" in shown(admin.get(LIST))
        asked.append(len(queries))

    assert asked[0] == asked[1]


def test_many_users_are_named_in_part(users, admin):
    for n in range(5):
        User.objects.create_user(f"u{n}")
    send(admin, to="users", users="alice,bob,u0,u1,u2,u3,u4")
    User.objects.filter(username="alice").delete()

    assert f"user {users.alice.pk}, bob, u0, u1, u2 and 2 more" in shown(admin.get(LIST))


def test_a_live_one_is_changed_but_for_whom_it_was_for(users, admin):
    broadcast = broadcasts.send(users.admin, HELLO)
    page = admin.get(path_of(broadcast)).content.decode()
    assert 'data-field="message"' in page
    assert 'data-field="to"' not in page
    assert 'data-field="starts_at"' not in page

    changed = admin.post(
        path_of(broadcast), typed(message="Goodbye", to="users", users="bob", expires_at=minute(hours=1))
    )

    assert changed.status_code == 302, faults(changed)
    assert types_on("system") == ["SystemAlert", "SystemAlertUpdated"]
    broadcast.refresh_from_db()
    assert (broadcast.message, broadcast.audience) == ("Goodbye", ["system"])
    assert broadcast.expires_at is not None


def test_a_plan_is_changed_whole_and_shown_as_it_was(users, admin, item):
    starts = soon(hours=5)
    broadcast = broadcasts.send(
        users.admin,
        replace(HELLO, starts_at=starts, audience=(f"user:{users.bob.pk}", f"user:{users.carol.pk}")),
    )
    page = admin.get(path_of(broadcast)).content.decode()
    assert "bob, carol" in page
    assert f'value="{starts:%Y-%m-%dT%H:%M}' in page
    same = {
        "severity": "info", "title": "", "message": "Hello", "link": "", "to": "users", "users": "carol,bob",
        "starts_at": starts.strftime("%Y-%m-%dT%H:%M:%S"), "broadcast_id": str(broadcast.pk),
    }  # fmt: skip
    before = Event.objects.count()
    assert admin.post(path_of(broadcast), typed(**same)).status_code == 302
    assert Event.objects.count() == before, "nothing differs, nothing is recorded"

    assert (
        admin.post(path_of(broadcast), typed(**{**same, "to": "item", "item": str(item.pk)})).status_code
        == 302
    )

    broadcast.refresh_from_db()
    assert broadcast.audience == [f"item:{item.pk}"]
    assert types_on(f"user:{users.bob.pk}") == []


def test_a_change_that_cannot_be_is_refused_beside_the_field(users, admin):
    broadcast = broadcasts.send(users.admin, HELLO)

    answer = admin.post(path_of(broadcast), typed(expires_at="2001-01-01T00:00"))

    assert list(faults(answer)) == ["expires_at"]
    assert types_on("system") == ["SystemAlert"]


def test_one_that_ended_meanwhile_is_not_changed(users, admin, monkeypatch):
    broadcast = broadcasts.send(users.admin, HELLO)
    change = broadcasts.change

    def late(*arguments, **more):
        broadcasts.recall(users.admin, broadcast.pk)
        return change(*arguments, **more)

    monkeypatch.setattr(broadcasts, "change", late)

    assert "This broadcast is over" in shown(admin.post(path_of(broadcast), typed(message="Goodbye")))
    assert types_on("system") == ["SystemAlert", "SystemAlertRecalled"]


def test_a_recall_asks_first(users, admin):
    broadcast = broadcasts.send(users.admin, HELLO)
    assert "Recall this broadcast?" in shown(admin.get(path_of(broadcast, "recall/")))
    assert types_on("system") == ["SystemAlert"]

    assert admin.post(path_of(broadcast, "recall/")).status_code == 302

    assert types_on("system") == ["SystemAlert", "SystemAlertRecalled"]
    page = admin.get(path_of(broadcast))
    assert "recalled" in shown(page)
    assert 'data-field="message"' not in page.content.decode()
    assert "recall/" not in page.content.decode()


def test_its_history_says_who_did_what(users, admin):
    other = User.objects.create_superuser("dora", password="x")
    broadcast = broadcasts.send(users.admin, replace(HELLO, starts_at=soon(hours=1)))
    broadcasts.change(other, broadcast.pk, title="News")
    begin_at(soon(seconds=-1))
    broadcasts.change(other, broadcast.pk, message="Goodbye", expires_at=soon(hours=3))
    broadcasts.recall(other, broadcast.pk)

    page = admin.get(path_of(broadcast, "history/"))

    rows = re.findall(r"<tr>\s*<th scope=\"row\">.*?</tr>", page.content.decode(), re.DOTALL)
    said = [" ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in rows]
    assert said[0].endswith("admin Composed")
    assert said[1].endswith("dora Changed the plan Title: nothing News")
    assert "admin Told its audience" in said[2]
    assert "dora Changed Message: Hello Goodbye Expires: nothing" in said[3]
    assert said[4].endswith("dora Recalled")


# --- Who may -------------------------------------------------------------------------------------------


def staff(name, *permissions):
    user = User.objects.create_user(name, password="x", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user, backend="events.logins.Backend")
    return client


def test_a_role_lets_them_broadcast(users):
    role = Group.objects.create(name="heralds")
    role.permissions.add(Permission.objects.get(codename="can_broadcast"))
    herald = staff("herald")
    User.objects.get(username="herald").groups.add(role)

    assert send(herald).status_code == 302
    broadcast = Broadcast.objects.get()
    assert herald.get(LIST).status_code == herald.get(path_of(broadcast)).status_code == 200
    assert herald.post(path_of(broadcast, "recall/")).status_code == 302


def test_others_may_look_at_most(users):
    broadcast = broadcasts.send(users.admin, HELLO)
    looker, nobody = staff("looker", "view_broadcast"), staff("nobody")
    before = Event.objects.count()

    for path in (LIST, path_of(broadcast), path_of(broadcast, "history/")):
        assert looker.get(path).status_code == 200
        assert nobody.get(path).status_code == 403
        assert Client().get(path).status_code == 302
    assert 'data-field="message"' not in looker.get(path_of(broadcast)).content.decode()
    for client in (looker, nobody):
        assert client.get(ADD).status_code == 403
        assert send(client).status_code == 403
        assert client.post(f"{LIST}estimate/", typed()).status_code == 403
        assert client.get(path_of(broadcast, "recall/")).status_code == 403
        assert client.post(path_of(broadcast, "recall/")).status_code == 403
    looker.post(path_of(broadcast), typed(message="Goodbye"))
    assert Event.objects.count() == before


def test_an_unknown_one_is_not_found(users, admin):
    for more in ("change/", "recall/", "history/"):
        assert admin.get(f"{LIST}{uuid4()}/{more}").status_code in (302, 404)


def test_the_pages_need_nothing_that_the_policy_forbids(users, admin):
    broadcast = broadcasts.send(users.admin, HELLO)
    for path in (
        LIST,
        ADD,
        path_of(broadcast),
        path_of(broadcast, "history/"),
        path_of(broadcast, "recall/"),
    ):
        answer = admin.get(path)
        assert "unsafe" not in answer["Content-Security-Policy"]
        page = answer.content.decode()
        assert not re.search(r"<[^>]+\sstyle=", page)
        assert not re.search(r"<[^>]+\son\w+=", page)
        for inline in re.findall(r"<script(?![^>]*src=)[^>]*>", page):
            assert 'type="application/json"' in inline

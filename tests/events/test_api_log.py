"""The log over HTTP: staff who may view events find in it what they ask for, and nobody else anything."""

from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection

from events import log, search
from events.patience import PatientConnection
from events.rest import next_token
from tests.events.support import code_of, fields_of
from tests.events.test_search import append


@pytest.fixture
def auditor(database):
    user = User.objects.create_user("auditor", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_event"))
    return user


@pytest.fixture
def look(api, auditor):
    client = api()
    client.log_in("auditor", "x")
    return lambda **asked: client.get("/api/events?" + urlencode(asked, doseq=True))


def ns(answer):
    assert answer.status_code == 200, answer.content
    return [each["data"]["n"] for each in answer.json()["results"]]


@pytest.fixture
def tape(auditor):
    """Events in two channels, one told by another, and one that is not placed."""
    first = append(1, actor_id=7)
    append(2, "item:2", kind="Counted")
    append(3, "user:7", caused_by=first)
    log.place()
    append(4)
    return first


def test_each_part_of_a_question_narrows_it(look, tape):
    assert ns(look(limit=3)) == [3, 2, 1]
    assert ns(look(channel=["item:1", "item:2"])) == [2, 1]
    assert ns(look(type="Counted")) == [2]
    assert ns(look(actor_id=7)) == [1]
    assert ns(look(family_of=tape)) == [3, 1]
    assert ns(look(since="2999-01-01T00:00:00Z")) == []
    assert ns(look(until="2000-01-01T00:00:00Z")) == []
    ends = {"since": "0001-01-01T00:00:00+14:00", "until": "9999-12-31T23:59:59-14:00"}
    assert ns(look(type="Counted", channel="item:2", **ends)) == [2]


def test_an_event_is_whole_and_its_ids_are_strings(look, tape):
    answer = look(type="Noted", limit=1).json()
    [event] = answer["results"]
    position = str(log.head().position)
    assert event.pop("created_at")
    assert event | {"id": ""} == {
        "position": position, "id": "", "type": "Noted", "version": 1, "channels": ["user:7"],
        "actor_id": None, "caused_by": str(tape), "data": {"n": 3},
    }  # fmt: skip
    assert answer["cursor"].endswith(f"-{position}")


def test_page_by_page_it_is_all_there_once(look, tape):
    first = look(limit=2)
    append(5)
    log.place()
    assert ns(first) == [3, 2]
    assert ns(look(limit=1, after=first.json()["next"])) == [1]


def test_a_page_has_an_end_before_it_is_too_large_and_the_next_goes_on(look, tape):
    for n in range(10, 14):
        append(n, "item:9", data={"text": "x" * 600_000})
    log.place()
    first = look(channel="item:9", limit=3)
    assert ns(first) == [13, 12]
    assert ns(second := look(channel="item:9", after=first.json()["next"])) == [11, 10]
    assert second.json()["next"] is None


def test_a_page_of_which_the_oldest_went_meanwhile_has_a_next_that_is_empty(look, tape, monkeypatch):
    real = search.whole

    def late(positions):
        monkeypatch.setattr(search, "whole", real)
        log.prune(positions[-1])
        return real(positions)

    monkeypatch.setattr(search, "whole", late)
    first = look(type=["Noted", "Counted"])
    assert ns(first) == [3, 2]
    assert ns(look(type=["Noted", "Counted"], after=first.json()["next"])) == []


def test_what_is_placed_meanwhile_is_not_below_the_cursor_and_not_in_the_page(look, tape, monkeypatch):
    real = log.head

    def early():
        monkeypatch.setattr(log, "head", real)
        head = real()
        log.place()
        return head

    for asked in ({}, {"after": next_token(10**9)}):
        append(5)
        monkeypatch.setattr(log, "head", early)
        answer = look(limit=1, **asked).json()
        assert answer["cursor"].endswith(f"-{answer['results'][0]['position']}")


def test_what_takes_too_long_is_said_before_the_request_gives_its_connection_up(
    look, tape, held, settings, monkeypatch
):
    settings.DATABASE_ANSWER_SECONDS = 4.0  # of which a tenth is left for the answer

    def lock():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE events_channelposition")

    with held(lock):
        connection.close()  # the next is one as requests have it
        monkeypatch.setattr("psycopg.connect", PatientConnection.connect)
        answer = look(channel="item:1")
        connection.close()
    assert code_of(answer, 503) == "unavailable"
    assert answer.json()["detail"] == "This takes more than 3.6 s: ask for a channel, or less."


@pytest.mark.parametrize("who", ["alice", "staff", "viewer"])
def test_nobody_else_finds_anything(api, auditor, tape, who):
    permission = Permission.objects.get(codename="view_event")
    User.objects.create_user("staff", password="x", is_staff=True)
    User.objects.create_user("viewer", password="x").user_permissions.add(permission)
    client = api()
    client.log_in(who, "" if who == "alice" else "x")
    assert code_of(client.get("/api/events"), 403) == "log_forbidden"
    assert code_of(api().get("/api/events"), 401) == "not_logged_in"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"after": "x"}, "after"),
        ({"actor_id": 2**63}, "actor_id"),
        ({"family_of": 0}, "family_of"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-21T10:00:00"}, "since"),
        ({"channel": "item:1\x00"}, "channel.0"),
        ({"channel": ["item:1", "item 1"]}, "channel.1"),
        ({"type": ["A", ""]}, "type.1"),
        ({"type": "noted"}, "type.0"),
        ({"since": "10000-01-01T00:00:00Z"}, "since"),
    ],
)
def test_what_cannot_be_asked_is_named(look, asked, field):
    assert fields_of(look(**asked), 422) == [field]

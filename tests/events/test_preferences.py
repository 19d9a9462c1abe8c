"""Preferences: how somebody wants to be told, and when to be left in peace."""

from datetime import UTC, datetime

import pytest

from events import erasure, preferences, registry
from events.kinds import KINDS
from events.models import Event, Preferences
from events.preferences import Choice
from tests.events.support import events_on, fields_of, types_on


def chosen(client):
    answer = client.get("/api/preferences")
    assert answer.status_code == 200
    return {name: value for name, value in answer.json().items() if name != "cursor"}


def test_by_default_all_is_live(users, api):
    live = dict.fromkeys(KINDS, "live")

    assert chosen(api("alice")) == {
        "types": live, "quiet_hours": None, "time_zone": "UTC", "presence": "shown"
    }  # fmt: skip


def test_what_is_chosen_is_an_event_and_what_is_left_out_stays(users, api):
    client, quiet = api("alice"), {"start": "22:00", "end": "07:00"}
    for body in (
        {"types": {"watch": "digest", "job": "off"}},
        {"quiet_hours": quiet, "time_zone": "Europe/Berlin"},
        {"types": {"job": "live"}},
        {"presence": "hidden"},
        {"presence": "hidden"},
        {},
        {"types": {"job": "live"}},
    ):
        answer = client.put("/api/preferences", body)
        assert (answer.status_code, answer.content) == (204, b"")

    types = {**dict.fromkeys(KINDS, "live"), "watch": "digest"}
    assert chosen(client) == {
        "types": types, "quiet_hours": quiet, "time_zone": "Europe/Berlin", "presence": "hidden"
    }  # fmt: skip
    events = events_on(f"user:{users.alice.pk}")
    assert [name for name, _ in events] == ["PreferencesChanged"] * 4
    assert events[-1][1] == {
        "user_id": str(users.alice.pk),
        "types": {"watch": "digest", "job": "live"},
        "quiet_start": "22:00",
        "quiet_end": "07:00",
        "time_zone": "Europe/Berlin",
        "presence": "hidden",
    }
    client.put("/api/preferences", {"quiet_hours": None})
    assert chosen(client)["quiet_hours"] is None


def test_what_was_chosen_before_one_could_hide_reads_as_shown(users):
    old = {"user_id": "7", "types": {}, "quiet_start": None, "quiet_end": None, "time_zone": "UTC"}

    event = registry.decode("PreferencesChanged", 1, registry.encode(old))

    assert (event.version, event.presence) == (2, "shown")


BAD = {
    "types.nonsense": {"types": {"nonsense": "live"}},
    "types.comment": {"types": {"comment": "loud"}},
    "types": {"types": ["comment"]},
    "quiet_hours.start": {"quiet_hours": {"start": "24:00", "end": "07:00"}},
    "quiet_hours.end": {"quiet_hours": {"start": "07:00", "end": "07:00"}},
    "quiet_hours": {"quiet_hours": "22-7"},
    "time_zone": {"time_zone": "Mars/Olympus"},
    "colour": {"colour": "red"},
}
MORE_BAD = [
    ("time_zone", {"time_zone": "../../etc/passwd"}),
    ("time_zone", {"time_zone": ""}),
    ("time_zone", {"time_zone": "Europe/Berlin\x00"}),
    ("time_zone", {"time_zone": "x" * 101}),
    ("time_zone", {"time_zone": None}),
    ("time_zone", {"time_zone": "europe/berlin"}),
    ("quiet_hours.end", {"quiet_hours": {"start": "22:00"}}),
    ("quiet_hours.end", {"quiet_hours": {"start": "22:00", "end": 7}}),
    ("quiet_hours.end", {"quiet_hours": {"start": "22:00", "end": "07:00\n"}}),
    ("quiet_hours.start", {"quiet_hours": {"start": "٢٢:00", "end": "07:00"}}),
    ("quiet_hours.zone", {"quiet_hours": {"start": "22:00", "end": "07:00", "zone": "UTC"}}),
    ("types", {"types": None}),
    ("presence", {"presence": "away"}),
    ("presence", {"presence": None}),
    ("presence", {"presence": True}),
]


@pytest.mark.parametrize(("field", "body"), [*BAD.items(), *MORE_BAD])
def test_a_bad_choice_is_refused_by_field_and_nothing_written(users, api, field, body):
    assert fields_of(api("alice").put("/api/preferences", body), 422) == [field]

    assert types_on(f"user:{users.alice.pk}") == []
    assert not Preferences.objects.exists()


WINTER, SUMMER = datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 7, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("quiet", "zone", "at", "is_quiet"),
    [
        (("22:00", "07:00"), "UTC", WINTER.replace(hour=21, minute=59), False),
        (("22:00", "07:00"), "UTC", WINTER.replace(hour=22), True),
        (("22:00", "07:00"), "UTC", WINTER.replace(hour=6, minute=59), True),
        (("22:00", "07:00"), "UTC", WINTER.replace(hour=7), False),
        (("12:00", "13:00"), "UTC", WINTER.replace(hour=12, minute=30), True),
        (("12:00", "13:00"), "UTC", WINTER.replace(hour=13), False),
        # The zone's summer time counts.
        (("12:00", "13:00"), "Europe/Berlin", WINTER.replace(hour=11), True),
        (("12:00", "13:00"), "Europe/Berlin", SUMMER.replace(hour=11), False),
        (("12:00", "13:00"), "Europe/Berlin", SUMMER.replace(hour=10), True),
        (("12:00", "13:00"), "Asia/Kathmandu", WINTER.replace(hour=6, minute=20), True),
        (None, "UTC", WINTER, False),
        (("00:00", "23:59"), erasure.ERASED, WINTER, True),
    ],
)
def test_quiet_hours_are_the_users_own(quiet, zone, at, is_quiet):
    assert Choice({}, quiet, zone).is_quiet(at) is is_quiet


@pytest.mark.parametrize(
    ("way", "quiet", "critical", "delivery"),
    [
        ("live", False, False, "live"),
        ("live", True, False, "quiet"),
        ("digest", False, False, "digest"),
        ("digest", True, False, "digest"),
        ("off", False, False, None),
        ("off", True, True, "live"),
        ("digest", True, True, "live"),
        ("live", True, True, "live"),
    ],
)
def test_how_something_reaches_somebody(way, quiet, critical, delivery):
    choice = Choice({"broadcast": way}, ("00:00", "23:59") if quiet else None)

    assert choice.delivery("broadcast", WINTER, critical=critical) == delivery


def test_erasing_somebody_erases_where_they_live(users, api):
    preferences.change(users.bob, time_zone="Europe/Berlin", quiet=("22:00", "07:00"))

    erasure.erase_user(users.bob, by="test")

    assert Preferences.objects.get().time_zone == erasure.ERASED
    assert not Event.objects.filter(data__contains="Berlin").exists()
    assert preferences.of([users.bob.pk])[users.bob.pk].is_quiet(WINTER)

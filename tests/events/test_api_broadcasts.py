"""The HTTP API of broadcasts."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from events.models import Event
from tests.events.support import code_of, events_on, fields_of

EVERYONE = {"message": "Hello", "audience": {"all": True}}


def test_an_admin_sends_edits_lists_and_recalls(api, users):
    admin, bob = api("admin"), api("bob")

    sent = admin.post("/api/broadcasts", {**EVERYONE, "severity": "warning"})
    assert sent.status_code == 201, sent.content
    said = sent.json()
    assert said["state"] == "live"
    assert said["audience"] == {"all": True}
    path = f"/api/broadcasts/{said['id']}"

    [seen] = bob.get("/api/broadcasts/active").json()["results"]
    assert seen == {
        name: said[name]
        for name in ("id", "title", "message", "severity", "link", "starts_at", "expires_at", "state")
    }

    changed = admin.patch(path, {"message": "Goodbye"})
    assert (changed.status_code, changed.json()["message"]) == (200, "Goodbye")
    assert bob.post(path + "/dismiss").status_code == 204
    assert admin.get(path).json()["reach"] == 4
    [row] = admin.get("/api/broadcasts").json()["results"]
    assert (row["dismissed"], row["state"]) == (1, "live")

    assert admin.delete(path).status_code == 204
    assert admin.get(path).json()["state"] == "recalled"
    assert code_of(admin.patch(path, {"message": "x"}), 409) == "broadcast_over"
    assert [kind for kind, _ in events_on("system")] == [
        "SystemAlert", "SystemAlertUpdated", "SystemAlertRecalled"
    ]  # fmt: skip


def test_the_list_is_paged_newest_first(api, users):
    admin = api("admin")
    for number in range(5):
        admin.post("/api/broadcasts", {**EVERYONE, "message": str(number)})

    first = admin.get("/api/broadcasts?limit=3").json()
    second = admin.get(f"/api/broadcasts?limit=3&after={first['next']}").json()

    assert [row["message"] for row in first["results"] + second["results"]] == ["4", "3", "2", "1", "0"]
    assert second["next"] is None
    assert first["cursor"]


def test_a_request_that_comes_twice_tells_once(api, users):
    admin = api("admin")

    answers = [admin.post("/api/broadcasts", EVERYONE, Idempotency_Key="k") for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    assert len(events_on("system")) == 1


def test_times_are_given_with_their_offset(api, users):
    starts = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)

    sent = api("admin").post("/api/broadcasts", {**EVERYONE, "starts_at": starts.isoformat()})

    assert (sent.status_code, sent.json()["state"]) == (201, "scheduled")
    assert sent.json()["starts_at"] == starts.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["message", "audience"]),
        ({**EVERYONE, "message": ""}, ["message"]),
        ({**EVERYONE, "audience": {}}, ["audience"]),
        ({**EVERYONE, "audience": {"all": False}}, ["audience.all"]),
        ({**EVERYONE, "audience": {"all": True, "groups": ["crew"]}}, ["audience"]),
        ({**EVERYONE, "audience": {"users": []}}, ["audience"]),
        ({**EVERYONE, "audience": {"users": ["x"]}}, ["audience.users.0"]),
        ({**EVERYONE, "audience": {"users": ["99999"]}}, ["audience.users[0]"]),
        ({**EVERYONE, "audience": {"everyone": True}}, ["audience.everyone"]),
        ({**EVERYONE, "severity": "loud"}, ["severity"]),
        ({**EVERYONE, "link": "javascript:alert(1)"}, ["link"]),
        ({**EVERYONE, "starts_at": "2001-01-01T00:00:00Z"}, ["starts_at"]),
        ({**EVERYONE, "starts_at": "2999-01-01T00:00:00Z"}, ["starts_at"]),
        ({**EVERYONE, "starts_at": 1_900_000_000}, ["starts_at"]),
        ({**EVERYONE, "expires_at": "2030-01-01T00:00:00"}, ["expires_at"]),
        ({**EVERYONE, "expires_at": "2001-01-01T00:00:00Z"}, ["expires_at"]),
        ({**EVERYONE, "colour": "red"}, ["colour"]),
    ],
)
def test_bad_bodies_name_the_field_and_tell_nobody(api, users, body, fields):
    assert fields_of(api("admin").post("/api/broadcasts", body), 422) == fields

    assert not Event.objects.filter(type__in=["BroadcastPlanned", "SystemAlert"]).exists()


def test_users_may_see_and_dismiss_only_what_is_theirs(api, users):
    admin, bob = api("admin"), api("bob")
    sent = admin.post("/api/broadcasts", {**EVERYONE, "audience": {"users": [str(users.carol.pk)]}}).json()

    assert code_of(bob.get("/api/broadcasts"), 403) == "may_not_broadcast"
    assert code_of(bob.post("/api/broadcasts", EVERYONE), 403) == "may_not_broadcast"
    assert code_of(bob.get(f"/api/broadcasts/{sent['id']}"), 403) == "may_not_broadcast"
    assert code_of(bob.delete(f"/api/broadcasts/{sent['id']}"), 403) == "may_not_broadcast"
    assert code_of(bob.post(f"/api/broadcasts/{sent['id']}/dismiss"), 404) == "broadcast_unknown"
    assert bob.get("/api/broadcasts/active").json()["results"] == []
    assert code_of(admin.get(f"/api/broadcasts/{uuid4()}"), 404) == "broadcast_unknown"
    assert code_of(api().get("/api/broadcasts/active"), 401) == "not_logged_in"

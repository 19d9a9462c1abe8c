"""The HTTP API of broadcasts."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import audiences, edge
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


def test_a_keyed_request_asks_nobody_within_its_transaction(api, users, monkeypatch):
    """Who was handed what, Redis says, in its own time."""
    asked = []

    def delivered(ids):
        asked.append(connection.in_atomic_block)
        return dict.fromkeys(ids, 3)

    monkeypatch.setattr(edge, "_delivered", delivered)
    admin = api("admin")

    sent = admin.post("/api/broadcasts", EVERYONE, Idempotency_Key="k").json()
    listed = admin.get("/api/broadcasts").json()["results"]

    assert (sent["delivered"], sent["dismissed"]) == (0, 0)
    assert listed[0]["delivered"] == 3
    assert asked == [False]


def test_an_estimate_says_how_many_would_get_it_and_how_many_are_connected(api, users, monkeypatch):
    crew = Group.objects.create(name="crew")
    crew.user_set.add(users.alice, users.bob)
    User.objects.filter(pk=users.alice.pk).update(is_active=False)
    monkeypatch.setattr(edge, "_connected", lambda: {users.bob.pk, users.carol.pk, 999_999})
    admin, path = api("admin"), "/api/broadcasts/estimate"

    def estimate(**audience):
        answer = admin.post(path, {"audience": audience})
        assert answer.status_code == 200, answer.content
        return answer.json()

    assert estimate(all=True) == {"reach": 3, "connected": 3}
    assert estimate(groups=["crew"]) == {"reach": 1, "connected": 1}
    both = [str(users.bob.pk), str(users.admin.pk)]
    assert estimate(users=both) == {"reach": 2, "connected": 1}
    monkeypatch.setattr(edge, "_connected", lambda: None)
    assert estimate(groups=["crew"]) == {"reach": 1, "connected": None}
    assert not Event.objects.filter(type__in=["BroadcastPlanned", "SystemAlert"]).exists()

    assert fields_of(admin.post(path, {"audience": {}}), 422) == ["audience"]
    assert fields_of(admin.post(path, {"audience": {"groups": ["nobody"]}}), 422) == ["audience.groups[0]"]
    assert fields_of(admin.post(path, {}), 422) == ["audience"]
    assert code_of(api("bob").post(path, {"audience": {"all": True}}), 403) == "may_not_broadcast"
    assert code_of(api().post(path, {"audience": {"all": True}}), 401) == "not_logged_in"


def test_an_estimate_counts_once_and_tells_the_database_of_no_connection(api, users, monkeypatch):
    Group.objects.create(name="crew").user_set.add(users.alice)
    monkeypatch.setattr(edge, "_connected", lambda: set(range(10_000, 110_000)) | {users.alice.pk})
    for audience, queries in ((("system",), 1), (("group:crew",), 1)):
        with CaptureQueriesContext(connection) as asked:
            found = audiences.estimate(audience)
        assert len(asked) == queries
        assert all(len(query["sql"]) < 2_000 for query in asked)
        assert found.connected == (4 if audience == ("system",) else 1)


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

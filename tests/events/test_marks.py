"""Broadcasts in people's inboxes: what somebody does about one is theirs alone, and kept of them alone."""

from dataclasses import replace
from datetime import timedelta
from importlib import import_module

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import (
    broadcasts,
    erasure,
    marks,
    notifications,
    preferences,
    readmodels,
    retention,
    watching,
)
from events.broadcasts import BroadcastUnknown
from events.models import Broadcast, BroadcastMark, Event, Notification
from events.notifications import NotificationUnknown
from tests.events.support import code_of, events_on, types_on
from tests.events.test_broadcasts import HELLO, begin_at, soon


@pytest.fixture
def hello(users):
    return broadcasts.send(users.admin, replace(HELLO, title="News", link="https://example.org/x"))


def inbox_of(client, query=""):
    return client.get(f"/api/notifications{query}").json()["results"]


def unread(client):
    return client.get("/api/notifications/count").json()["unread"]


def test_it_stands_in_every_inbox_and_no_row_is_kept(users, api, hello):
    for name in ("alice", "bob"):
        [entry] = inbox_of(api(name))
        assert entry == {
            "id": str(hello.pk),
            "kind": "broadcast",
            "message": "Hello",
            "item_id": None,
            "comment_id": None,
            "job_id": None,
            "actors": [],
            "people": 0,
            "count": 1,
            "delivery": "live",
            "muted": False,
            "read": False,
            "archived": False,
            "created_at": hello.starts_at.strftime("%FT%TZ"),
            "broadcast": {
                "title": "News",
                "severity": "info",
                "link": "https://example.org/x",
                "expires_at": None,
            },
        }
        assert unread(api(name)) == 1
    assert not BroadcastMark.objects.exists()
    assert not Notification.objects.exists()


def test_read_it_is_read_on_every_device_and_for_nobody_else(users, api, hello):
    bob = api("bob")

    for _ in range(2):
        assert bob.post(f"/api/notifications/{hello.pk}/read").status_code == 204

    assert events_on(f"user:{users.bob.pk}") == [
        ("SystemAlertsRead", {"user_id": str(users.bob.pk), "broadcast_ids": [str(hello.pk)]})
    ]
    assert (unread(bob), unread(api("alice"))) == (0, 1)
    assert [row["read"] for row in inbox_of(bob)] == [True]
    assert inbox_of(bob, "?unread=true") == []
    assert len(marks.active(users.bob)) == 1, "seen in the bell, it stays on the screen"


def test_archived_it_is_dismissed_and_unread_it_is_back(users, api, hello):
    bob = api("bob")

    assert bob.post(f"/api/notifications/{hello.pk}/archive").status_code == 204
    assert (inbox_of(bob), unread(bob), marks.active(users.bob)) == ([], 0, [])
    assert [row["id"] for row in inbox_of(bob, "?archived=true")] == [str(hello.pk)]
    assert marks.dismissals([hello.pk]) == {hello.pk: 1}

    assert bob.post(f"/api/notifications/{hello.pk}/unread").status_code == 204
    assert (unread(bob), len(marks.active(users.bob))) == (1, 1)
    assert marks.dismissals([hello.pk]) == {hello.pk: 0}

    assert bob.post(f"/api/broadcasts/{hello.pk}/dismiss").status_code == 204
    assert types_on(f"user:{users.bob.pk}") == [
        "SystemAlertDismissed", "SystemAlertUnread", "SystemAlertDismissed"
    ]  # fmt: skip
    assert [row["archived"] for row in inbox_of(bob, "?archived=true")] == [True]


def test_read_all_reads_them_by_name(users, api, hello):
    other = broadcasts.send(users.admin, HELLO)
    bob = api("bob")

    assert bob.post("/api/notifications/read-all").status_code == 204
    assert bob.post("/api/notifications/read-all").status_code == 204

    [(kind, data)] = events_on(f"user:{users.bob.pk}")
    assert (kind, set(data["broadcast_ids"])) == ("SystemAlertsRead", {str(hello.pk), str(other.pk)})
    later = broadcasts.send(users.admin, HELLO)
    assert [row["id"] for row in inbox_of(bob, "?unread=true")] == [str(later.pk)]


def test_over_it_is_in_no_list_and_nothing_can_be_done_about_it(users, api, hello):
    expired = broadcasts.send(users.admin, replace(HELLO, expires_at=soon(hours=1)))
    marks.dismiss(users.bob, expired.pk)
    broadcasts.recall(users.admin, hello.pk)
    Broadcast.objects.filter(pk=expired.pk).update(expires_at=soon(seconds=-1))
    bob, before = api("bob"), Event.objects.count()

    for query in ("", "?archived=true", "?unread=true"):
        assert inbox_of(bob, query) == []
    assert unread(bob) == 0
    for verb in ("read", "unread", "archive"):
        for gone in (hello, expired):
            problem = bob.post(f"/api/notifications/{gone.pk}/{verb}")
            assert code_of(problem, 404) == "notification_unknown"
    assert Event.objects.count() == before


def test_another_audiences_is_nobodys_elses_to_mark(users, api):
    private = broadcasts.send(users.admin, replace(HELLO, audience=(f"user:{users.carol.pk}",)))
    bob, before = api("bob"), Event.objects.count()

    assert (inbox_of(bob), unread(bob)) == ([], 0)
    assert code_of(bob.post(f"/api/notifications/{private.pk}/read"), 404) == "notification_unknown"
    with pytest.raises(BroadcastUnknown):
        marks.dismiss(users.bob, private.pk)
    with pytest.raises(NotificationUnknown):
        notifications.archive(users.bob, private.pk)

    assert Event.objects.count() == before


def test_who_joins_a_group_finds_what_it_was_told(users, api):
    group = Group.objects.create(name="crew")
    broadcasts.send(users.admin, replace(HELLO, audience=("group:crew",)))
    assert unread(api("bob")) == 0

    users.bob.groups.add(group)

    assert unread(api("bob")) == 1


def test_one_page_follows_the_other_over_both_kinds(users, api, item):
    """A plan stands where it was told, not where it was made."""
    planned = broadcasts.send(users.admin, replace(HELLO, message="planned", starts_at=soon(hours=1)))
    for number in range(3):
        tell_of_a_job(users.bob, number)
        broadcasts.send(users.admin, replace(HELLO, message=f"said {number}"))
    assert begin_at(soon(seconds=-1)) == 1
    tell_of_a_job(users.bob, 3)
    bob, found, after = api("bob"), [], ""
    while after is not None:
        page = bob.get(f"/api/notifications?limit=2{after and f'&after={after}'}").json()
        found, after = found + page["results"], page["next"]

    assert [row["message"] for row in found] == [
        "job 3", "planned", "said 2", "job 2", "said 1", "job 1", "said 0", "job 0"
    ]  # fmt: skip
    assert unread(bob) == 8
    assert planned.pk


def tell_of_a_job(user, number):
    about = notifications.Job(id=f"{number}", message=f"job {number}", timestamp=1_700_000_000 + number)
    cause = Event.objects.order_by("-id").values_list("id", flat=True)[0]
    with transaction.atomic():
        notifications.raise_job(about, user.pk, caused_by=cause)


@pytest.mark.parametrize(
    ("way", "severity", "delivery", "on_screen"),
    [
        ("live", "info", "live", True),
        ("digest", "warning", "digest", False),
        ("digest", "critical", "live", True),
        ("off", "warning", None, False),
        ("off", "critical", "live", True),
    ],
)
def test_preferences_are_heeded_but_by_what_is_critical(users, api, way, severity, delivery, on_screen):
    preferences.change(users.bob, types={"broadcast": way})
    broadcasts.send(users.admin, replace(HELLO, severity=severity))

    assert [row["delivery"] for row in inbox_of(api("bob"))] == ([delivery] if delivery else [])
    assert unread(api("bob")) == (1 if delivery else 0)
    assert bool(marks.active(users.bob)) is on_screen


def test_in_quiet_hours_it_waits_in_the_inbox(users, api, hello):
    now = timezone.now()
    quiet = ((now - timedelta(hours=1)).strftime("%H:%M"), (now + timedelta(hours=1)).strftime("%H:%M"))
    preferences.change(users.bob, quiet=quiet)

    assert [row["delivery"] for row in inbox_of(api("bob"))] == ["quiet"]
    assert (unread(api("bob")), marks.active(users.bob)) == (1, [])
    critical = broadcasts.send(users.admin, replace(HELLO, severity="critical"))
    assert [row.pk for row in marks.active(users.bob)] == [critical.pk]


def test_the_watchers_of_an_item_have_it_while_they_watch(users, api, item):
    watching.watch(users.bob, item.pk)
    broadcasts.send(users.admin, replace(HELLO, audience=(f"item:{item.pk}",)))
    assert unread(api("bob")) == 1

    watching.unwatch(users.bob, item.pk)

    assert unread(api("bob")) == 0


def test_a_read_all_and_a_dismissal_that_meet_take_turns(users, api, hello, held, background):
    with held(lambda: notifications.read_all(users.bob)):
        dismissed = background(lambda: marks.dismiss(users.bob, hello.pk))
    dismissed.result(20)

    assert types_on(f"user:{users.bob.pk}") == ["SystemAlertsRead", "SystemAlertDismissed"]
    mark = BroadcastMark.objects.get()
    assert (mark.read, mark.dismissed) == (True, True)


def test_what_they_did_is_folded_from_the_log_to_the_same_rows(users, hello):
    other = broadcasts.send(users.admin, HELLO)
    notifications.read_all(users.bob)
    marks.dismiss(users.carol, hello.pk)
    marks.mark_unread(users.bob, other.pk)
    rows = list(BroadcastMark.objects.order_by("user_id", "broadcast_id").values())
    assert len(rows) == 3
    BroadcastMark.objects.all().delete()

    rebuilt = readmodels.rebuild(readmodels.registered()["marks"])

    assert (rebuilt.removed, rebuilt.added) == (0, 3)
    assert list(BroadcastMark.objects.order_by("user_id", "broadcast_id").values()) == rows


def test_all_are_read_by_one_statement_however_many_there_are(users, hello):
    marks.mark_unread(users.bob, hello.pk)
    marks.dismiss(users.bob, hello.pk)
    marks.mark_unread(users.bob, hello.pk)
    born = BroadcastMark.objects.get().event_id
    for _ in range(20):
        broadcasts.send(users.admin, HELLO)

    with CaptureQueriesContext(connection) as queries:
        marks.read_all(users.bob)

    written = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE"))]
    assert sum("events_broadcastmark" in sql for sql in written) == 1
    assert BroadcastMark.objects.filter(user_id=users.bob.pk, read=True, dismissed=False).count() == 21
    assert BroadcastMark.objects.get(broadcast_id=hello.pk).event_id == born


@pytest.mark.parametrize("swept", [True, False])
def test_the_marks_of_what_is_long_over_go_and_a_rebuild_agrees(users, monkeypatch, swept):
    monkeypatch.setattr(retention, "LEFTOVER_BATCH", 2)
    kept = marks.KEPT.days
    ends = {
        "live": {},
        "expires later": {"expires_at": soon(days=1)},
        "expired": {"expires_at": soon(days=1 - kept)},
        "recalled": {"recalled_at": soon(days=1 - kept)},
        "long expired": {"expires_at": soon(days=-1 - kept)},
        "long recalled": {"recalled_at": soon(days=-1 - kept), "expires_at": soon(days=9)},
    }
    said = {name: broadcasts.send(users.admin, HELLO).pk for name in ends}
    for person in (users.bob, users.carol):
        marks.read_all(person)
        marks.dismiss(person, said["long recalled"])
    for name, ended in ends.items():
        Broadcast.objects.filter(pk=said[name]).update(**ended)

    if swept:
        assert dict(retention.sweep())["marks of broadcasts"] == 4
    rebuilt = readmodels.rebuild(readmodels.registered()["marks"])

    left = {said[name] for name in ends if not name.startswith("long")}
    assert set(BroadcastMark.objects.values_list("broadcast_id", flat=True)) == left
    assert BroadcastMark.objects.count() == 8
    assert (rebuilt.rows, rebuilt.removed, rebuilt.added) == (8, 0, 0)
    assert dict(retention.sweep())["marks of broadcasts"] == 0


BEFORE_0013 = """
CREATE TEMPORARY TABLE events_broadcast (id uuid, event_id bigint, alert_id bigint, begun boolean);
CREATE TEMPORARY TABLE events_event (id bigint, type text, data text);
INSERT INTO events_broadcast (id, event_id, begun)
SELECT lpad(n::text, 32, '0')::uuid, n, n <> 3 FROM generate_series(1, 4) AS n;
INSERT INTO events_event
SELECT 10 * n + m, 'SystemAlert', json_build_object('broadcast_id', lpad(n::text, 32, '0')::uuid)
FROM generate_series(1, 3) AS n, generate_series(1, 2) AS m;
INSERT INTO events_event VALUES (99, 'SystemAlertUpdated', '{"broadcast_id": "1"}'), (100, 'Other', 'null');
"""


def test_what_was_told_before_there_was_an_inbox_of_it_is_found_by_one_pass_over_the_log(database):
    told = import_module("events.migrations.0013_broadcast_marks").TOLD
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(BEFORE_0013)
        cursor.execute(told)
        cursor.execute("SELECT event_id, alert_id FROM events_broadcast ORDER BY 1")
        found = cursor.fetchall()
        cursor.execute(f"EXPLAIN {told}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("DROP TABLE pg_temp.events_broadcast, pg_temp.events_event")

    # Told by several events: the last. Not begun; and one whose telling was pruned.
    assert found == [(1, 12), (2, 22), (3, None), (4, 4)]
    assert plan.count("Scan on events_event") == 1
    assert "SubPlan" not in plan


def test_erasure_leaves_marks_of_a_number_and_a_rebuild_agrees(users, hello):
    notifications.read_all(users.bob)
    columns = {field.name for field in BroadcastMark._meta.concrete_fields}
    assert columns == {"user_id", "broadcast_id", "event_id", "read", "dismissed"}, (
        "nothing to call anyone by"
    )

    erasure.erase_user(users.bob, by="test")

    rebuilt = readmodels.rebuild(readmodels.registered()["marks"])
    assert (rebuilt.rows, rebuilt.removed, rebuilt.added) == (1, 0, 0)


def test_how_many_broadcasts_there_are_changes_no_number_of_queries(users, api, hello):
    bob = api("bob")
    asked = []
    for number in (1, 20):
        for _ in range(number):
            broadcasts.send(users.admin, HELLO)
        with CaptureQueriesContext(connection) as queries:
            assert bob.get("/api/notifications").status_code == 200
        asked.append(len(queries))

    assert asked[0] == asked[1]

"""Broadcasts: their life as events, whom they reach, and what is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import audiences, broadcasts, comments, items, log, marks, watching
from events.broadcasts import BroadcastOver, BroadcastUnknown, MayNotBroadcast
from events.drafts import Draft
from events.errors import Invalid
from events.models import Broadcast, BroadcastMark, Event
from tests.events.support import events_on, types_on

HELLO = Draft(message="Hello", audience=("system",))


def soon(**ahead):
    return timezone.now().replace(microsecond=0) + timedelta(**ahead)


def begin_at(moment):
    """Let a plan's time come."""
    Broadcast.objects.update(starts_at=moment)
    return broadcasts.begin_due()


def messages(user):
    return [broadcast.message for broadcast in marks.active(user)]


def refused_fields(work):
    with pytest.raises(Invalid) as refused:
        work()
    return [fault.field for fault in refused.value.errors]


@pytest.fixture
def group(users):
    group = Group.objects.create(name="crew")
    users.bob.groups.add(group)
    return group


# --- A life ------------------------------------------------------------------------------------


def test_to_everyone_is_one_event_however_many_they_are(users):
    User.objects.bulk_create(User(username=f"u{n}", password="!") for n in range(300))
    before = Event.objects.count()

    broadcast = broadcasts.send(users.admin, replace(HELLO, title="News", link="https://example.org/x"))

    assert events_on("system") == [
        (
            "SystemAlert",
            {
                "broadcast_id": str(broadcast.pk),
                "title": "News",
                "message": "Hello",
                "severity": "info",
                "link": "https://example.org/x",
                "starts_at": int(broadcast.starts_at.timestamp()),
                "expires_at": None,
            },
        )
    ]
    assert Event.objects.count() - before == 2  # the plan, for the record, and the alert
    assert broadcasts.state(broadcast) == "live"
    assert messages(users.bob) == ["Hello"]


def test_what_is_planned_is_told_when_its_time_comes_and_once(users):
    broadcast = broadcasts.send(users.admin, replace(HELLO, starts_at=soon(hours=1)))

    assert broadcasts.state(broadcast) == "scheduled"
    assert broadcasts.begin_due() == 0
    assert types_on("system") == []
    assert messages(users.bob) == []

    assert begin_at(soon(seconds=-1)) == 1
    assert broadcasts.begin_due() == 0

    assert types_on("system") == ["SystemAlert"]
    assert messages(users.bob) == ["Hello"]


def test_two_workers_begin_it_once(users, background, held):
    broadcasts.send(users.admin, replace(HELLO, starts_at=soon(hours=1)))
    Broadcast.objects.update(starts_at=soon(seconds=-1))

    with held(broadcasts.begin_due):
        assert background(broadcasts.begin_due).result(20) == 0

    assert types_on("system") == ["SystemAlert"]


def test_what_expired_while_nobody_worked_is_never_told(users):
    broadcast = broadcasts.send(
        users.admin, replace(HELLO, starts_at=soon(hours=1), expires_at=soon(hours=2))
    )
    Broadcast.objects.update(starts_at=soon(hours=-2), expires_at=soon(hours=-1))

    assert broadcasts.begin_due() == 0

    broadcast.refresh_from_db()
    assert broadcasts.state(broadcast) == "expired"
    assert types_on("system") == []


def test_it_expires_by_itself_also_for_who_comes_later(users):
    broadcast = broadcasts.send(users.admin, replace(HELLO, expires_at=soon(hours=1)))
    Broadcast.objects.update(expires_at=soon(seconds=-1))

    broadcast.refresh_from_db()
    assert broadcasts.state(broadcast) == "expired"
    assert messages(users.bob) == []


def test_an_edit_is_told_with_all_it_says(users):
    broadcast = broadcasts.send(users.admin, HELLO)

    broadcasts.change(users.admin, broadcast.pk, message="Goodbye", severity="critical")

    kind, data = events_on("system")[-1]
    assert kind == "SystemAlertUpdated"
    assert (data["message"], data["severity"], data["title"]) == ("Goodbye", "critical", "")
    assert "audience" not in data
    assert messages(users.bob) == ["Goodbye"]


def test_an_edit_of_nothing_is_no_event(users):
    broadcast = broadcasts.send(users.admin, HELLO)

    broadcasts.change(users.admin, broadcast.pk, message="Hello", severity="info", expires_at=None)

    assert types_on("system") == ["SystemAlert"]


def test_a_plan_changes_in_silence_and_whole(users, group):
    broadcast = broadcasts.send(users.admin, replace(HELLO, starts_at=soon(hours=1)))

    broadcasts.change(
        users.admin, broadcast.pk, message="Crew!", audience=("group:crew",), starts_at=soon(hours=2)
    )

    assert types_on("system") == types_on("group:crew") == []
    begin_at(soon(seconds=-1))
    assert types_on("group:crew") == ["SystemAlert"]
    assert types_on("system") == []
    assert (messages(users.bob), messages(users.carol)) == (["Crew!"], [])


def test_a_plan_can_be_begun_at_once(users):
    broadcast = broadcasts.send(users.admin, replace(HELLO, starts_at=soon(hours=1)))

    broadcast = broadcasts.change(users.admin, broadcast.pk, starts_at=None)

    assert broadcasts.state(broadcast) == "live"
    assert types_on("system") == ["SystemAlert"]


def test_who_was_told_cannot_be_chosen_anew(users, group):
    broadcast = broadcasts.send(users.admin, HELLO)

    fields = refused_fields(
        lambda: broadcasts.change(
            users.admin, broadcast.pk, audience=("group:crew",), starts_at=soon(hours=1)
        )
    )

    assert fields == ["audience", "starts_at"]


def test_recalled_it_goes_from_every_screen(users):
    broadcast = broadcasts.send(users.admin, HELLO)

    broadcasts.recall(users.admin, broadcast.pk)
    broadcasts.recall(users.admin, broadcast.pk)

    assert types_on("system") == ["SystemAlert", "SystemAlertRecalled"]
    assert messages(users.bob) == []
    with pytest.raises(BroadcastOver):
        broadcasts.change(users.admin, broadcast.pk, message="Wait")


def test_a_plan_that_is_recalled_was_never_heard_of(users):
    broadcast = broadcasts.send(users.admin, replace(HELLO, starts_at=soon(hours=1)))

    broadcasts.recall(users.admin, broadcast.pk)
    begin_at(soon(seconds=-1))

    assert types_on("system") == []


def test_a_recall_that_races_with_the_beginning_is_obeyed(users, background, held):
    """Whoever comes first: in the end the audience heard nothing, or heard of the recall too."""
    broadcast = broadcasts.send(users.admin, replace(HELLO, starts_at=soon(hours=1)))
    Broadcast.objects.update(starts_at=soon(seconds=-1))

    with held(broadcasts.begin_due):
        recall = background(lambda: broadcasts.recall(users.admin, broadcast.pk))
    recall.result(20)

    assert types_on("system") == ["SystemAlert", "SystemAlertRecalled"]


def test_everything_is_on_record_with_who_did_it(users):
    broadcast = broadcasts.send(users.admin, replace(HELLO, starts_at=soon(hours=1)))
    broadcasts.change(users.admin, broadcast.pk, title="News")
    broadcasts.change(users.admin, broadcast.pk, starts_at=None)
    broadcasts.recall(users.admin, broadcast.pk)

    said = Event.objects.filter(data__contains=str(broadcast.pk)).order_by("id")
    assert list(said.values_list("type", "actor_id")) == [
        ("BroadcastPlanned", users.admin.pk),
        ("BroadcastPlanned", users.admin.pk),
        ("BroadcastPlanned", users.admin.pk),
        ("SystemAlert", users.admin.pk),
        ("SystemAlertRecalled", users.admin.pk),
    ]


# --- For whom ------------------------------------------------------------------------------------


def test_a_group_hears_it_and_who_joins_later_sees_it(users, group):
    broadcasts.send(users.admin, replace(HELLO, audience=("group:crew",)))

    assert types_on("group:crew") == ["SystemAlert"]
    assert (messages(users.bob), messages(users.carol)) == (["Hello"], [])
    users.carol.groups.add(group)
    assert messages(users.carol) == ["Hello"]


def test_listed_users_hear_it_and_do_not_learn_of_each_other(users):
    audience = (f"user:{users.bob.pk}", f"user:{users.carol.pk}")
    broadcasts.send(users.admin, replace(HELLO, audience=audience))

    for user, heard in ((users.bob, True), (users.carol, True), (users.alice, False)):
        events = events_on(f"user:{user.pk}")
        assert [kind for kind, _ in events] == (["SystemAlert"] if heard else [])
        assert messages(user) == (["Hello"] if heard else [])
    assert "audience" not in events_on(f"user:{users.bob.pk}")[0][1]


def test_very_many_users_take_several_events_and_each_hears_one(users, monkeypatch):
    monkeypatch.setattr(broadcasts, "CHANNELS_MOST", 2)
    everyone = [users.alice, users.bob, users.carol]

    broadcasts.send(users.admin, replace(HELLO, audience=tuple(f"user:{user.pk}" for user in everyone)))

    assert [types_on(f"user:{user.pk}") for user in everyone] == [["SystemAlert"]] * 3
    assert Event.objects.filter(type="SystemAlert").count() == 2


def test_the_watchers_of_an_item_hear_it_wherever_they_are(users, item):
    watching.watch(users.bob, item.pk)

    broadcasts.send(users.admin, replace(HELLO, audience=(f"item:{item.pk}",)))

    assert "SystemAlert" in types_on(f"user:{users.bob.pk}")
    assert "SystemAlert" in types_on(f"user:{users.alice.pk}")  # the owner, by default
    assert "SystemAlert" not in types_on(f"item:{item.pk}")
    assert (messages(users.bob), messages(users.carol)) == (["Hello"], [])


def test_who_watches_an_item_no_more_hears_that_it_is_recalled(users, secret):
    watching.watch(users.bob, secret.pk)
    placed = broadcasts.send(users.admin, replace(HELLO, audience=(f"item:{secret.pk}",)))
    log.place()
    items.remove_member(users.alice, secret.pk, member_id=users.bob.pk)
    broadcasts.change(users.admin, placed.pk, message="Changed")
    broadcasts.recall(users.admin, placed.pk)
    unplaced = broadcasts.send(users.admin, replace(HELLO, audience=(f"item:{secret.pk}",)))
    items.delete_item(users.alice, secret.pk)
    broadcasts.recall(users.admin, unplaced.pk)

    told = [kind for kind in types_on(f"user:{users.bob.pk}") if kind.startswith("SystemAlert")]
    assert told == ["SystemAlert", "SystemAlertUpdated", "SystemAlertRecalled"]
    assert types_on(f"user:{users.alice.pk}").count("SystemAlertRecalled") == 2


def test_whom_an_items_broadcast_is_for_is_asked_for_one_user_and_not_for_all_watchers(
    users, item, django_assert_max_num_queries
):
    shown = [items.create_item(users.alice, title=str(n)) for n in range(5)]
    for each in shown:
        comments.add_comment(users.bob, each.pk, text="mine, too")
        broadcasts.send(users.admin, replace(HELLO, message=each.title, audience=(f"item:{each.pk}",)))
    watching.unwatch(users.bob, shown[0].pk)
    watching.mute(users.bob, shown[1].pk)

    with django_assert_max_num_queries(6):
        assert sorted(messages(users.bob)) == ["2", "3", "4"]
    assert len(messages(users.alice)) == 5


def test_of_the_watchers_only_who_may_read_it_and_did_not_mute_it(users, secret):
    watching.watch(users.bob, secret.pk)
    items.remove_member(users.alice, secret.pk, member_id=users.bob.pk)
    watching.mute(users.alice, secret.pk)

    broadcasts.send(users.admin, replace(HELLO, audience=(f"item:{secret.pk}",)))

    assert (messages(users.alice), messages(users.bob)) == ([], [])
    assert "SystemAlert" not in types_on(f"user:{users.bob.pk}")


def test_an_item_that_nobody_watches_has_no_audience_yet(users, item):
    watching.unwatch(users.alice, item.pk)

    broadcasts.send(users.admin, replace(HELLO, audience=(f"item:{item.pk}",)))

    assert messages(users.bob) == []
    watching.watch(users.bob, item.pk)
    assert messages(users.bob) == ["Hello"]


def test_the_same_audience_in_another_order_is_no_change(users):
    audience = (f"user:{users.bob.pk}", f"user:{users.alice.pk}")
    said = broadcasts.send(users.admin, replace(HELLO, audience=audience))

    broadcasts.change(users.admin, said.pk, audience=tuple(reversed(said.audience)), message="Changed")

    assert messages(users.bob) == ["Changed"]


def test_a_history_is_whole_however_long(users):
    said = broadcasts.send(users.admin, HELLO)
    for n in range(600):
        broadcasts.change(users.admin, said.pk, message=str(n))
    broadcasts.recall(users.admin, said.pk)
    log.place()

    assert [entry.type for entry in broadcasts.history(said)][-1] == "SystemAlertRecalled"


def test_the_reach_counts_each_once(users, group, item):
    other = Group.objects.create(name="other")
    users.bob.groups.add(other)
    users.carol.groups.add(other)
    User.objects.filter(pk=users.carol.pk).update(is_active=False)

    assert audiences.reach(("system",)) == 3
    assert audiences.reach(("group:crew", "group:other")) == 1
    assert audiences.reach((f"user:{users.bob.pk}", f"user:{users.carol.pk}")) == 1
    assert audiences.reach((f"item:{item.pk}",)) == 1


# --- Dismissed -----------------------------------------------------------------------------------


def test_dismissed_it_is_gone_on_every_device_of_that_user(users):
    broadcast = broadcasts.send(users.admin, HELLO)

    marks.dismiss(users.bob, broadcast.pk)
    marks.dismiss(users.bob, broadcast.pk)

    assert types_on(f"user:{users.bob.pk}") == ["SystemAlertDismissed"]
    assert (messages(users.bob), messages(users.carol)) == ([], ["Hello"])
    assert marks.dismissals([broadcast.pk]) == {broadcast.pk: 1}


def test_two_dismissals_at_once_are_one(users, background, held):
    broadcast = broadcasts.send(users.admin, HELLO)

    with held(lambda: marks.dismiss(users.bob, broadcast.pk)):
        second = background(lambda: marks.dismiss(users.bob, broadcast.pk))
    second.result(20)

    assert types_on(f"user:{users.bob.pk}") == ["SystemAlertDismissed"]
    assert BroadcastMark.objects.count() == 1


def test_nobody_dismisses_what_is_not_for_them(users):
    broadcast = broadcasts.send(users.admin, replace(HELLO, audience=(f"user:{users.carol.pk}",)))

    with pytest.raises(BroadcastUnknown):
        marks.dismiss(users.bob, broadcast.pk)

    assert types_on(f"user:{users.bob.pk}") == []


# --- Refused ---------------------------------------------------------------------------------------


def test_only_who_may_broadcast_does(users):
    broadcast = broadcasts.send(users.admin, HELLO)

    for work in (
        lambda: broadcasts.send(users.bob, HELLO),
        lambda: broadcasts.change(users.bob, broadcast.pk, message="x"),
        lambda: broadcasts.recall(users.bob, broadcast.pk),
        lambda: broadcasts.listed(users.bob),
        lambda: broadcasts.get(users.bob, broadcast.pk),
    ):
        with pytest.raises(MayNotBroadcast):
            work()
    users.bob.user_permissions.add(Permission.objects.get(codename="can_broadcast"))
    assert broadcasts.send(User.objects.get(pk=users.bob.pk), HELLO)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("message", {"message": "  "}),
        ("message", {"message": "x" * 5_001}),
        ("message", {"message": "a\x00b"}),
        ("title", {"title": "x" * 201}),
        ("severity", {"severity": "loud"}),
        ("link", {"link": "javascript:alert(1)"}),
        ("link", {"link": "https://user:pw@example.org/"}),
        ("audience", {"audience": ()}),
        ("audience", {"audience": ("system", "user:1")}),
        ("audience.users[0]", {"audience": ("user:999999",)}),
        ("audience.groups[0]", {"audience": ("group:nobody",)}),
        ("audience.item", {"audience": ("item:999999",)}),
        ("starts_at", {"starts_at": timedelta(hours=-1)}),
        ("starts_at", {"starts_at": timedelta(days=4_000)}),
        ("expires_at", {"expires_at": timedelta(hours=-1)}),
        ("expires_at", {"starts_at": timedelta(hours=2), "expires_at": timedelta(hours=1)}),
        ("expires_at", {"expires_at": timedelta(days=4_000)}),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_nobody_is_told(users, field, changes):
    given = {
        name: soon(seconds=value.total_seconds()) if isinstance(value, timedelta) else value
        for name, value in changes.items()
    }

    assert refused_fields(lambda: broadcasts.send(users.admin, replace(HELLO, **given))) == [field]

    assert not Event.objects.filter(type__in=["BroadcastPlanned", "SystemAlert"]).exists()


def test_a_group_whose_name_is_no_channel_is_refused(users):
    Group.objects.create(name="Big customers")

    assert refused_fields(
        lambda: broadcasts.send(users.admin, replace(HELLO, audience=("group:Big customers",)))
    ) == ["audience.groups[0]"]


def test_an_audience_may_outlive_what_it_names(users, group):
    broadcast = broadcasts.send(users.admin, replace(HELLO, audience=("group:crew",)))
    group.delete()

    broadcasts.change(users.admin, broadcast.pk, message="Goodbye")

    assert types_on("group:crew") == ["SystemAlert", "SystemAlertUpdated"]


# --- Cost ------------------------------------------------------------------------------------------


def test_what_is_active_takes_few_queries(users, item):
    for _ in range(20):
        broadcasts.send(users.admin, HELLO)
    broadcasts.send(users.admin, replace(HELLO, audience=(f"item:{item.pk}",)))

    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert len(messages(users.alice)) == 21
    assert len(queries) <= 8


def test_an_unused_item_is_gone_and_its_broadcast_stays_harmless(users, item):
    broadcasts.send(users.admin, replace(HELLO, audience=(f"item:{item.pk}",)))
    items.delete_item(users.alice, item.pk)

    assert messages(users.alice) == []

"""Who is told of a comment, why, and how it is put; and who is not."""

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from events import comments, items, jobs, log, mentions, notifications, preferences, runs, watching
from events.channels import Channel, item_channel, user_channel
from events.jobs import TaskComplete
from events.models import Event, Notification
from tests.events.support import until_someone_waits
from tests.inbox import react, stream_of
from workers import inbox, reactions
from workers.models import Checkpoint, Delivery


@pytest.fixture
def item(users):
    """An item of alice's that everyone reads."""
    return items.create_item(users.alice, title="Tickets")


@pytest.fixture
def secret(users):
    """An item of alice's for members, who are bob."""
    item = items.create_item(users.alice, title="Plans", visibility="members")
    items.add_member(users.alice, item.pk, member_id=users.bob.pk)
    return item


def say(user, item, text="Hello", reply_to=None):
    made = comments.add_comment(user, item.pk, text=text, reply_to=reply_to and reply_to.pk)
    react()
    return made


def told(user):
    """What stands in somebody's inbox, the latest first."""
    rows = Notification.objects.filter(user_id=user.pk).order_by("-event_id")
    return [(row.kind, row.message) for row in rows]


def raised(user):
    return [data for name, data in stream_of(user) if name == "NotificationRaised"]


def test_a_comment_on_my_item(users, item):
    made = say(users.bob, item)

    [event] = raised(users.alice)
    assert event == {
        "notification_id": event["notification_id"],
        "user_id": str(users.alice.pk),
        "kind": "comment",
        "delivery": "live",
        "message": "bob commented on “Tickets”",
        "item_id": str(item.pk),
        "comment_id": str(made.pk),
        "job_id": None,
        "actor_id": str(users.bob.pk),
        "owner_id": str(users.alice.pk),
        "actors": [str(users.bob.pk)],
        "people": 1,
        "count": 1,
        "since": int(made.created_at.timestamp()),
        "timestamp": int(made.created_at.timestamp()),
    }
    assert told(users.alice) == [("comment", "bob commented on “Tickets”")]


def test_never_of_what_i_did_myself(users, item):
    say(users.alice, item, "my own words, @alice")
    own = say(users.bob, item)
    say(users.bob, item, "and @bob again", reply_to=own)

    assert told(users.bob) == []
    assert {kind for kind, _ in told(users.alice)} == {"comment"}


def test_who_commented_watches_by_default(users, item):
    say(users.bob, item)
    say(users.carol, item)

    assert told(users.bob) == [("watch", "carol commented on “Tickets”")]


def test_who_watches_is_told_and_who_unwatches_is_not(users, item):
    watching.watch(users.carol, item.pk)
    say(users.bob, item)
    assert told(users.carol) == [("watch", "bob commented on “Tickets”")]

    notifications.read_all(users.carol)
    watching.unwatch(users.carol, item.pk)
    watching.unwatch(users.alice, item.pk)
    say(users.bob, item)

    assert len(told(users.carol)) == 1
    assert len(told(users.alice)) == 1


def test_who_unwatched_is_still_told_what_is_meant_for_them(users, item):
    first = say(users.carol, item)
    watching.unwatch(users.carol, item.pk)
    say(users.bob, item, "yes", reply_to=first)
    say(users.bob, item, "and @carol")

    assert told(users.carol) == [
        ("mention", "bob mentioned you on “Tickets”"),
        ("reply", "bob replied to you on “Tickets”"),
    ]


def test_a_muted_item_tells_nothing(users, item):
    first = say(users.carol, item)
    watching.mute(users.carol, item.pk)
    say(users.bob, item, "@carol yes", reply_to=first)
    assert told(users.carol) == []

    watching.unmute(users.carol, item.pk)
    say(users.bob, item)

    assert [kind for kind, _ in told(users.carol)] == ["watch"]


@pytest.mark.parametrize(
    ("text", "replies", "kind"),
    [("@alice hi", True, "mention"), ("hi", True, "reply"), ("hi", False, "comment")],
)
def test_one_a_person_and_comment_for_the_strongest_reason(users, item, text, replies, kind):
    own = say(users.alice, item)
    say(users.bob, item, text, reply_to=own if replies else None)

    assert [found for found, _ in told(users.alice)] == [kind]


def test_a_reason_that_is_off_leaves_it_to_the_next(users, item):
    preferences.change(users.alice, types={"mention": "off"})
    say(users.bob, item, "@alice")
    assert [kind for kind, _ in told(users.alice)] == ["comment"]

    preferences.change(users.alice, types={"comment": "off"})
    say(users.bob, item, "@alice")

    assert len(raised(users.alice)) == 1


def test_many_comments_are_one_until_i_look(users, item):
    dave = User.objects.create_user("dave")
    for user in (users.carol, users.bob, users.carol, dave, users.bob):
        say(user, item)

    assert told(users.alice) == [("comment", "bob and 2 others commented on “Tickets”")]
    events = raised(users.alice)
    assert len({event["notification_id"] for event in events}) == 1
    assert [event["message"].partition(" commented")[0] for event in events] == [
        "carol", "bob and 1 other", "carol and 1 other", "dave and 2 others", "bob and 2 others",
    ]  # fmt: skip
    last = events[-1]
    assert (last["people"], last["count"]) == (3, 5)
    assert last["actors"] == [str(user.pk) for user in (users.bob, dave, users.carol)]


@pytest.mark.parametrize("look", ["read", "read-all", "archive", "open"])
def test_after_i_looked_a_new_one_begins(users, item, look):
    say(users.bob, item)
    [row] = Notification.objects.filter(user_id=users.alice.pk)
    match look:
        case "read":
            notifications.mark_read(users.alice, row.pk)
        case "read-all":
            notifications.read_all(users.alice)
        case "archive":
            notifications.archive(users.alice, row.pk)
        case "open":
            notifications.see_item(users.alice, item.pk)
    say(users.carol, item)

    assert told(users.alice) == [
        ("comment", "carol commented on “Tickets”"),
        ("comment", "bob commented on “Tickets”"),
    ]


def test_groups_are_of_one_item_and_one_reason(users, item):
    other = items.create_item(users.alice, title="Other")
    for where in (item, other):
        say(users.bob, where)
    say(users.bob, item, "@alice")

    assert len(told(users.alice)) == 3


def test_a_group_of_very_many_stays_small(users, item):
    people = [User.objects.create_user(f"user{n}") for n in range(notifications.ACTORS_MOST + 5)]
    for user in people:
        comments.add_comment(user, item.pk, text="me too")
    react()

    last = raised(users.alice)[-1]
    assert len(last["actors"]) == notifications.ACTORS_MOST
    assert last["people"] == last["count"] == len(people)


# --- Only for who may read -------------------------------------------------------------------


def test_only_who_may_read_it_at_that_moment(users, secret):
    watching.watch(users.bob, secret.pk)
    say(users.alice, secret, "hush, @carol and @bob")
    assert [kind for kind, _ in told(users.bob)] == ["mention"]
    assert told(users.carol) == []

    items.remove_member(users.alice, secret.pk, member_id=users.bob.pk)
    items.change_item(users.alice, secret.pk, title="Plans that bob must not know")
    say(users.alice, secret, "now without @bob")

    assert told(users.bob) == [("mention", "alice mentioned you on “Plans”")]
    assert "must not know" not in str(stream_of(users.bob))


def test_staff_reads_everything_and_the_disabled_nothing(users, secret):
    User.objects.filter(pk=users.bob.pk).update(is_active=False)
    say(users.alice, secret, "@admin @bob")

    assert [kind for kind, _ in told(users.admin)] == ["mention"]
    assert told(users.bob) == []


def test_what_is_gone_before_anyone_was_told_is_told_to_nobody(users, item):
    made = comments.add_comment(users.bob, item.pk, text="@carol oops")
    comments.delete_comment(users.bob, made.pk)
    other = items.create_item(users.alice, title="Gone")
    comments.add_comment(users.bob, other.pk, text="@carol")
    items.delete_item(users.alice, other.pk)
    react()

    assert told(users.alice) == told(users.carol) == []


# --- Mentions ---------------------------------------------------------------------------------


@pytest.fixture
def named(users):
    """Users whose names are hard."""
    for name in ("Dora", "dora", "eve.x", "f-g", "Ärmel", "bobby", "h.", "x@y.z"):
        User.objects.create_user(name)
    return users


MENTIONS = {
    "@bob": {"bob"},
    "hi @bob, hi": {"bob"},
    "(@bob)": {"bob"},
    "@bob.": {"bob"},
    "@bob...": {"bob"},
    "@bob's": {"bob"},
    "@BOB": {"bob"},
    "@bob @bob @BOB": {"bob"},
    "@bob/@carol": {"bob", "carol"},
    "@bob\n@carol": {"bob", "carol"},
    "你好@bob": set(),
    "你好 @bob": {"bob"},
    "@bobby": {"bobby"},
    "@bobo": set(),
    "alice@bob": set(),
    "alice@bob.com": set(),
    "a.b+c@bob": set(),
    "@@bob": set(),
    "@bob@example.com": set(),
    "@x@y.z": {"x@y.z"},
    "@ bob": set(),
    "@": set(),
    "bob": set(),
    "@Dora": {"Dora"},
    "@dora": {"dora"},
    "@DORA": {"Dora", "dora"},
    "@eve.x.": {"eve.x"},
    "@h.": {"h."},
    "@f-g-": {"f-g"},
    "@Ärmel": {"Ärmel"},
    "@A\u0308rmel": {"Ärmel"},
    "@" + "x" * 5_000: set(),
    "@bob" + "." * 5_000: {"bob"},
    "@nobody": set(),
}


@pytest.mark.parametrize("text", MENTIONS)
def test_whom_a_text_mentions(named, text):
    names = User.objects.filter(pk__in=mentions.mentioned(text)).values_list("username", flat=True)

    assert set(names) == MENTIONS[text]


def test_a_text_cannot_call_everybody(users, settings):
    settings.EVENTS_MAX_MENTIONS = 2

    assert mentions.mentioned("@alice @alice @bob @carol") == {users.alice.pk, users.bob.pk}


def test_names_are_found_by_an_index(users):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN SELECT id FROM auth_user WHERE lower(username) = ANY (ARRAY['bob'])")
        assert "tickertape_lower_name" in str(cursor.fetchall())


# --- How it is delivered --------------------------------------------------------------------


def test_a_crowds_comments_are_known_from_those_of_a_few(users, item):
    others = User.objects.bulk_create(User(username=f"u{n}") for n in range(2 * inbox.FEW))
    commented, watched, busy = (items.create_item(users.alice, title="Busy") for _ in range(3))
    for user in others[: inbox.FEW + 1]:
        comments.add_comment(user, commented.pk, text="Me, too.")
        watching.watch(user, watched.pk)
    for n in range(inbox.FEW):
        watching.watch(others[n], busy.pk)
        for _ in range(2):
            comments.add_comment(others[-1 - n], busy.pk, text="And again.")
    crowds = {item_channel(commented.pk), item_channel(watched.pk)}
    unknown = {Channel("item:what"), Channel(f"item:{2**63}"), Channel("job:1"), Channel("")}
    few = {item_channel(item.pk), item_channel(busy.pk)}

    assert inbox._crowds({*crowds, *unknown, *few}) == crowds | unknown


def test_what_is_off_is_not_raised(users, item):
    preferences.change(users.alice, types={"comment": "off"})
    say(users.bob, item)

    assert raised(users.alice) == []


def test_a_digest_is_in_the_inbox_and_says_so(users, item):
    preferences.change(users.alice, types={"comment": "digest"})
    say(users.bob, item)

    assert [event["delivery"] for event in raised(users.alice)] == ["digest"]


def test_in_quiet_hours_it_is_raised_quietly(users, item):
    preferences.change(users.alice, quiet=("00:00", "23:59"))
    preferences.change(users.carol, quiet=("00:00", "23:59"), types={"watch": "digest"})
    watching.watch(users.carol, item.pk)
    # One minute a day is not quiet; the other one then is.
    preferences.change(users.bob, quiet=("23:59", "00:00"))
    say(users.admin, item, "@bob")

    found = {user: [e["delivery"] for e in raised(user)] for user in (users.alice, users.bob, users.carol)}
    assert {found[users.alice][0], found[users.bob][0]} == {"quiet", "live"}
    assert found[users.carol] == ["digest"]


# --- Once -------------------------------------------------------------------------------------


def test_running_again_tells_nobody_twice_and_changes_nothing(users, item):
    say(users.bob, item, "@carol")
    notifications.read_all(users.alice)
    before = list(Notification.objects.order_by("pk").values())
    count = Event.objects.count()

    Checkpoint.objects.update(position=0)
    react()

    assert list(Notification.objects.order_by("pk").values()) == before
    assert Event.objects.count() == count
    assert not Delivery.objects.exists(), "nor did it fail"


def test_of_one_cause_two_at_once_tell_once(users, item, held, background):
    """Who waited for the inbox finds that another was faster."""
    made = comments.add_comment(users.bob, item.pk, text="x")
    about = notifications.Comment(str(made.pk), item.pk, users.alice.pk, "Tickets", users.bob.pk, "bob", 1)

    @transaction.atomic
    def tell():
        notifications.raise_comment(about, {users.alice.pk: ["comment"]}, caused_by=made.event_id)

    with held(tell):
        second = background(tell)
        until_someone_waits()
    second.result(20)

    assert len(raised(users.alice)) == 1
    assert Notification.objects.get(user_id=users.alice.pk).count == 1


def test_it_says_what_caused_it(users, item):
    made = say(users.bob, item)

    assert Event.objects.get(type="NotificationRaised").caused_by == made.event_id


def test_a_raise_that_waited_for_a_read_all_begins_a_new_group(users, item, held, background):
    say(users.bob, item)
    comments.add_comment(users.carol, item.pk, text="late")
    with held(lambda: notifications.read_all(users.alice)):
        raising = background(react)
        until_someone_waits()
    raising.result(20)

    assert told(users.alice)[0] == ("comment", "carol commented on “Tickets”")
    assert Notification.objects.filter(user_id=users.alice.pk, read=False).count() == 1


def test_a_read_all_that_waited_for_a_raise_reads_it_too(users, item, held, background):
    comments.add_comment(users.bob, item.pk, text="now")
    while log.place().count:
        pass
    with held(reactions.run):
        reading = background(lambda: notifications.read_all(users.alice))
        until_someone_waits()
    reading.result(20)

    assert [name for name, _ in stream_of(users.alice)] == ["NotificationRaised", "NotificationsRead"]
    assert not Notification.objects.filter(user_id=users.alice.pk, read=False).exists()


# --- Jobs -------------------------------------------------------------------------------------


@pytest.fixture
def job(users):
    """A job of alice's that a worker has in hand."""
    with transaction.atomic():
        queued = jobs.queue(users.alice, name="export", params={})
    return runs.claim(queued.pk, task_id="t1")


def test_a_job_of_mine_that_is_done(users, job):
    runs.complete(job, {"rows": 3})
    react()
    Checkpoint.objects.update(position=0)
    react()

    [event] = raised(users.alice)
    assert (event["kind"], event["job_id"]) == ("job", str(job.job_id))
    assert event["message"] == "Your job “export” is done"
    assert (event["item_id"], event["actors"], event["delivery"]) == (None, [], "live")
    assert told(users.alice) == [("job", "Your job “export” is done")]


def test_a_job_of_another_program_is_told_of_only_where_it_speaks_to_that_user(users):
    for channel in ("job:theirs", f"user:{users.bob.pk}"):
        done = TaskComplete(
            user_id=str(users.alice.pk), job_id="theirs", task_type="x" * 5_000, duration_ms=1, result=0
        )
        with transaction.atomic():
            log.append(done, channels=[Channel(channel)])
    react()
    assert told(users.alice) == []

    with transaction.atomic():
        log.append(done, channels=[user_channel(users.alice.pk)])
    react()

    [(kind, message)] = told(users.alice)
    assert (kind, len(message) < 200) == ("job", True)


def test_a_job_of_mine_that_failed_and_not_each_of_its_tries(users, job):
    runs.fail(job, runs.Failure("no", "ValueError", retry_seconds=0.0))
    react()
    assert told(users.alice) == []

    runs.fail(runs.claim(job.job_id, task_id="t1"), runs.Failure("no", "ValueError"))
    react()

    assert told(users.alice) == [("job", "Your job “export” failed")]


def test_a_job_that_i_cancelled_is_no_news(users):
    with transaction.atomic():
        queued = jobs.queue(users.alice, name="export", params={})
    jobs.cancel(users.alice, queued.pk)
    react()

    assert "JobCancelled" in [name for name, _ in stream_of(users.alice)]
    assert told(users.alice) == []


def test_jobs_can_be_off(users, job):
    preferences.change(users.alice, types={"job": "off"})
    runs.complete(job, None)
    react()

    assert told(users.alice) == []

"""Reactions: effects exist once, in order for each subject, and a failing one holds up only its own."""

import threading
from datetime import timedelta

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from events import log, pages
from events.registry import EventType
from tests.stack import eventually
from tests.workers.conftest import WorkTested
from workers import reactions
from workers.models import Checkpoint, Delivery


class Echoed(EventType):
    """A test's event was reacted to."""

    n: int


class Ignored(EventType):
    """Nothing reacts to this event of a test's."""

    n: int


@pytest.fixture
def react(start, monkeypatch):
    """Register reactions for one test; earlier events do not count."""
    monkeypatch.setattr(reactions, "_reactions", {})
    reactions.run()
    return reactions.reaction


def echo(cause):
    cause.append(Echoed(n=cause.event.n), target="all", channels=["item:2"])


def echoes():
    log.place()
    return [
        Echoed.model_validate_json(e.data).n for e in log.read(0, limit=5000).entries if e.type == "Echoed"
    ]


def ignore(number):
    with transaction.atomic():
        log.append_all([log.new(Ignored(n=n), channels=["item:1"]) for n in range(number)])


def hurry():
    Delivery.objects.filter(parked_at=None).update(due_at=timezone.now() - timedelta(seconds=1))


def test_a_reaction_appends_what_follows_with_its_cause(react, append, start):
    react(WorkTested)(echo)
    append(1, 2)
    log.place()
    reactions.run()
    assert echoes() == [1, 2]
    entries = {e.type: e for e in log.read(start, limit=10).entries}
    with psycopg.connect(django_settings.DATABASE_URL) as other:
        query = "SELECT caused_by FROM events_event WHERE id = %s"
        caused_by = other.execute(query, [entries["Echoed"].id]).fetchone()[0]
    assert caused_by in [e.id for e in log.read(start, limit=10).entries if e.type == "WorkTested"]


def test_what_nothing_reacts_to_is_not_read_and_yet_passed(react, append, start, monkeypatch):
    monkeypatch.setattr(log, "WINDOW", 10)
    touched = []
    current = pages.current
    monkeypatch.setattr(pages, "current", lambda *stored: touched.append(stored[0]) or current(*stored))
    react(WorkTested)(echo)
    ignore(35)
    append(1)
    ignore(24)
    log.place()

    assert reactions.run() == 60

    assert Checkpoint.objects.get().position == start + 60 == log.head().position
    assert touched == ["WorkTested"]
    assert echoes() == [1]
    assert reactions.run() == 1, "the echo"


def test_a_turn_that_ends_in_between_forgets_nothing(react, append, monkeypatch):
    monkeypatch.setattr(reactions, "TURN_SECONDS", 0)
    react(WorkTested)(echo)
    for n in range(3):
        append(n)
        ignore(2)
    log.place()
    turns = []
    while passed := reactions._react_to_new():
        turns.append(passed)

    assert turns == [1, 3, 5], "the last of what is wanted covers what comes after it"
    assert echoes() == [0, 1, 2]


def test_another_epoch_without_anything_to_react_to_is_stood_at(react, start):
    react(WorkTested)(echo)
    ignore(5)
    log.place()
    reactions.run()
    log.new_epoch()

    assert reactions.run() == 0

    place = Checkpoint.objects.get()
    assert (place.epoch, place.position) == (log.head().epoch, start + 5)
    assert reactions._look() == (False, False)


def test_running_again_adds_nothing(react, append):
    react(WorkTested)(echo)
    append(1)
    log.place()
    for _ in range(3):
        reactions.run()
    assert echoes() == [1]


def test_even_when_the_checkpoint_was_lost(react, append):
    react(WorkTested)(echo)
    append(1, 2)
    log.place()
    reactions.run()
    Checkpoint.objects.update(position=0)
    reactions.run()
    assert echoes() == [1, 2]


def test_many_that_run_at_once_do_it_once(react, append, in_thread):
    react(WorkTested)(echo)
    append(*range(100))
    log.place()
    barrier = threading.Barrier(4)

    def run():
        barrier.wait(10)
        reactions.run()

    for thread in [in_thread(run) for _ in range(4)]:
        thread.join(30)
    reactions.run()
    assert echoes() == list(range(100))


def test_a_turn_that_takes_long_commits_what_it_has(react, append, monkeypatch):
    """What reactions lock, people wait for: many slow ones must not be one transaction."""
    monkeypatch.setattr(reactions, "TURN_SECONDS", 0.05)
    transactions = []

    def slow(cause):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()::text, pg_sleep(0.03)")
            transactions.append(cursor.fetchone()[0])
        echo(cause)

    react(WorkTested)(slow)
    append(*range(6))
    log.place()
    reactions.run()

    assert echoes() == list(range(6))
    assert len(transactions) == 6, "each was reacted to once"
    assert max(map(transactions.count, transactions)) <= 2


def test_a_failing_reaction_holds_up_its_subject_and_no_other(react, append):
    broken = {"is": True}

    def sometimes(cause):
        if broken["is"] and cause.event.n == 1:
            raise ValueError("one is broken")
        echo(cause)

    react(WorkTested)(sometimes)
    append(1, 2, channel="item:1")
    append(3, channel="item:9")
    log.place()
    reactions.run()
    assert echoes() == [3]
    assert list(Delivery.objects.order_by("position").values_list("tries", "error")) == [
        (1, "ValueError: one is broken"),
        (0, ""),
    ]

    reactions.run()
    assert echoes() == [3]  # not due yet, and what is behind it waits
    broken["is"] = False
    hurry()
    reactions.run()
    assert echoes() == [3, 1, 2]
    assert not Delivery.objects.exists()


def test_events_that_come_later_wait_behind_it_too(react, append):
    broken = {"is": True}

    def sometimes(cause):
        if broken["is"] and cause.event.n == 1:
            raise ValueError
        echo(cause)

    react(WorkTested)(sometimes)
    append(1)
    log.place()
    reactions.run()
    append(2)
    log.place()
    reactions.run()
    assert echoes() == []
    broken["is"] = False
    hurry()
    reactions.run()
    assert echoes() == [1, 2]


def test_after_the_last_try_it_is_parked_and_its_subject_goes_on(react, append, settings):
    settings.WORKERS_REACTION_TRIES = 3

    def never(cause):
        if cause.event.n == 1:
            raise IntegrityError("one never works")
        echo(cause)

    react(WorkTested)(never)
    append(1, 2)
    log.place()
    for _ in range(5):
        reactions.run()
        hurry()
    [parked] = Delivery.objects.all()
    assert parked.tries == 3
    assert parked.parked_at is not None
    assert "one never works" in parked.error
    assert echoes() == [2]


def test_backoff_grows_and_is_bounded(monkeypatch):
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)

    def wait(tries):
        return (reactions._due(tries) - now).total_seconds()

    assert all(0.4 < wait(1) < 1.6 for _ in range(50))
    assert all(3.9 < wait(4) < 12.1 for _ in range(50))
    assert all(wait(40) <= 1.5 * reactions.LONGEST_WAIT_SECONDS for _ in range(50))


def test_what_a_failing_reaction_did_is_undone(react, append):
    def half(cause):
        echo(cause)
        raise ValueError

    react(WorkTested)(half)
    append(1)
    log.place()
    reactions.run()
    assert echoes() == []


def test_a_reactor_that_is_frozen_gives_its_turn_up(react, append, monkeypatch, in_thread):
    monkeypatch.setattr(reactions, "FROZEN_SECONDS", 5)
    frozen, thaw = threading.Event(), threading.Event()

    def slow(cause):
        if not frozen.is_set():
            frozen.set()
            thaw.wait(20)
        echo(cause)

    react(WorkTested)(slow)
    append(1)
    log.place()

    def run():
        with pytest.raises(Exception, match=r"terminat|closed|idle"):
            reactions.run()

    thread = in_thread(run)
    assert frozen.wait(10)
    assert reactions.run() == 0  # the turn is taken: nobody waits
    eventually(reactions.run, seconds=30, every=0.2)
    thaw.set()
    thread.join(10)
    assert not thread.is_alive()
    assert echoes() == [1]


def test_two_reactions_to_one_event_fail_apart(react, append):
    def broken(cause):
        raise ValueError

    react(WorkTested)(broken)
    react(WorkTested)(echo)
    append(1)
    log.place()
    reactions.run()
    assert echoes() == [1]
    assert Delivery.objects.count() == 1


def test_a_database_error_that_the_session_survives_is_a_failure_like_any_other(react, append):
    def slow(cause):
        if cause.event.n == 1:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 10")
                cursor.execute("SELECT pg_sleep(5)")
        echo(cause)

    react(WorkTested)(slow)
    append(1, channel="item:1")
    append(2, channel="item:9")
    log.place()
    reactions.run()
    assert echoes() == [2]
    assert (
        "QueryCanceled" in Delivery.objects.get().error or "OperationalError" in Delivery.objects.get().error
    )


def test_a_reaction_that_ends_its_session_stops_no_other(react, append, settings):
    settings.WORKERS_REACTION_TRIES = 2

    def deadly(cause):
        if cause.event.n == 1:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        echo(cause)

    react(WorkTested)(deadly)
    append(1, channel="item:1")
    append(2, channel="item:9")
    log.place()
    for _ in range(8):
        try:
            reactions.run()
        except (OperationalError, InterfaceError):
            connection.close()
        hurry()
    assert echoes() == [2]
    assert Delivery.objects.get().parked_at is not None


def test_after_a_restore_what_was_never_reacted_to_is(react, append, start):
    """The checkpoint is above where the new history began, and below its head."""
    react(WorkTested)(echo)
    append(*range(5))
    log.place()
    reactions.run()
    position = log.head().position
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = 'replica'")  # past the guards, as a restore is
        cursor.execute("DELETE FROM events_event WHERE position > %s OR type = 'Echoed'", [start + 2])
        cursor.execute("DELETE FROM events_channelposition WHERE position > %s", [start + 2])
        cursor.execute("UPDATE events_logstate SET head = %s", [start + 2])
    log.new_epoch()
    append(*range(10, 20))
    log.place()
    assert log.head().position > position
    reactions.run()
    assert echoes() == list(range(10, 20))

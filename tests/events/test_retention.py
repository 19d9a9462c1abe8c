"""Retention: what is too old goes in bounded batches, the oldest first, and nothing younger."""

import threading
from datetime import timedelta
from io import StringIO

import psycopg
import pytest
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from events import log, retention
from events.channels import LOG, Channel
from events.models import IdempotencyKey
from events.registry import EventType
from project.settings import number
from tests.events.support import events_on, until_someone_waits

A = Channel("item:1")


class RetentionTested(EventType):
    """Something happened to a test of retention."""

    n: int


def append(*ns):
    with transaction.atomic():
        for n in ns:
            log.append(RetentionTested(n=n), channels=[A])
    log.place()


def age(seconds):
    """Make everything that is placed so old."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE events_event DISABLE TRIGGER USER")
        cursor.execute(
            "UPDATE events_event SET created_at = created_at - make_interval(secs => %s)"
            " WHERE position IS NOT NULL",
            [seconds],
        )
        cursor.execute("ALTER TABLE events_event ENABLE TRIGGER USER")


def kept():
    log.place()
    return [
        RetentionTested.model_validate_json(entry.data).n
        for entry in log.read(0, limit=5000).entries
        if entry.type == "RetentionTested"
    ]


def prune_log(*arguments):
    out = StringIO()
    call_command("prune_log", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def clean(database, monkeypatch):
    """A log that begins here, and that nobody holds: here is no worker whose reactions would read it."""
    monkeypatch.setattr(retention, "_holds", [])
    log.place()
    log.prune(log.head().position)


@pytest.fixture
def holding(monkeypatch):
    """Hold the log only where a test says so."""
    holds = []
    monkeypatch.setattr(retention, "_holds", holds)
    return holds


def test_what_is_older_goes_and_what_is_younger_stays(clean):
    append(*range(10))
    age(3600)
    append(*range(10, 15))

    said = prune_log("--older-than", "30m")

    assert kept() == list(range(10, 15))
    assert f"Pruned 10 events; position {log.head().position - 5} is the oldest now." in said


def test_the_age_is_the_events_and_not_the_positions(clean, background):
    """A transaction that began long ago and committed late must not take younger events with it."""
    append(1)
    age(3600)
    append(2)
    append(3)
    with connection.cursor() as cursor:  # 3 began first and was placed last
        cursor.execute("ALTER TABLE events_event DISABLE TRIGGER USER")
        cursor.execute(
            "UPDATE events_event SET created_at = created_at - interval '1 hour'"
            " WHERE position = (SELECT max(position) FROM events_event)"
        )
        cursor.execute("ALTER TABLE events_event ENABLE TRIGGER USER")

    prune_log("--older-than", "30m")

    assert kept() == [2, 3]


def test_it_goes_in_batches_of_a_transaction_each(clean):
    append(*range(25))
    seen = [(pruned.removed, pruned.done) for pruned in retention.prune(log.head().position, batch=10)]

    assert seen == [(10, False), (10, False), (5, True)]
    assert len([name for name, _ in events_on(LOG) if name == "LogPruned"]) == 3


def test_a_batch_does_not_outlive_its_caller(clean):
    """Its caller may freeze after each: no lock is left to hold up the placing."""
    append(*range(25))
    batches = retention.prune(log.head().position, batch=10)
    next(batches)

    with psycopg.connect(django_settings.DATABASE_URL, autocommit=True) as other:
        other.execute("SET lock_timeout = '2s'")
        other.execute("SELECT tickertape_place(100)")
    assert sum(pruned.removed for pruned in batches) >= 15


def test_pruning_inside_a_transaction_is_refused(clean):
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        log.prune_batch(1)


def test_a_dry_run_removes_nothing_and_says_how_many_would_go(clean):
    append(*range(7))

    said = prune_log("--older-than", "0s", "--dry-run")

    assert kept() == list(range(7))
    assert f"Would prune 7 events, up to position {log.head().position}." in said


def test_nothing_that_old_is_said(clean):
    append(1)
    assert "No event is that old." in prune_log("--older-than", "1d")
    assert kept() == [1]


def test_what_is_not_placed_yet_is_not_pruned(clean):
    append(1)
    with transaction.atomic():
        log.append(RetentionTested(n=2), channels=[A])

    prune_log("--older-than", "0s")

    assert kept() == [2]


def test_what_somebody_has_yet_to_read_is_kept(clean, holding):
    append(1, 2)
    holding.append(lambda: log.head().position - 1)
    holding.append(lambda: None)

    said = prune_log("--older-than", "0s")

    assert kept() == [2]
    assert "reactions have yet to read them" in said


def test_two_prunings_and_a_placing_at_once_take_turns(clean):
    append(*range(300))
    upto = log.head().position
    barrier = threading.Barrier(3)
    removed = []

    def prune():
        barrier.wait(10)
        removed.append(sum(pruned.removed for pruned in retention.prune(upto, batch=7)))
        connection.close()

    threads = [threading.Thread(target=prune) for _ in range(2)]
    for thread in threads:
        thread.start()
    barrier.wait(10)
    append(*range(300, 330))
    for thread in threads:
        thread.join(30)

    assert sum(removed) == 300
    assert kept() == list(range(300, 330))


def test_it_waits_for_a_rebuild_under_way(clean, held, background):
    append(1)
    upto = log.head().position

    def take_turn():
        with connection.cursor() as cursor:
            cursor.execute("SELECT tickertape_take_turns()")

    with held(take_turn):
        pruning = background(lambda: log.prune(upto))
        until_someone_waits()
        log.place()  # the placing does not
        assert not pruning.done()
    pruning.result(20)

    assert kept() == []


def test_old_idempotency_keys_and_sessions_go_too(clean, users):
    now = timezone.now()
    for key, hours in (("old", 25), ("new", 23)):
        IdempotencyKey.objects.create(user_id=1, key=key, digest=b"", created_at=now - timedelta(hours=hours))
    for key, hours in (("over", -1), ("open", 1)):
        Session.objects.create(session_key=key, session_data="", expire_date=now + timedelta(hours=hours))

    said = prune_log("--older-than", "30d")

    assert "Removed 1 idempotency keys." in said
    assert "Removed 1 sessions." in said
    assert [row.key for row in IdempotencyKey.objects.all()] == ["new"]
    assert [row.session_key for row in Session.objects.all()] == ["open"]


def test_leftovers_go_in_batches_and_locked_ones_are_left(clean, monkeypatch):
    monkeypatch.setattr(retention, "LEFTOVER_BATCH", 3)
    old = timezone.now() - timedelta(days=2)
    IdempotencyKey.objects.bulk_create(
        IdempotencyKey(user_id=1, key=str(n), digest=b"", created_at=old) for n in range(10)
    )
    with psycopg.connect(django_settings.DATABASE_URL) as other:
        other.execute("SELECT FROM events_idempotencykey WHERE key = '4' FOR UPDATE")
        assert dict(retention.sweep())["idempotency keys"] == 9


def test_the_task_prunes_what_the_settings_say(clean, settings):
    from workers import tasks

    append(1)
    age(3 * 24 * 3600)
    append(2)
    tasks.keep()
    assert kept() == [1, 2], "by default all is kept"

    settings.EVENTS_RETENTION_DAYS = 2
    tasks.keep()
    assert kept() == [2]


def test_beat_runs_the_task(settings):
    from project.celery import app

    app.loader.import_default_modules()
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)
    assert "workers.keep" in app.tasks


def test_without_an_age_the_command_takes_the_settings(clean, settings):
    append(1)
    age(3 * 24 * 3600)
    settings.EVENTS_RETENTION_DAYS = 2

    prune_log()

    assert kept() == []


def test_the_setting_may_be_0_and_nothing_below(monkeypatch):
    monkeypatch.setenv("EVENTS_RETENTION_DAYS", "0")
    assert number("EVENTS_RETENTION_DAYS", 0, zero=True) == 0
    monkeypatch.setenv("EVENTS_RETENTION_DAYS", "-1")
    with pytest.raises(ImproperlyConfigured, match="EVENTS_RETENTION_DAYS"):
        number("EVENTS_RETENTION_DAYS", 0, zero=True)


@pytest.mark.parametrize(
    ("text", "days"), [("30d", 30), ("2w", 14), ("48h", 2), ("1440m", 1), ("86400s", 1), ("0d", 0)]
)
def test_ages(text, days):
    assert retention.parse_age(text) == timedelta(days=days)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--older-than", "soon"),
        ("--older-than", ""),
        ("--older-than=-3d",),
        ("--older-than", "1.5d"),
        ("--older-than", "30"),
        ("--older-than", "999999999w"),
        ("--older-than", "1d", "--batch", "0"),
        ("--older-than", "1d", "--batch=-5"),
        ("--older-than", "1d", "--batch", "many"),
        ("--older-than", "1d", "--batch", "1000000"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(clean, arguments):
    append(1)
    age(365 * 24 * 3600)

    with pytest.raises(CommandError) as refused:
        prune_log(*arguments)

    assert refused.value.returncode == 2
    assert len(str(refused.value).splitlines()) == 1
    assert kept() == [1]

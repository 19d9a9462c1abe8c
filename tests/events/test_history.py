"""Another history: what was seen of the log is not there any more, and whoever looks begins a new epoch."""

import pytest
from django.db import connection, transaction

from events import log
from events.channels import Channel
from events.cursor import Cursor
from events.registry import EventType
from tests.events.support import undo

A = Channel("item:1")


class HistoryTested(EventType):
    """Something happened to a test of histories."""

    n: int


@pytest.fixture
def start(database):
    """The head before the test."""
    while log.place().count:
        pass
    return log.head().position


def append(*ns):
    for n in ns:
        with transaction.atomic():
            log.append(HistoryTested(n=n), channels=[A])
    log.place()


def begins(**seen):
    """Look, and tell whether that began a new epoch."""
    before = log.head().epoch
    log.look(**seen)
    return log.head().epoch != before


def test_a_history_that_goes_on_is_the_same(start):
    marks = [log.look()]
    for n in range(3):
        append(n)
        marks.append(log.look(marks=marks))

    assert not begins(marks=marks, seen=log.head())


def test_a_mark_outlives_the_event_it_was_made_of(start):
    append(1, 2)
    mark = log.look()
    append(3)
    log.prune(log.head().position)
    log.place()

    assert not begins(marks=[mark])


def test_a_head_that_went_back_is_noticed(start):
    append(1, 2)
    seen = log.head()
    undo(start + 1)

    assert begins(seen=seen)
    assert not begins(seen=seen), "once: the head is of another epoch now"


@pytest.mark.parametrize("grown", [1, 2, 5], ids=["below", "up to", "beyond"])
def test_a_history_that_grew_again_is_told_by_a_mark(start, grown):
    append(1, 2)
    mark = log.look()
    undo(start)
    append(*range(10, 10 + grown))

    assert begins(marks=[mark])
    assert not begins(marks=[mark]), "once: everybody else's marks are as old"


def test_an_epoch_older_than_one_that_was_seen_is_noticed(start):
    append(1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT epoch, began, began_at FROM events_logstate")
        older = cursor.fetchone()
    newer = Cursor(log.new_epoch(), log.head().position)
    mark = log.look()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE events_logstate SET epoch = %s, began = %s, began_at = %s", older)

    assert not begins(seen=newer), "two that differ do not say which is the later"
    assert begins(marks=[mark])
    assert log.head().epoch not in (older[0], newer.epoch)


def test_an_epoch_that_began_later_is_no_reason_for_another(start):
    append(1)
    mark = log.look()
    log.new_epoch()

    assert not begins(marks=[mark])


def test_the_later_epoch_has_the_later_time_whatever_the_clock_says(start):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE events_logstate SET began_at = clock_timestamp() + interval '1 hour'")
    mark = log.look()
    log.new_epoch()
    try:
        assert not begins(marks=[mark])
        assert log.look().partition("-")[0] > mark.partition("-")[0]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE events_logstate SET began_at = clock_timestamp()")


@pytest.mark.parametrize(
    "mark", ["", "-", "nonsense", "1-2-3", f"{'9' * 30}-abc-1-1", "9999999999999999-ABC-1-1", "1-é-1-1"]
)
def test_what_is_no_mark_says_nothing(start, mark):
    append(1)
    assert not begins(marks=[mark])


def test_one_lost_epoch_is_one_reset_whatever_the_clock_says(start):
    with connection.cursor() as cursor:
        cursor.execute("SELECT epoch, began, began_at FROM events_logstate")
        older = cursor.fetchone()
        # The primary that was lost began an epoch that its replica has not; its clock was ahead of ours.
        cursor.execute(
            "UPDATE events_logstate SET epoch = 'abc', began_at = clock_timestamp() + interval '1 hour'"
        )
        mark = log.look()  # which every hub and every worker keeps
        cursor.execute("UPDATE events_logstate SET epoch = %s, began = %s, began_at = %s", older)
    log.look(marks=[mark])
    begun = log.head().epoch
    assert begun != older[0]
    log.look(marks=[mark])  # the next process's look
    assert log.head().epoch == begun

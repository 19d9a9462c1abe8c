"""A placing that has nothing to place does not write and waits for nobody; one that has, as ever."""

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction

from events import log
from events.channels import Channel
from tests.events.support import until_someone_waits
from tests.events.test_log import append


@pytest.fixture
def quiet(database):
    """A log that has just been placed whole."""
    append()
    while log.place().count:
        pass
    return log.head()


@pytest.fixture
def other(quiet):
    with psycopg.connect(django_settings.DATABASE_URL) as connected:
        yield connected


def test_nothing_to_place_waits_for_no_other_placer(quiet, other):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE events_logstate SET ticked_at = clock_timestamp() + interval '1 hour'")
    other.execute("SELECT FROM events_logstate FOR UPDATE")  # a placer in the middle
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
        try:
            placed = log.place()
        finally:
            cursor.execute("RESET lock_timeout")

    assert (placed.epoch, placed.head, placed.count) == (quiet.epoch, quiet.position, 0)


def test_nothing_to_place_writes_nothing(quiet, other):
    """A transaction that has no number has written nothing, so its commit waits for no disk."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE events_logstate SET ticked_at = clock_timestamp() + interval '1 hour'")
    other.execute("SELECT tickertape_place(1000)")
    assert other.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
    append(2)
    other.execute("SELECT tickertape_place(1000)")
    assert other.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() != (None,)


def test_it_ticks_once_a_second_all_the_same(quiet):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE events_logstate SET ticked_at = clock_timestamp() - interval '1 second'"
            " RETURNING clock_timestamp()"
        )
        [before] = cursor.fetchone()
    log.place()
    with connection.cursor() as cursor:
        cursor.execute("SELECT ticked_at >= %s FROM events_logstate", [before])
        assert cursor.fetchone()[0]


def test_what_another_is_placing_is_waited_for(quiet, other, background):
    """Its head is not below what was committed before it was asked for."""
    append(2)
    other.execute("SELECT tickertape_place(1000)")  # not committed
    second = background(log.place)
    until_someone_waits()
    other.commit()

    assert second.result(20).head == quiet.position + 1


def test_another_history_is_noticed_without_anything_to_place(quiet):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE events_logstate SET timeline = 'another', ticked_at = clock_timestamp()")
    assert log.place().epoch != quiet.epoch


def test_ids_that_begin_anew_are_found(quiet):
    """As after a switch-over: what is settled lies above them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE events_logstate SET settled_to = 1000000, taken_to = 0, ticked_at = clock_timestamp()"
        )
    with transaction.atomic():
        log.append_raw("Noted", {}, channels=[Channel("item:1")])
    assert log.place().count == 1

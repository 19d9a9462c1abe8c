"""A connection with somebody waiting gives up a server that says nothing."""

import time

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError
from django.db.utils import DatabaseErrorWrapper

from events.patience import PatientAsyncConnection, PatientConnection, Unanswered


@pytest.fixture(autouse=True)
def _impatient(database, settings):
    settings.DATABASE_ANSWER_SECONDS = 0.3


def test_a_statement_that_is_not_answered_ends_with_its_connection():
    with PatientConnection.connect(django_settings.DATABASE_URL) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
        began = time.monotonic()
        with pytest.raises(Unanswered):
            session.execute("SELECT pg_sleep(20)")
        assert time.monotonic() - began < 2
        assert session.closed


async def test_so_does_one_of_an_event_loop():
    async with await PatientAsyncConnection.connect(django_settings.DATABASE_URL) as session:
        assert await (await session.execute("SELECT 1")).fetchone() == (1,)
        began = time.monotonic()
        with pytest.raises(Unanswered):
            await session.execute("SELECT pg_sleep(20)")
        assert time.monotonic() - began < 2
        assert session.closed


def test_the_time_is_one_statements_and_not_the_connections():
    with PatientConnection.connect(django_settings.DATABASE_URL) as session:
        for _ in range(4):
            session.execute("SELECT pg_sleep(0.1)")


def test_django_takes_it_for_a_database_that_is_away():
    from django.db import connection

    with pytest.raises(OperationalError), DatabaseErrorWrapper(connection):
        raise Unanswered("the database does not answer")

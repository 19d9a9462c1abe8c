"""Reactions happen once, whatever the broker delivers: the same message many times, to many at once."""

import json

import pytest
import redis
from celery import Celery

from tests.stack import Stack, eventually

COPIES = 40


@pytest.fixture
def busy(postgres, valkey, tmp_path):
    """A stack whose workers' app has a reaction; a test starts them."""
    stack = Stack(
        postgres,
        valkey,
        tmp_path,
        name="duplicates",
        DJANGO_SETTINGS_MODULE="tests.reacting.settings",
        CELERY_WORKER_CONCURRENCY="3",
    )
    with stack:
        yield stack
        for name in list(stack.processes):
            stack.kill(name)  # what they are in the middle of is over: nobody waits for it


def call(connection, *ns, seconds=0.0):
    """Append in one transaction, without a hint."""
    with connection.transaction():
        for n in ns:
            connection.execute(
                "INSERT INTO events_event (type, version, data, channels) VALUES ('Called', 1, %s, %s)",
                [json.dumps({"n": n, "seconds": seconds}), [f"item:{n % 3 + 10}"]],
            )


def echoed(connection):
    """Return what was echoed, in the order in which it was appended."""
    rows = connection.execute(
        "SELECT (data::json->>'n')::int FROM events_event WHERE type = 'Echoed' ORDER BY id"
    )
    return [row[0] for row in rows.fetchall()]


@pytest.fixture
def client(busy):
    """The broker."""
    with redis.Redis.from_url(busy.valkey.url) as client:
        yield client


@pytest.fixture
def raw(busy, client):
    """A real message of the task that reacts, as Celery puts it into the queue."""
    with Celery("sender", broker=busy.valkey.url) as app, app.connection_for_write() as connection:
        app.send_task("workers.react", queue=busy.name, connection=connection)
    message = client.lindex(busy.name, 0)
    client.delete(busy.name)
    return message


def test_one_message_delivered_many_times_to_many_workers_has_one_effect(busy, client, raw):
    with busy.connect() as connection:
        busy.start("worker", "worker2")
        for name in ("worker", "worker2"):
            eventually(lambda name=name: "ready." in busy.log(name).read_text())
        total = 0
        for _ in range(4):
            # Placed and asked for at once: every child of both workers finds the same events to react to.
            call(connection, *range(total, total + 30), seconds=0.01)
            with connection.transaction():
                connection.execute("SELECT tickertape_place(1000)")
                client.lpush(busy.name, *[raw] * COPIES)
            total += 30
            eventually(lambda total=total: len(echoed(connection)) >= total)
        eventually(lambda: client.llen(busy.name) == 0)
        checkpoint = "SELECT position FROM workers_checkpoint WHERE name = 'reactions'"
        head = "SELECT head FROM events_logstate"
        eventually(lambda: connection.execute(checkpoint).fetchone() == connection.execute(head).fetchone())

        found = echoed(connection)
        assert sorted(found) == list(range(total)), "each once"
        for subject in range(3):
            of_one = [n for n in found if n % 3 == subject]
            assert of_one == sorted(of_one), "in the order of its subject"
        assert connection.execute("SELECT count(*) FROM workers_delivery").fetchone() == (0,)


def test_a_message_taken_and_never_acknowledged_has_one_effect(busy, client, raw):
    """The worker that took it is killed in the middle: another does it, and it comes again as well."""
    with busy.connect() as connection:
        call(connection, 1, 2, 3, seconds=1.0)
        connection.execute("SELECT tickertape_place(1000)")
        client.lpush(busy.name, raw)
        busy.start("worker")

        def at_it():
            """Tell whether somebody is in the middle of the reactions' transaction."""
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND state = 'idle in transaction'"
            )
            return row.fetchone()[0]

        eventually(at_it)
        busy.kill("worker")
        assert echoed(connection) == []
        client.lpush(busy.name, raw, raw)
        busy.start("worker2")

        eventually(lambda: len(echoed(connection)) >= 3)
        eventually(lambda: client.llen(busy.name) == 0)
        assert echoed(connection) == [1, 2, 3]

"""Reactions happen once, whatever the broker delivers: the same message many times, to many at once."""

import json

import pytest
import redis

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


def call(connection, *ns, seconds=0.0):
    """Append in one transaction, without a hint."""
    with connection.transaction():
        for n in ns:
            connection.execute(
                "INSERT INTO events_event (type, version, data, channels) VALUES ('Called', 1, %s, %s)",
                [json.dumps({"n": n, "seconds": seconds}), [f"item:{n % 3 + 10}"]],
            )


def echoed(connection):
    rows = connection.execute(
        "SELECT (data::json->>'n')::int, data FROM events_event WHERE type = 'Echoed' ORDER BY id"
    )
    return [row[0] for row in rows.fetchall()]


def message(broker, queue):
    """Return a real message of the task that reacts, as Celery put it into the queue."""
    from celery import Celery

    with Celery("sender", broker=broker).connection_for_write() as connection:
        app = Celery("sender", broker=broker)
        app.send_task("workers.react", queue=queue, connection=connection)
    client = redis.Redis.from_url(broker)
    raw = client.lindex(queue, 0)
    client.delete(queue)
    return client, raw


def test_one_message_delivered_many_times_to_many_workers_has_one_effect(busy):
    client, raw = message(busy.valkey.url, busy.name)
    with busy.connect() as connection:
        call(connection, *range(60), seconds=0.005)
        connection.execute("SELECT tickertape_place(1000)")
        client.lpush(busy.name, *[raw] * COPIES)

        busy.start("worker", "worker2")
        eventually(lambda: len(echoed(connection)) >= 60)
        # More of the same while they work, and new events between.
        for first in range(60, 120, 20):
            call(connection, *range(first, first + 20), seconds=0.002)
            client.lpush(busy.name, *[raw] * COPIES)
        eventually(lambda: len(echoed(connection)) >= 120)
        eventually(lambda: client.llen(busy.name) == 0)
        checkpoint = "SELECT position FROM workers_checkpoint WHERE name = 'reactions'"
        head = "SELECT head FROM events_logstate"
        eventually(lambda: connection.execute(checkpoint).fetchone() == connection.execute(head).fetchone())

        found = echoed(connection)
        assert sorted(found) == list(range(120)), "each once"
        for subject in range(3):
            of_one = [n for n in found if n % 3 == subject]
            assert of_one == sorted(of_one), "in the order of its subject"
        assert connection.execute("SELECT count(*) FROM workers_delivery").fetchone() == (0,)
    client.close()


def test_a_message_taken_and_never_acknowledged_has_one_effect(busy):
    """The worker that took it is killed in the middle: another does it, and it comes again as well."""
    client, raw = message(busy.valkey.url, busy.name)
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
    client.close()

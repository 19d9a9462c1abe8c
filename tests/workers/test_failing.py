"""A reaction that fails, in workers as they run: it waits, gives up, and an admin sees to it over HTTP."""

import json

import pytest
import redis
from celery import Celery

from tests.stack import Stack, eventually


@pytest.fixture
def stack(postgres, valkey, tmp_path):
    """Two workers whose reactions give up after two tries, and the admin's pages."""
    environment = {"DJANGO_SETTINGS_MODULE": "tests.reacting.settings", "WORKERS_REACTION_TRIES": "2"}
    with Stack(postgres, valkey, tmp_path, name="failing", **environment) as stack:
        stack.start("worker", "worker2", "uvicorn")
        yield stack


def call(connection, n, *, item, broken=False):
    connection.execute(
        "INSERT INTO events_event (type, version, data, channels) VALUES ('Called', 1, %s, %s)",
        [json.dumps({"n": n, "broken": broken}), [f"item:{item}"]],
    )


def echoed(connection):
    """Return what was echoed, in the order in which it was appended."""
    rows = connection.execute(
        "SELECT (data::json->>'n')::int FROM events_event WHERE type = 'Echoed' ORDER BY id"
    )
    return [row[0] for row in rows.fetchall()]


def ask_many_times(stack, copies):
    """Put the task that reacts into the queue so often."""
    with Celery("sender", broker=stack.valkey.url) as app, app.connection_for_write() as connection:
        for _ in range(copies):
            app.send_task("workers.react", queue=stack.name, connection=connection)


def test_it_holds_up_its_subject_until_it_is_parked_and_is_done_once_when_it_is_retried(stack):
    with stack.connect() as connection, redis.Redis.from_url(stack.valkey.url) as broker:
        with connection.transaction():
            call(connection, 0, item=10, broken=True)
            call(connection, 1, item=10)
            call(connection, 2, item=11)
        eventually(lambda: echoed(connection) == [2])

        def parked():
            """The first gave up, and the one behind it went on."""
            rows = connection.execute(
                "SELECT id, tries, error FROM workers_delivery WHERE parked_at IS NOT NULL"
            ).fetchall()
            return rows if echoed(connection) == [2, 1] else None

        [(delivery, tries, error)] = eventually(parked)
        assert (tries, error) == (2, "ValueError: It is broken.")

        admin = stack.login("admin")
        listed = admin.get("/admin/workers/delivery/").text
        assert "ValueError: It is broken." in listed
        connection.execute(
            "INSERT INTO events_event (type, version, data, channels) VALUES ('Mended', 1, '{}', '{item:9}')"
        )
        ask_many_times(stack, 20)
        answer = admin.post(f"/admin/workers/delivery/{delivery}/retry/", data={"sure": "1"})
        assert answer.status_code == 302
        ask_many_times(stack, 20)

        eventually(lambda: 0 in echoed(connection))
        eventually(lambda: broker.llen(stack.name) == 0)
        call(connection, 3, item=10)
        eventually(lambda: 3 in echoed(connection))
        assert echoed(connection) == [2, 1, 0, 3]
        assert connection.execute("SELECT count(*) FROM workers_delivery").fetchone() == (0,)

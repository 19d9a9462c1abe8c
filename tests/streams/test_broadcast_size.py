"""A hundred thousand users: one broadcast to all is one event, soon answered and soon on every screen."""

import contextlib
import sys
import time
from statistics import median

import pytest

from tests.stack import listening

USERS, CONNECTIONS = 100_000, 40
ANSWER_SECONDS, ARRIVAL_SECONDS = 0.100, 1.0
SENT = 7


@pytest.fixture
def crowd(stack):
    """Very many users, all of whom could log in; gone afterwards."""
    with stack.connect() as connection:
        connection.execute(
            "INSERT INTO auth_user (username, password, email, first_name, last_name, is_active, is_staff,"
            " is_superuser, date_joined) SELECT 'crowd-' || n, '!', '', '', '', true, false, false, now()"
            " FROM generate_series(1, %s) AS n",
            [USERS],
        )
        connection.execute("ANALYZE auth_user")
        connection.commit()
    yield
    with stack.connect() as connection:
        connection.execute("SET session_replication_role = 'replica'")  # else each is an event of its own
        connection.execute("DELETE FROM auth_user WHERE username LIKE 'crowd-%'")
        connection.commit()


def test_to_everyone_is_one_event_answered_at_once_and_soon_on_every_screen(stack, crowd, capsys):
    admin = stack.login("admin")
    people = [
        stack.login(name, stack.url(server)) for name in ("alice", "bob") for server in ("daphne", "uvicorn")
    ]
    answered, arrived, sent = [], [], []
    with contextlib.ExitStack() as streams:
        streams.callback(lambda: [admin.delete(f"/api/broadcasts/{each}") for each in sent])
        screens = [
            streams.enter_context(listening(people[number % len(people)], "/streams/me/"))
            for number in range(CONNECTIONS)
        ]
        for number in range(SENT):
            began = time.perf_counter()
            answer = admin.post(
                "/api/broadcasts", json={"message": f"Number {number}", "audience": {"all": True}}
            )
            answered.append(time.perf_counter() - began)
            assert answer.status_code == 201, answer.text
            sent.append(answer.json()["id"])
            for screen in screens:
                [*_, told] = screen.until(lambda got: got.event == "SystemAlert")
                assert told.data["broadcast_id"] == sent[-1]
            arrived.append(time.perf_counter() - began)
        reach = admin.get(f"/api/broadcasts/{sent[0]}").json()["reach"]

    figures = [
        f"{median(found) * 1000:.0f} ms (at most {max(found) * 1000:.0f})" for found in (answered, arrived)
    ]
    with capsys.disabled():
        sys.stdout.write(
            f"\nto {reach} users: answered in {figures[0]}, on {CONNECTIONS} screens after {figures[1]}"
        )
    with stack.connect() as connection:
        events = connection.execute(
            "SELECT count(*) FROM events_event WHERE type = 'SystemAlert' AND data LIKE ANY (%s)",
            [[f"%{each}%" for each in sent]],
        ).fetchone()
    assert reach >= USERS
    assert events == (SENT,), "one each, however many users there are"
    assert median(answered) < ANSWER_SECONDS
    assert median(arrived) < ARRIVAL_SECONDS

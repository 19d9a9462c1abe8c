"""PostgreSQL goes away and comes back: requests are told so, streams wait, nothing is lost.

It ends, as a crash ends it; or it freezes, and then its kernel goes on taking what it is sent.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import httpx
import pytest

from project import processes
from tests.faults.people import SERVERS, both, new_item, on_both, say
from tests.faults.wire import Wire, append
from tests.stack import Stack, eventually

ANSWER_SECONDS = 8.0  # longest until an answer: a wait for a connection, then one for what it says
AWAY_SECONDS = 12.0
POOL = 8  # connections of a web process


@pytest.fixture
def item(alone):
    """An item of alice's, with both servers over the test before."""
    urls = [alone.url(name) + "/readyz" for name in SERVERS]
    eventually(lambda: all(httpx.get(url, timeout=10).status_code == 200 for url in urls))
    return new_item(alone.login("alice"))


def stop(stack: Stack) -> Callable[[], None]:
    stack.postgres.process.send_signal(signal.SIGQUIT)
    stack.postgres.process.wait(10)
    return stack.postgres.start


def freeze(stack: Stack) -> Callable[[], None]:
    os.kill(stack.postgres.pid, signal.SIGSTOP)  # first: it has no more children then
    family = [stack.postgres.pid, *processes.descendants(stack.postgres.pid)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    return lambda: processes.send(family, signal.SIGCONT)


@pytest.fixture(params=[stop, freeze], ids=["stopped", "frozen"])
def away(alone, request):
    """Have the database go away; it comes back when what this returns is called, or at the end."""
    with contextlib.ExitStack() as back:

        def go() -> Callable[[], None]:
            back.callback(request.param(alone))
            return back.close

        yield go


def write_is_refused(client, item: str) -> None:
    answer = client.post(f"/api/items/{item}/comments", json={"text": "lost"})
    assert_unavailable(answer)


def read_is_refused(client, item: str) -> None:
    answer = client.get(f"/api/items/{item}")
    assert_unavailable(answer)


def assert_unavailable(answer) -> None:
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"


def is_alive_and_not_ready(client, item: str) -> None:
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def stream_says_why_it_ends(client, item: str) -> None:
    with Wire(client, f"/streams/items/{item}/") as wire:
        body = wire.to_end()
    assert wire.status == 200  # on any other, EventSource would give up
    assert b'event: stream.end\ndata: {"reason":"database"}\n\n' in body


CHECKS = (write_is_refused, read_is_refused, is_alive_and_not_ready, stream_says_why_it_ends)


class Calls:
    """Somebody who calls: each `Called` of the log must come back as one `Echoed`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._called: list[int] = []
        with stack.connect() as connection:
            self._first = connection.execute("SELECT coalesce(max(id), 0) FROM events_event").fetchone()[0]

    def call(self, number: int = 5) -> None:
        with self._stack.connect() as connection:
            for _ in range(number):
                append(connection, "item:1", data={"n": len(self._called)}, kind="Called")
                self._called.append(len(self._called))

    def answered(self) -> bool:
        """Every call was reacted to, once."""
        with self._stack.connect() as connection:
            rows = connection.execute(
                "SELECT (data::json->>'n')::int FROM events_event WHERE type = 'Echoed' AND id > %s"
                " ORDER BY 1",
                [self._first],
            ).fetchall()
        return [n for (n,) in rows] == self._called


def test_streams_stay_open_while_postgresql_is_away(alone, item, away, figure, request):
    alice = both(alone, "alice")
    calls = Calls(alone)
    with contextlib.ExitStack() as opened:
        streams = opened.enter_context(on_both(alone, alice, f"/streams/items/{item}/"))
        wires = [opened.enter_context(Wire(alice[name], f"/streams/items/{item}/")) for name in SERVERS]
        for wire in wires:
            wire.until(b"stream.open")
        say(alice["daphne"], item, "seen before")
        for stream in streams.values():
            stream.until(lambda got: got.data.get("text") == "seen before")
        for wire in wires:
            wire.until(b"seen before")
        say(alice["uvicorn"], item, "just before")
        calls.call()
        back = away()

        gone = time.monotonic()
        took: list[float] = []

        def measured(check, client) -> None:
            began = time.monotonic()
            check(client, item)
            took.append(time.monotonic() - began)

        with ThreadPoolExecutor(16) as pool:  # each waits for a connection for as long as it may
            list(pool.map(lambda check: measured(*check), product([*CHECKS, *CHECKS], alice.values())))
            while time.monotonic() < gone + AWAY_SECONDS:
                list(pool.map(lambda check: measured(*check), product(CHECKS, alice.values())))
        assert all(stream.error is None for stream in streams.values())
        for wire in wires:  # and with a sign of life a second, while nothing else can come
            seen = wire.body.count(b"\nid: ")
            while wire.raw.count(b"\nid: ") - seen < (lasted := time.monotonic() - gone) / 2:
                assert lasted < AWAY_SECONDS + 30, "fewer than every other came"
                assert wire.read()
            assert b"stream.end" not in wire.raw

        back()
        healing = time.monotonic()

        def posted() -> bool:
            """Posting works again on both servers."""
            answers = [
                client.post(f"/api/items/{item}/comments", json={"text": f"after on {name}"}).status_code
                for name, client in alice.items()
            ]
            return answers == [201, 201]

        eventually(posted)
        say(alice["daphne"], item, "last")
        for stream in streams.values():
            stream.until(lambda got: got.data.get("text") == "last")
            texts = [got.data["text"] for got in stream.all if got.event == "CommentAdded"]
            assert texts[:2] == ["seen before", "just before"]
            assert "lost" not in texts
            assert all(got.event != "stream.reset" for got in stream.all)
            assert stream.error is None
        healed = time.monotonic() - healing
        calls.call()
        eventually(calls.answered, seconds=30)
        figure(
            f"PostgreSQL {request.node.callspec.id}: slowest of {len(took)} answers {max(took):.1f} s,"
            f" healed {healed:.1f} s after its return"
        )
        assert max(took) < ANSWER_SECONDS
        assert healed < 8


def test_a_replay_waits_for_the_database_and_goes_on(alone, item, away):
    # So slow a reader that the database goes away in the middle of its replay.
    alice = alone.login("alice", alone.url("uvicorn"))
    texts = [f"<{number}>" + "x" * 19_000 for number in range(60)]
    for text in texts:
        say(alice, item, text)
    alone.stop("uvicorn")  # with it the ring, so that the log is read
    alone.start("uvicorn", STREAMS_RING_BYTES="100000")

    with Wire(alice, f"/streams/items/{item}/?last_event_id=earliest", receive_buffer=4_096) as wire:
        wire.until(texts[0].encode())
        back = away()
        reader = threading.Thread(target=wire.until, args=(texts[-1].encode(),), kwargs={"seconds": 30})
        reader.start()
        time.sleep(1)  # it reads what was on its way, then what says that it must wait
        back()
        reader.join(30)
    body = wire.body
    assert [body.count(text.encode()) for text in texts] == [1] * len(texts)
    places = [body.index(text.encode()) for text in texts]
    assert places == sorted(places)
    assert b"stream.reset" not in body
    alone.stop("uvicorn")
    alone.start("uvicorn")


def test_a_table_that_stays_locked_costs_answers_and_not_the_servers_connections(alone):
    readers = {server: alone.login("alice", alone.url(server)) for server in SERVERS}
    with alone.connect() as others, alone.connect() as migration, migration.transaction():
        counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        before = others.execute(counted).fetchone()[0]
        migration.execute("LOCK TABLE auth_user IN ACCESS EXCLUSIVE MODE")
        for _ in range(2):  # rounds of as many as a web process's pool has connections
            with ThreadPoolExecutor(2 * POOL) as crowd:
                asked = [crowd.submit(readers[s].get, "/api/items") for s in SERVERS for _ in range(POOL)]
            for each in asked:
                assert_unavailable(each.result())
        left = others.execute(counted).fetchone()[0] - before
    assert left <= len(SERVERS) * POOL, f"{left} more sessions than before"
    for reader in readers.values():
        assert reader.get("/api/items").status_code == 200

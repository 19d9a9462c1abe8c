"""Promise 4 under load: Redis is gone for half a minute, or its tasks for good, and nobody is the poorer."""

import contextlib
import itertools
import statistics
import threading
import time

import pytest
import redis

from tests.faults.people import SERVERS, both, new_item, on_both
from tests.faults.test_promise_4_redis_is_a_hint import hang, kill, start_empty, thaw
from tests.faults.wire import append
from tests.faults.yardstick import Yardstick
from tests.stack import eventually

PER_SECOND = 50
AWAY_SECONDS = 30.0
ANSWER_SECONDS = 0.3
USUAL_SECONDS = 0.1
BEHIND_SECONDS = 2.0
LIVE_SECONDS = 2.0  # until the streams are live again
LIVE_LATENCY = 0.1  # between an answer and its event: a look would need half a second
POSTERS = 8


class Load:
    """Comments on one item, posted to both servers at a rate, each answer measured; a context manager."""

    def __init__(self, alone, clients, item: str) -> None:
        self._path = f"/api/items/{item}/comments"
        self._ending = threading.Event()
        self._numbers = itertools.count()
        self.began: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        self.refused: list[str] = []
        # A client each, as people have: of one user's two sessions.
        self._threads = [
            threading.Thread(target=self._post, args=(clients[SERVERS[number % 2]], number / PER_SECOND))
            for number in range(POSTERS)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Let what is under way end."""
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _post(self, client, offset: float) -> None:
        due = time.perf_counter() + offset
        while not self._ending.wait(max(0.0, due - time.perf_counter())):
            due = max(due + POSTERS / PER_SECOND, time.perf_counter() - 1)
            text = str(next(self._numbers))
            self.began[text] = time.perf_counter()
            answer = client.post(self._path, json={"text": text})
            self.answered[text] = time.perf_counter()
            if answer.status_code != 201:
                self.refused.append(f"{answer.status_code} {answer.text[:100]}")

    def waits(self, since: float, until: float, yardstick: Yardstick) -> list[float]:
        """Return the waits for answers to what was posted in a time, less what the machine stood still."""
        answered = dict(self.answered)
        return [
            at - began - yardstick.still(began, at)
            for began, at in ((self.began[text], at) for text, at in answered.items())
            if since <= began < until
        ]


def latencies(load: Load, stream, since: float, until: float) -> list[tuple[float, float]]:
    """Return when, and how long after its answer, a stream had each comment answered in a time."""
    return [
        (load.answered[got.data["text"]], got.at - load.answered[got.data["text"]])
        for got in list(stream.all)
        if got.event == "CommentAdded" and since <= load.answered.get(got.data["text"], 0.0) < until
    ]


def live_after(load: Load, stream, back: float) -> float:
    """Return how long after `back` comments began to come as they do when all is well, ten in a row."""
    found = latencies(load, stream, back, time.perf_counter())
    for first in range(len(found) - 9):
        if statistics.median(late for _, late in found[first : first + 10]) < LIVE_LATENCY:
            return found[first][0] - back
    raise AssertionError(f"not live again: {[(round(at - back, 1), round(late, 2)) for at, late in found]}")


@pytest.fixture
def busy(alone):
    """Posts at a rate to both servers, streams on both, and all goes well so far."""
    clients = both(alone, "alice")
    item = new_item(clients["daphne"])
    with (
        on_both(alone, clients, f"/streams/items/{item}/") as streams,
        Load(alone, clients, item) as load,
    ):
        time.sleep(2)
        yield load, streams


def everything_came(load: Load, streams) -> None:
    """Check that each stream had every comment once, and both in one order."""
    load.end()
    assert load.refused == []
    for stream in streams.values():

        def all_there(stream=stream) -> bool:
            """Every comment arrived."""
            return sum(got.event == "CommentAdded" for got in list(stream.all)) >= len(load.answered)

        eventually(all_there, seconds=30)
        assert stream.error is None
        assert all(got.event != "stream.reset" for got in stream.all)
    orders = [
        [got.data["text"] for got in stream.all if got.event == "CommentAdded"] for stream in streams.values()
    ]
    assert orders[0] == orders[1]
    assert sorted(orders[0], key=int) == [str(number) for number in range(len(load.answered))]


@pytest.mark.long
@pytest.mark.parametrize(("hurt", "heal"), [(kill, start_empty), (hang, thaw)], ids=["stopped", "hung"])
def test_half_a_minute_without_redis_costs_nobody_anything(alone, busy, hurt, heal, figure):
    load, streams = busy
    with Yardstick(alone.database_url) as yardstick, contextlib.ExitStack() as healing:
        time.sleep(2)
        hurt(alone.valkey)
        gone = time.perf_counter()
        healing.callback(heal, alone.valkey)
        time.sleep(AWAY_SECONDS)
        healing.close()
        back = time.perf_counter()
        time.sleep(6)
        everything_came(load, streams)
        ended = time.perf_counter()
        yardstick.end()

    before = load.waits(0, gone, yardstick)
    without = load.waits(gone, back, yardstick)
    after = load.waits(back, ended, yardstick)
    behind = max(late for stream in streams.values() for _, late in latencies(load, stream, gone, back))
    live = max(live_after(load, stream, back) for stream in streams.values())
    rate = sum(gone <= at < back for at in load.answered.values()) / (back - gone)
    figure(
        f"Redis {hurt.__name__} for {AWAY_SECONDS:.0f} s at {rate:.0f} posts/s: a POST"
        f" {statistics.median(without) * 1000:.0f} ms, the slowest {max(without) * 1000:.0f}"
        f" (before {statistics.median(before) * 1000:.0f} and {max(before) * 1000:.0f}, after"
        f" {statistics.median(after) * 1000:.0f} and {max(after) * 1000:.0f}; the machine stood still for"
        f" {yardstick.still(gone, back):.2f} s), furthest behind {behind:.2f} s,"
        f" live {live:.2f} s after its return"
    )
    # Where the machine itself is slower than that, nobody waits much longer than when all is well.
    assert max(without) < max(ANSWER_SECONDS, 2 * max(before))
    assert max(after) < max(ANSWER_SECONDS, 2 * max(before))
    assert statistics.median(without) < max(USUAL_SECONDS, 2 * statistics.median(before))
    assert behind < BEHIND_SECONDS
    assert live < LIVE_SECONDS


def forget(valkey) -> None:
    """Lose every task and flag, again and again, in the middle of the work."""
    with redis.Redis.from_url(valkey.url) as control:
        for _ in range(25):
            control.flushall()
            time.sleep(0.1)


def restart_empty(valkey) -> None:
    for _ in range(2):
        kill(valkey)
        start_empty(valkey)
        time.sleep(1)


@pytest.mark.parametrize("lose", [forget, restart_empty])
def test_a_broker_that_loses_its_tasks_loses_no_reaction(alone, busy, lose):
    load, streams = busy
    called = 0
    ending = threading.Event()

    def call() -> None:
        nonlocal called
        with alone.connect() as connection:
            while not ending.wait(0.02):
                append(connection, "item:1", data={"n": called, "seconds": 0}, kind="Called")
                called += 1

    with alone.connect() as connection:
        first = connection.execute("SELECT coalesce(max(id), 0) FROM events_event").fetchone()[0]
        caller = threading.Thread(target=call)
        caller.start()
        try:
            lose(alone.valkey)
        finally:
            ending.set()
            caller.join(10)

        def echoed() -> list[int]:
            rows = connection.execute(
                "SELECT (data::json->>'n')::int FROM events_event WHERE type = 'Echoed' AND id > %s"
                " AND position IS NOT NULL ORDER BY position",
                [first],
            ).fetchall()
            return [n for (n,) in rows]

        eventually(lambda: len(echoed()) >= called, seconds=40)
        assert called > 20
        assert echoed() == list(range(called))
    everything_came(load, streams)

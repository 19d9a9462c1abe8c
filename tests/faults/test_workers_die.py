"""Workers that are killed or frozen at any point of placing and publishing cost seconds, never an event.

The point is forced from outside: a lock held in PostgreSQL, a trigger of the test's that waits
in the middle of the placing, a Redis told to pause between placing and publishing.
"""

import contextlib
import time
from collections.abc import Iterator

import pytest
import redis

from tests.faults.people import at_best, both, new_item, noted, notes, on_both, settle
from tests.faults.wire import append
from tests.stack import Stack, eventually

DELAY_SECONDS = 3.0  # "seconds at most": a tick, a look, and a busy machine
GATE = 4242  # the advisory lock that the test's trigger waits for


@pytest.fixture
def pair(rough) -> Iterator[Stack]:
    """The rough stack with a second worker; left with its one worker again."""
    have_both(rough)
    yield rough
    for name in ("worker", "worker2"):
        if name in rough.processes:
            rough.thaw(name)
    if "worker2" in rough.processes:
        rough.kill("worker2")
    if "worker" not in rough.processes:
        rough.start("worker")
    settle(rough)


def have_both(stack: Stack) -> None:
    """Have two workers that work."""
    for name in ("worker", "worker2"):
        if name in stack.processes:
            stack.thaw(name)
        else:
            log = stack.log(name)
            log.write_text("")
            stack.start(name)
            eventually(lambda log=log: "ready" in log.read_text(), seconds=60)


def in_time(seconds: float) -> bool:
    return seconds < DELAY_SECONDS


@pytest.fixture
def said(pair):
    """An item's channel, streams of it on both servers, and a way to append to it and to await all."""
    clients = both(pair, "alice")
    channel = f"item:{new_item(clients['daphne'])}"
    with on_both(pair, clients, f"/streams/?channel={channel}") as streams, pair.connect() as connection:
        yield Said(connection, channel, streams)


class Said:
    """What was appended, and who should hear it."""

    def __init__(self, connection, channel: str, streams) -> None:
        self._connection = connection
        self._streams = streams
        self._number = 0
        self.channel = channel

    def append(self, number: int = 3) -> None:
        """Append some events."""
        for _ in range(number):
            append(self._connection, self.channel, data={"n": self._number})
            self._number += 1

    def all_there(self, *, seconds: float = 20) -> float:
        """Check that every event arrives on every stream, once, in order; return how long it took."""
        began = time.perf_counter()
        for stream in self._streams.values():
            if notes(stream.all)[-1:] != [self._number - 1]:
                stream.until(noted(self._number - 1), seconds=seconds)
            assert notes(stream.all) == list(range(self._number))
        return time.perf_counter() - began


@contextlib.contextmanager
def placing_stops_half_way(stack: Stack, channel: str) -> Iterator[None]:
    """Have whoever places an event of the channel wait in the middle of it, until the block ends."""
    with stack.connect() as connection, stack.connect() as gate:
        connection.execute(
            "CREATE FUNCTION test_wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END $$;"
            "CREATE TRIGGER test_wait BEFORE INSERT ON events_channelposition FOR EACH ROW"
            f" WHEN (NEW.channel = '{channel}') EXECUTE FUNCTION test_wait()"
        )
        gate.execute(f"SELECT pg_advisory_lock({GATE})")
        try:
            yield
        finally:
            gate.execute(f"SELECT pg_advisory_unlock({GATE})")
            connection.execute("DROP FUNCTION test_wait() CASCADE")  # waits for who places now


def await_placer(stack: Stack, *, event: str) -> None:
    """Wait until a worker stands in `tickertape_place` at a lock."""
    with stack.connect() as connection:

        def stands() -> bool:
            """A worker stands in the placing."""
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND query LIKE '%%tickertape_place%%' AND wait_event = %s AND pid <> pg_backend_pid()",
                [event],
            ).fetchone()
            return row[0] > 0

        eventually(stands)


HURTS = pytest.mark.parametrize("hurt", [Stack.kill, Stack.freeze], ids=["killed", "frozen"])


@HURTS
def test_a_worker_hurt_while_it_waits_to_place(pair, said, hurt):
    def took() -> float:
        have_both(pair)
        with pair.connect() as holder:
            with holder.transaction():
                holder.execute("SELECT FROM events_logstate FOR UPDATE")
                said.append()
                await_placer(pair, event="transactionid")
                hurt(pair, "worker")
            first = said.all_there()
        said.append()
        return max(first, said.all_there())

    assert at_best(took, in_time) < DELAY_SECONDS


@HURTS
def test_a_worker_hurt_in_the_middle_of_placing(pair, said, hurt):
    def took() -> float:
        have_both(pair)
        with placing_stops_half_way(pair, said.channel):
            said.append()
            await_placer(pair, event="advisory")
            hurt(pair, "worker")
            said.append()
        first = said.all_there()
        said.append()
        return max(first, said.all_there())

    assert at_best(took, in_time) < DELAY_SECONDS


def test_all_workers_killed_in_the_middle_of_placing(pair, said):
    with placing_stops_half_way(pair, said.channel):
        said.append()
        await_placer(pair, event="advisory")
        pair.kill("worker")
        pair.kill("worker2")
        said.append()
    pair.start("worker")
    said.all_there(seconds=30)  # its start, on a busy machine


@HURTS
def test_a_worker_hurt_between_placing_and_publishing(pair, said, hurt):
    def took() -> float:
        have_both(pair)
        with redis.Redis.from_url(pair.valkey.url) as control:
            control.execute_command("CLIENT", "PAUSE", "30000", "WRITE")  # publishing is one
            try:
                said.append()
                appended = time.perf_counter()
                settle(pair)
                placed = time.perf_counter() - appended
                hurt(pair, "worker")
                said.append()
            finally:
                control.execute_command("CLIENT", "UNPAUSE")
        first = said.all_there()
        said.append()
        return max(placed, first, said.all_there())

    assert at_best(took, in_time) < DELAY_SECONDS


@HURTS
def test_workers_hurt_one_after_the_other_at_any_moment(pair, said, hurt):
    def took() -> float:
        have_both(pair)
        said.append(20)
        hurt(pair, "worker2")
        said.append(20)
        return said.all_there()

    assert at_best(took, in_time) < DELAY_SECONDS
    if hurt is Stack.kill:
        pair.start("worker2")
        pair.kill("worker")
    else:
        pair.thaw("worker2")
        pair.freeze("worker")
    said.append(20)
    said.all_there(seconds=30)

"""SIGTERM: streams are told when to come back, requests finish, the process ends in time."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from django.conf import settings

from project import processes
from tests.faults.crowd import crowd
from tests.faults.people import at_best, new_item, retries, settle
from tests.faults.wire import Wire, append
from tests.stack import eventually

DRAIN_SECONDS = 2
STREAMS = 20
CROWD = 200


def start(rough, name: str) -> None:
    """Start a server that will be stopped, where it does not run."""
    if name not in rough.processes or rough.processes[name].poll() is not None:
        rough.start(name, STREAMS_DRAIN_SECONDS=str(DRAIN_SECONDS))


@pytest.fixture(params=["daphne7", "uvicorn7"])
def leaving(request, rough):
    """A server that will be stopped."""
    start(rough, request.param)
    yield request.param
    rough.kill(request.param)  # what is left of it, if it did not end


def test_a_stopping_server_sends_its_streams_elsewhere_and_ends(rough, leaving):
    def stopped() -> tuple[float, float]:
        """When the last stream ended, and when the process did."""
        start(rough, leaving)
        alice = rough.login("alice", rough.url(leaving))
        item = new_item(alice)
        settle(rough)
        path = f"/streams/items/{item}/"
        process = rough.processes[leaving]
        posted: list[int] = []

        def post() -> None:
            posted.append(alice.post(f"/api/items/{item}/comments", json={"text": "in time"}).status_code)

        with contextlib.ExitStack() as opened, rough.connect() as gate, rough.connect() as watch:
            wires = [opened.enter_context(Wire(alice, path)) for _ in range(STREAMS)]
            for wire in wires:
                wire.until(b"stream.open")
            request = threading.Thread(target=post)
            with gate.transaction():  # holds the request that is under way
                gate.execute("SELECT FROM events_item WHERE id = %s FOR UPDATE", [item])
                request.start()
                eventually(lambda: waits(watch))
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                ends = []
                for wire in wires:
                    body = wire.to_end()
                    ends.append(time.monotonic() - began)
                    assert body.endswith(b'event: stream.end\ndata: {"reason":"drain"}\n\n')
            request.join(10)
            assert process.wait(20) == 0
            whole = time.monotonic() - began
        assert posted == [201]
        waits_given = [retries(wire.body)[-1] for wire in wires]
        assert len(set(waits_given)) > STREAMS * 3 / 4  # a crowd must not come back as one
        assert "Traceback" not in rough.log(leaving).read_text()
        return max(ends), whole

    def in_time(found: tuple[float, float]) -> bool:
        return found[0] < DRAIN_SECONDS + 1 and found[1] < DRAIN_SECONDS + 5

    found = at_best(stopped, in_time)
    assert in_time(found), found


def test_a_crowd_is_sent_elsewhere_one_by_one_and_misses_nothing_there(rough, leaving, figure):
    def sent_elsewhere() -> list[float]:
        """When each stream ended."""
        start(rough, leaving)
        alice = rough.login("alice", rough.url(leaving))
        channel = f"item:{new_item(alice)}"
        path, process = f"/streams/?channel={channel}", rough.processes[leaving]
        settle(rough)
        ports = [rough.ports[leaving], rough.ports["uvicorn" if leaving.startswith("daphne") else "daphne"]]
        with rough.connect() as connection, crowd(alice, ports, path, count=CROWD, last=99) as coming:
            coming.until("opened")
            began = time.time()
            process.send_signal(signal.SIGTERM)
            for n in range(100):  # during it and after it
                append(connection, channel, data={"n": n})
                time.sleep(DRAIN_SECONDS / 50)
                if n == 10:
                    with Wire(alice, path) as late:  # who comes in the middle of it is told the same
                        assert late.to_end().endswith(b'event: stream.end\ndata: {"reason":"drain"}\n\n')
                        assert late.status == 200
                        assert len(retries(late.body)) == 1
            report = coming.report()
        assert process.wait(20) == 0
        assert report.wrong == []
        assert (report.ends, report.refused) == ({"drain": CROWD}, 0)
        gone = sorted(at - began for at in report.ended_at)
        figure(
            f"{leaving.rstrip('7')}: {CROWD} streams ended between {gone[0]:.1f} and {gone[-1]:.1f} s"
            f" of a drain of {DRAIN_SECONDS} s, told to wait {min(report.retries)} to"
            f" {max(report.retries)} ms, {len(set(report.retries))} of them different"
        )
        wait = max(DRAIN_SECONDS, settings.STREAMS_RETRY_SECONDS) * 1000
        assert all(wait * 0.5 <= retry <= wait * 1.5 for retry in report.retries)
        assert len(set(report.retries)) > CROWD * 3 / 4
        return gone

    def no_wave(gone: list[float]) -> bool:
        """As many in each quarter of the time."""
        quarters = [sum(n <= at / DRAIN_SECONDS * 4 < n + 1 for at in gone) for n in range(4)]
        return min(quarters) > CROWD / 8

    gone = at_best(sent_elsewhere, no_wave)
    assert no_wave(gone), gone


def test_a_reader_that_takes_nothing_holds_nobody_up(rough, leaving):
    alice = rough.login("alice", rough.url(leaving))
    item = new_item(alice)
    for _ in range(20):
        alice.post(f"/api/items/{item}/comments", json={"text": "😀" * 20_000})
    process = rough.processes[leaving]
    path = f"/streams/items/{item}/?last_event_id=earliest"
    with Wire(alice, path, receive_buffer=4_096) as stalled:
        stalled.until(b"stream.open")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # an impatient supervisor changes nothing
        assert process.wait(DRAIN_SECONDS + 5) == 0


@pytest.mark.parametrize("engine", ["postgres", "valkey"])
def test_an_engine_that_hangs_holds_nobody_up(alone, engine):
    # Its processes are frozen: connections stay open and nothing answers.
    for name in ("daphne7", "uvicorn7"):
        alone.start(name, STREAMS_DRAIN_SECONDS="1")
    alice = {name: alone.login("alice", alone.url(name)) for name in ("daphne7", "uvicorn7")}
    item = new_item(alice["daphne7"])
    with contextlib.ExitStack() as opened:
        wires = [opened.enter_context(Wire(client, f"/streams/items/{item}/")) for client in alice.values()]
        for wire in wires:
            wire.until(b"stream.open")
        leaving = [alone.processes[name] for name in alice]
        with frozen(getattr(alone, engine)):
            time.sleep(2)  # until the hubs wait for it
            began = time.monotonic()
            for process in leaving:
                process.send_signal(signal.SIGTERM)
            for wire in wires:
                assert b'{"reason":"drain"}' in wire.to_end()
            for process in leaving:
                assert process.wait(1 + 5 - (time.monotonic() - began)) == 0
    for name in alice:
        alone.kill(name)


@contextlib.contextmanager
def frozen(engine) -> Iterator[None]:
    """Stop an engine's processes where they stand."""
    family = [engine.pid, *processes.descendants(engine.pid)]
    processes.send(family, signal.SIGSTOP)
    try:
        yield
    finally:
        processes.send(family, signal.SIGCONT)


def waits(connection) -> bool:
    """Tell whether a request waits for the item's row."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE '%events_item%'"
    ).fetchone()
    return row[0] > 0

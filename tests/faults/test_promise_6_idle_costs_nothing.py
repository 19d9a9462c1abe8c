"""Promise 6: an open stream holds no thread and no database connection."""

import contextlib
import os
import re

import pytest

from tests.faults.people import new_item, settle
from tests.faults.wire import Wire, append, memory, threads
from tests.stack import eventually

STREAMS = 1_000
STREAM_BYTES = 80_000  # of one idle stream, in the process
SPARE = 8  # threads and connections that the storm of requests may have left, however large it was


@pytest.fixture(params=["daphne6", "uvicorn6"])
def idle(request, rough):
    """A server that nobody else talks to."""
    rough.start(request.param, STREAMS_HEARTBEAT_SECONDS="60")
    yield request.param
    rough.stop(request.param)


def test_promise_6_a_thousand_idle_streams_hold_no_thread_and_no_connection(rough, idle, figure):
    alice = rough.login("alice", rough.url(idle))
    channel = f"item:{new_item(alice)}"
    path = f"/streams/?channel={channel}"
    settle(rough)
    pid = rough.processes[idle].pid
    with contextlib.ExitStack() as opened, rough.connect() as connection:

        def connections() -> int:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            return row.fetchone()[0]

        for _ in range(20):  # what the first requests bring with them for good
            with Wire(alice, path) as wire:
                wire.until(b"stream.open")
        before = threads(pid), connections(), memory(pid)

        wires = [opened.enter_context(Wire(alice, path)) for _ in range(STREAMS)]  # a storm
        for wire in wires:
            wire.until(b"stream.open", seconds=60)

        def settled() -> bool:
            """What opening took is given back."""
            return threads(pid) <= before[0] + SPARE and connections() <= before[1] + SPARE

        eventually(settled)
        each = (memory(pid) - before[2]) / STREAMS
        figure(
            f"{idle.rstrip('6')}: {STREAMS} idle streams: threads {before[0]} → {threads(pid)},"
            f" database connections {before[1]} → {connections()}, {each / 1000:.1f} kB each"
        )
        assert each < STREAM_BYTES

        append(connection, channel, data={"n": "for all"})
        for wire in wires:
            wire.until(b"for all")
        held = len(os.listdir(f"/proc/{pid}/fd"))
        assert held > STREAMS

    def left() -> bool:
        """The server has let go of every client that left."""
        counted = re.search(r"^tickertape_connections (\d+)", alice.get("/metrics").text, re.MULTILINE)
        return int(counted[1]) == 0 and len(os.listdir(f"/proc/{pid}/fd")) < held - STREAMS + SPARE

    eventually(left)

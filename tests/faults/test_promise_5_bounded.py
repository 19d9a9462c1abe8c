"""Promise 5: a connection costs a fixed amount, whatever its reader does; one that takes nothing is cut."""

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

from tests.faults.crowd import crowd
from tests.faults.people import new_item, noted, notes, settle
from tests.faults.wire import Wire, append, blocks, cpu_seconds, memory, unread
from tests.stack import eventually, listening

NEVER_READERS = 40
STALL_SECONDS = 6
EVENTS, EVENT_BYTES = 360, 100_000  # 36 MB
RING_BYTES = 2_000_000
# A full inbox, a page and a piece of it under way, the server's own buffer, Python's overhead.
READER_BYTES = 1_000_000
OTHER_BYTES = 40_000_000  # the ring, batches, pages of the log as rows, fragmentation
LATER_BYTES = 10_000_000  # what the last two thirds of the events may add: nothing but noise
KERNEL_BYTES = 256 * 1024  # SO_SNDBUF is doubled by the kernel for its own bookkeeping (socket(7))
ALONE, CROWDED = 200_000_000, 1_000_000_000  # bytes
GROWTH_BYTES = 64_000_000  # of the process, once it serves: the ring is full, the clients are there
STARTED_BYTES = 96_000_000  # since its start: with the ring, what is kept of reads, and what the heap lost
# Twenty events, one of them as large as can be.
LARGE_STEP_EVENTS, LARGE_STEP = 20, 19 * 50_000 + 990_000
APPEND_MANY = """
INSERT INTO events_event (type, version, data, channels)
SELECT 'Noted', 1,
       '{"n":' || n || ',"text":"' || repeat('x', CASE n %% 20 WHEN 7 THEN 990000 ELSE 50000 END) || '"}', %s
FROM generate_series(%s::int, %s::int) AS n ORDER BY n
"""
SLOW_EVENTS, SLOW_BYTES_A_SECOND = 60, 300_000  # 1.2 MB on a channel of its own


class SlowReader(threading.Thread):
    """Reads a stream to its last event at a modem's speed."""

    def __init__(self, client, path: str) -> None:
        super().__init__(daemon=True)
        self.wire = Wire(client, path, receive_buffer=8_192)
        self.wire.until(b"stream.open")
        self.notes: list[str] = []

    def run(self) -> None:
        """Read until the last event."""
        last = f"s{SLOW_EVENTS - 1}<".encode()
        while b"\n\n" not in self.wire.raw[-30_000:].partition(last)[2]:
            if not self.wire.read(most=SLOW_BYTES_A_SECOND // 20):
                break
            time.sleep(1 / 20)
        self.notes = [
            each["data"]["n"].partition("<")[0] for each in blocks(self.wire.body) if each["event"] == "Noted"
        ]
        self.wire.close()


@pytest.fixture(params=["daphne5", "uvicorn5"])
def bounded(request, rough):
    """A server with a small ring, so that its memory is its readers'."""
    rough.start(request.param, STREAMS_RING_BYTES=str(RING_BYTES), STREAMS_STALL_SECONDS=str(STALL_SECONDS))
    yield request.param
    rough.stop(request.param)


def test_promise_5_readers_that_never_read_cost_little_and_are_cut_off(rough, bounded, figure):
    alice = rough.login("alice", rough.url(bounded))
    pid, port = rough.processes[bounded].pid, rough.ports[bounded]
    channel, slow_channel = f"item:{new_item(alice)}", f"item:{new_item(alice)}"
    path = f"/streams/?channel={channel}"
    settle(rough)

    with contextlib.ExitStack() as opened:
        wires = [opened.enter_context(Wire(alice, path, receive_buffer=4_096)) for _ in range(NEVER_READERS)]
        for wire in wires:
            wire.until(b"stream.open")
        never = {wire.port for wire in wires}
        good = opened.enter_context(listening(alice, path))
        slow = SlowReader(alice, f"/streams/?channel={slow_channel}")
        slow.start()
        before = memory(pid)

        text = "x" * EVENT_BYTES
        most, most_kernel = 0, 0
        connection = opened.enter_context(rough.connect())
        for n in range(EVENTS):
            append(connection, channel, data={"n": n, "text": text})
            if n == EVENTS // 3:
                good.until(noted(n))
                early = memory(pid)
            if n < SLOW_EVENTS:
                append(connection, slow_channel, data={"n": f"s{n}<" + "y" * 20_000})
            most = max(most, memory(pid) - before)
            most_kernel = max([most_kernel, *(held for peer, held in unread(port).items() if peer in never)])
        while len(notes(good.all)) < EVENTS:
            good.next()
            most = max(most, memory(pid) - before)
        later = memory(pid) - early

        assert notes(good.all) == list(range(EVENTS))
        slow.join(30)
        assert slow.notes == [f"s{n}" for n in range(SLOW_EVENTS)]

        def cut() -> bool:
            """Those who took nothing are gone."""
            return not never & set(unread(port))

        eventually(cut, seconds=STALL_SECONDS * 2)
        assert good.error is None
    figure(
        f"{bounded.rstrip('5')}: {EVENTS * EVENT_BYTES / 1e6:.0f} MB past {NEVER_READERS} clients that never"
        f" read: +{most / 1e6:.0f} MB in the process ({later / 1e6:+.0f} by the later two thirds),"
        f" at most {most_kernel / 1024:.0f} KiB each in the kernel"
    )
    assert most < NEVER_READERS * READER_BYTES + OTHER_BYTES
    assert later < LATER_BYTES
    assert most_kernel < KERNEL_BYTES


class Publishing:
    """Events of a channel, appended by the thousand and as fast as two readers take them."""

    BEGUN = 25_000_000  # bytes that may be under way

    def __init__(self, connection, client, pid: int, port: int, channel: str) -> None:
        self.connection = connection
        self.pid = pid
        self.client = client
        self.port = port
        self.channel = channel

    def run(self, total: int, watch: Callable[[], object]) -> tuple[float, float]:
        """Have so many bytes published and read; return how many in a second, and in one of its processor."""
        count = total // LARGE_STEP * LARGE_STEP_EVENTS
        path = f"/streams/?channel={self.channel}"
        plan = {"count": 2, "last": count - 1, "every": LARGE_STEP_EVENTS, "seconds": 500, "within": 0}
        with crowd(self.client, [self.port], path, **plan) as readers:
            readers.until("opened")
            began, busy = time.monotonic(), cpu_seconds(self.pid)
            read = 0
            for first in range(0, count, LARGE_STEP_EVENTS):
                while (first - read) / LARGE_STEP_EVENTS * LARGE_STEP > self.BEGUN:
                    read = readers.until("passed")["events"]
                    watch()
                self.connection.execute(APPEND_MANY, [[self.channel], first, first + LARGE_STEP_EVENTS - 1])
                watch()
            report = readers.report()
        assert report.wrong == []
        assert report.refused == 0
        return total / (time.monotonic() - began), total / (cpu_seconds(self.pid) - busy)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["daphne5", "uvicorn5"])
def test_promise_5_a_gigabyte_past_two_hundred_that_never_read(rough, name, figure):
    # So that all of it goes past all of them.
    rough.start(name, STREAMS_STALL_SECONDS="600", SERVE_USER_TIMEOUT_SECONDS="600")
    try:
        alice = rough.login("alice", rough.url(name))
        pid, port = rough.processes[name].pid, rough.ports[name]
        alone, crowded = f"item:{new_item(alice)}", f"item:{new_item(alice)}"
        settle(rough)
        fresh = memory(pid)
        with contextlib.ExitStack() as opened:
            connection = opened.enter_context(rough.connect())
            before = Publishing(connection, alice, pid, port, alone).run(ALONE, int)
            path = f"/streams/?channel={crowded}"
            wires = [opened.enter_context(Wire(alice, path, receive_buffer=4_096)) for _ in range(200)]
            for wire in wires:
                wire.until(b"stream.open")
            never = {wire.port for wire in wires}
            warm, most, kernel = memory(pid), [0], [0]

            def watch() -> None:
                most[0] = max(most[0], memory(pid))
                kernel[0] = max([kernel[0], *(held for peer, held in unread(port).items() if peer in never)])

            beside = Publishing(connection, alice, pid, port, crowded).run(CROWDED, watch)
            watch()
            assert never <= set(unread(port))
            for wire in wires:
                wire.close()
            after = Publishing(connection, alice, pid, port, f"item:{new_item(alice)}").run(ALONE, int)
        figure(
            f"{name.rstrip('5')}: {CROWDED / 1e6:.0f} MB past 200 clients that never read:"
            f" +{(most[0] - warm) / 1e6:.0f} MB (+{(most[0] - fresh) / 1e6:.0f} since the start, ring"
            f" and all), at most {kernel[0] / 1024:.0f} KiB each in the kernel; two readers got"
            f" {before[0] / 1e6:.1f} MB/s before, {beside[0] / 1e6:.1f} beside them, {after[0] / 1e6:.1f}"
            f" after; {before[1] / 1e6:.0f}, {beside[1] / 1e6:.0f} and {after[1] / 1e6:.0f} MB for a second"
            f" of processor"
        )
        assert most[0] - warm < GROWTH_BYTES
        assert most[0] - fresh < STARTED_BYTES
        assert kernel[0] < KERNEL_BYTES
        # By the processor's time: the wall's is of database, worker and readers too, on the same two cores.
        assert beside[1] > 0.7 * min(before[1], after[1])
    finally:
        rough.stop(name)

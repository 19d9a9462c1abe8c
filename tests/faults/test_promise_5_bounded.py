"""Promise 5: a connection costs a fixed amount, whatever its reader does; one that takes nothing is cut."""

import contextlib
import threading
import time

import pytest

from tests.faults.people import new_item, noted, notes, settle
from tests.faults.wire import Wire, append, blocks, memory, unread
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

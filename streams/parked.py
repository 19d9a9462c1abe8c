"""Parked streams: live, with nothing to write and nobody who waits, so that the hub itself writes for them.

An idle stream is most of what a process has. It costs no task and no timer of its own: what is pushed
goes straight to its connection, and a round a quarter of a second gives each its sign of life in time.

A write is a system call, and most of what a delivery costs. So a hub that has more to take than to wait for
takes it first: what was pushed to a stream meanwhile goes out in one write. An idle one writes at once.
"""

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from django.conf import settings

from streams import sse
from streams.sockets import NOW, send

if TYPE_CHECKING:
    from streams.audience import Crowd
    from streams.connection import Sink
    from streams.subscriber import Subscriber

logger = logging.getLogger(__name__)

ROUND_SECONDS = 0.25  # how late a heartbeat, or the end of a token's time, may be
AT_ONCE = 5_000  # streams written to in one turn of the loop: some 40 ms, in which nobody else is served
JOIN_SECONDS = 0.02  # that what was pushed waits for more: with the writing, half of a late 50 ms
LONGEST_SECONDS = 0.1  # likewise, where sending takes longer than that
QUIET_TURNS = 3  # of the loop, without a batch: one that waits at the socket is here in two


class Parked:
    """The parked streams of one hub."""

    def __init__(self) -> None:
        self.now = time.monotonic  # the clock by which it is time for a sign of life
        self.unsent: deque[Subscriber] = deque()  # were pushed something
        self.busy_until = 0.0  # soon after so much was sent, more is likely to have come meanwhile
        self._due: dict[int, set[Subscriber]] = {}  # by the round in which they are looked after
        self._sending = False  # or about to: what is pushed goes along
        self._send_by = 0.0
        self._took = 0.0  # what the last sending did
        self._quiet = 0  # turns of the loop since something was pushed

    def add(self, subscriber: "Subscriber") -> None:
        """Look after a stream from now on, once a round that is due for it comes."""
        if not subscriber.due:
            # From now on, not from when it was due: rounds that are over do not come again.
            subscriber.due = int(max(subscriber.next_look, self.now()) / ROUND_SECONDS) + 1
            self._due.setdefault(subscriber.due, set()).add(subscriber)

    def discard(self, subscriber: "Subscriber") -> None:
        """Forget a stream; twice is once."""
        there = self._due.get(subscriber.due)
        if there is not None:
            there.discard(subscriber)
        subscriber.due = 0

    def hand(self, readers: "Crowd", frames: bytes, first: int, last: int) -> int:
        """Push a run that is all there is in its batch, and goes to these alone; return how many took it.

        As `push` and `send` do, but in one step where nothing is unsent: of what a delivery costs, this is
        all that is not the kernel's, so of the readers who are parked nothing is touched but their sockets.
        """
        wire = sse.chunked(frames)
        if self.unsent or len(readers) > AT_ONCE or len(wire) > settings.STREAMS_WRITE_BYTES:
            return sum([reader.push(frames, first, last) for reader in readers])
        sinks = readers.sort() if readers.sinks is None else readers.sinks
        parked, others = readers.parked, readers.others  # of now: a write may change one of them
        size, left = len(wire), []
        for number, sink in enumerate(sinks):
            taken = send(sink.fd, wire, size, NOW)
            if taken != size:
                left.append((number, wire[max(taken, 0) :]))
        readers.handed_at = self.now()
        failed = [number for number, rest in left if not _written(parked[number], sinks[number], rest)]
        return len(sinks) - len(failed) + sum([reader.push(frames, first, last) for reader in others])

    @staticmethod
    def write(subscriber: "Subscriber", data: bytes) -> None:
        """Write to a parked stream; one that cannot be written to is cut off, and nobody else minds."""
        if (outlet := subscriber.outlet) is not None:
            wire = sse.chunked(data)
            if (taken := send(outlet.fd, wire, len(wire), NOW)) != len(wire):
                _written(subscriber, outlet, wire[max(taken, 0) :])

    def send(self) -> None:
        """Send what was pushed: at once, or, by a hub that is busy, with what else has come by now."""
        self._quiet = 0
        if self._sending or not self.unsent:
            return
        now = self.now()
        if now >= self.busy_until:
            self._send()
        else:
            self._sending = True
            self._send_by = now + min(max(JOIN_SECONDS, self._took), LONGEST_SECONDS)
            asyncio.get_running_loop().call_soon(self._send_when_quiet)

    def _send_when_quiet(self) -> None:
        self._quiet += 1
        if self._quiet > QUIET_TURNS or self.now() >= self._send_by:
            self._send()
        else:
            asyncio.get_running_loop().call_soon(self._send_when_quiet)

    def _send(self) -> None:
        """Send to all; to a crowd in slices, between which others have their turn."""
        now, unsent = self.now(), self.unsent
        try:
            for _ in range(min(len(unsent), AT_ONCE)):
                unsent.popleft().flush(now)
        finally:  # whatever happened to one: the rest would wait for ever
            ended = self.now()
            self._took = ended - now
            self.busy_until = ended + self._took
            self._sending = bool(unsent)
            if self._sending:
                asyncio.get_running_loop().call_soon(self._send)

    async def look_after(self) -> None:
        """Look after the streams for ever, each when it is due."""
        number = int(self.now() / ROUND_SECONDS)
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            now = self.now()
            while number < int(now / ROUND_SECONDS):
                number += 1
                for count, subscriber in enumerate(self._due.pop(number, ()), start=1):
                    subscriber.due = 0
                    self.look_at(subscriber, now)
                    if not count % AT_ONCE:
                        await asyncio.sleep(0)

    def look_at(self, subscriber: "Subscriber", now: float) -> None:
        """Give a stream its sign of life, where it is time, or its end."""
        if subscriber.outlet is None or subscriber.expire():
            return
        subscriber.moved = max(subscriber.moved, subscriber.hub.audience.handed_at(subscriber.channels))
        cursor = subscriber.proven
        if cursor is not None and now - subscriber.moved >= subscriber.heartbeat:
            subscriber.moved = now
            self.write(subscriber, sse.heartbeat(cursor))
        self.add(subscriber)


def _written(subscriber: "Subscriber", outlet: "Sink", wire: bytes) -> bool:
    """Write; where that fails cut off who missed something by now, soon: the hub may be amid its readers."""
    try:
        outlet.write(wire)
    except Exception:
        logger.exception("A parked stream failed.")
        subscriber.live = False
        subscriber.unpark()
        loop = asyncio.get_running_loop()
        loop.call_soon(subscriber.leave)
        loop.call_soon(outlet.abort)
        return False
    return True

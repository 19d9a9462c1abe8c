"""Who publishes: a process of its own on the second core, told what to send and how fast.

Each event is 200 bytes of JSON with its number on its channel, dense from 1 on, and the moment from which
it is late, by the clock that all processes of a machine share: at which it is handed over, or at a given
rate that at which it is due, so that a publisher who is held up hides nothing. There are three ways: by
HTTP, as peers take it; by the log, which is our whole way; and by Valkey, as our sequencer hands batches to
the hubs.
"""

import re
import socket
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import ceil
from typing import Any

from bench.crowd import Told, serve
from bench.deployment import Deployment
from bench.payload import payload

TICK_SECONDS = 0.004  # that often something is due: bursts no longer than a hub's usual batch
KEPT_UP = 0.95  # of what was due
IN_FLIGHT = 64  # posts of one connection that wait for their answer
EVENT_TYPE = "BenchTicked"
COPY = "COPY events_event (type, version, data, channels) FROM STDIN"  # nothing that is sent needs an escape
ANSWER = re.compile(rb"HTTP/1\.1 (\d)\d\d ")  # all that is looked at of one


@dataclass(frozen=True, slots=True)
class Sent:
    """What was published: how much, for how long it took, and each channel's last number."""

    events: int
    seconds: float
    cpu_share: float  # of one core, of the publisher
    last: Mapping[str, int]
    due: int  # events, by the rate
    late_ms: float  # p99: from when one was due to when it was handed over

    @property
    def kept_up(self) -> bool:
        """Tell whether the publisher kept to the rate: else what was measured is not of that rate."""
        return self.events >= KEPT_UP * self.due


class Publisher(Told):
    """The parent's side of a publisher; a context manager."""

    def one(self, channel: str) -> int:
        """Publish one event; return its number on the channel."""
        number: int = self.tell("one", channel)
        return number

    def steady(
        self, channels: Sequence[str], *, rate: float, seconds: float, tick: float = TICK_SECONDS
    ) -> Sent:
        """Publish at a rate, to channels by turns; less, where the way does not take it so fast.

        What is due within a tick is sent together at its end.
        """
        sent: Sent = self.tell("steady", list(channels), rate, seconds, tick)
        return sent

    def burst(self, channel: str, events: int) -> Sent:
        """Publish so many events to a channel at once."""
        sent: Sent = self.tell("burst", channel, events)
        return sent


class HttpPublisher(Publisher):
    """Posts each event to a peer."""

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        core: int,
        *,
        connections: int = 8,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        super().__init__(serve, core, ByHttp, (address, path, connections, in_flight), {})


class LogPublisher(Publisher):
    """Appends to the log, in transactions of what is due, and wakes the worker after each."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(serve, deployment.cores.rest, ByLog, (), deployment.environment)


class CopyPublisher(Publisher):
    """Likewise, but copies what is due into the log."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(serve, deployment.cores.rest, ByCopy, (), deployment.environment)


class ByValkey(Publisher):
    """Hands batches to Valkey as the sequencer does, of events that are in no log."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(serve, deployment.cores.rest, ByBatch, (), deployment.environment)


def due_in(seconds: float, rate: float, tick: float) -> int:
    """Return how many events are due within a time, each at the end of a tick: the first one at once."""
    return int(rate * tick * (ceil(seconds / tick) - 1)) + 1


class Way(ABC):
    """The child's side: numbers events and keeps the rate; how they are sent is a way's own."""

    most = 500  # events that are sent together

    def __init__(self) -> None:
        self._last: Counter[str] = Counter()

    @abstractmethod
    def send(self, events: list[tuple[str, str]]) -> None:
        """Publish events, each a channel and its JSON, in this order."""

    def settle(self) -> None:  # noqa: B027  (there may be nothing to wait for)
        """Return once everything sent was taken."""

    def one(self, channel: str) -> int:
        """Publish one event."""
        self.send(self._next([channel], [time.monotonic_ns()]))
        self.settle()
        return self._last[channel]

    def burst(self, channel: str, events: int) -> Sent:
        """Publish events of a channel as fast as it goes."""
        began, cpu = time.monotonic(), time.process_time()
        for first in range(0, events, self.most):
            number = min(self.most, events - first)
            self.send(self._next([channel] * number, [time.monotonic_ns()] * number))
        self.settle()
        return self._sent([channel], events, began, cpu, due=events, late=[0])

    def steady(self, channels: list[str], rate: float, seconds: float, tick: float = TICK_SECONDS) -> Sent:
        """Publish at a rate, by ticks: what is due is sent together, stamped with that tick."""
        cpu, began, tick_ns = time.process_time(), time.monotonic_ns(), int(tick * 1e9)

        def due(number: int) -> int:
            ticks = -(-int(1e9 * number / rate) // tick_ns)
            return began + ticks * tick_ns

        sent, late = 0, []
        while (now := time.monotonic_ns()) < began + 1e9 * seconds:
            stamps = [*takewhile(lambda at: at <= now, map(due, range(sent, sent + self.most)))]
            if not stamps:
                time.sleep((due(sent) - now) / 1e9)
                continue
            late += [now - stamp for stamp in stamps]
            some = [channels[number % len(channels)] for number in range(sent, sent + len(stamps))]
            self.send(self._next(some, stamps))
            sent += len(stamps)
        self.settle()
        return self._sent(channels, sent, began / 1e9, cpu, due=due_in(seconds, rate, tick), late=late)

    def _next(self, channels: list[str], stamps: list[int]) -> list[tuple[str, str]]:
        events = []
        for channel, stamp in zip(channels, stamps, strict=True):
            self._last[channel] += 1
            events.append((channel, payload(self._last[channel], at=stamp)))
        return events

    def _sent(
        self, channels: list[str], events: int, began: float, cpu: float, *, due: int, late: Sequence[int]
    ) -> Sent:
        seconds = time.monotonic() - began
        last = {channel: self._last[channel] for channel in channels if self._last[channel]}
        share = (time.process_time() - cpu) / seconds
        return Sent(events, seconds, share, last, due, sorted(late)[int(0.99 * len(late))] / 1e6)


class ByHttp(Way):
    """Posts over connections that stay open, pipelined; a channel's events go over one, so in order."""

    most = IN_FLIGHT

    def __init__(
        self, address: tuple[str, int], path: str, connections: int, in_flight: int = IN_FLIGHT
    ) -> None:
        super().__init__()
        self._in_flight = in_flight
        self._path = path
        self._host = f"Host: {address[0]}:{address[1]}"
        self._links = [socket.create_connection(address, timeout=30) for _ in range(connections)]
        for link in self._links:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unanswered = [0] * connections
        self._rest = [b""] * connections

    def send(self, events: list[tuple[str, str]]) -> None:
        """Write what each link takes, and read the answers to what was written before."""
        waiting: dict[int, list[bytes]] = {}
        for channel, data in events:
            head = f"POST {self._path}{channel} HTTP/1.1\r\n{self._host}\r\nContent-Type: text/plain\r\n"
            request = f"{head}Content-Length: {len(data)}\r\n\r\n{data}".encode()
            waiting.setdefault(hash(channel) % len(self._links), []).append(request)
        while waiting:
            for number, requests in list(waiting.items()):
                room = self._in_flight - self._unanswered[number]
                self._links[number].sendall(b"".join(requests[:room]))
                self._unanswered[number] += len(requests[:room])
                del requests[:room]
                if not requests:
                    del waiting[number]
            for number in waiting:
                self._hear(number)

    def settle(self) -> None:
        """Read every answer."""
        for number in range(len(self._links)):
            while self._unanswered[number]:
                self._hear(number)

    def close(self) -> None:
        """Close the connections."""
        for link in self._links:
            link.close()

    def _hear(self, number: int) -> None:
        got = self._links[number].recv(65536)
        if not got:
            raise OSError("the server closed the connection that publishes")
        data = self._rest[number] + got
        end = 0
        for answer in ANSWER.finditer(data):
            if answer[1] != b"2":
                raise OSError(f"publishing was refused: {data[answer.start() :][:200]!r}")
            self._unanswered[number] -= 1
            end = answer.end()
        self._rest[number] = data[max(end, len(data) - 12) :]  # which may be the beginning of an answer


class ByLog(Way):
    """Inserts into the log's table as `events.log` does, many rows a statement, and wakes the worker."""

    def __init__(self) -> None:
        super().__init__()
        import django

        django.setup()
        from django.db import connection, transaction

        from events import log

        self._connection, self._transaction, self._log = connection, transaction, log

    def send(self, events: list[tuple[str, str]]) -> None:
        """Append events in one transaction."""
        with self._transaction.atomic():
            with self._connection.cursor() as cursor:
                self._write(cursor, events)
            self._log.announce()

    def _write(self, cursor: Any, events: list[tuple[str, str]]) -> None:
        cursor.execute(
            "INSERT INTO events_event (type, version, data, channels)"
            " SELECT %s, 1, data, ARRAY[channel] FROM unnest(%s::text[], %s::text[])"
            " WITH ORDINALITY AS given (channel, data, place) ORDER BY place",
            [EVENT_TYPE, [channel for channel, _ in events], [data for _, data in events]],
        )


class ByCopy(ByLog):
    """Copies into the log's table as an importer would, at less than half of what it costs who publishes."""

    def _write(self, cursor: Any, events: list[tuple[str, str]]) -> None:
        rows = [f"{EVENT_TYPE}\t1\t{data}\t{{{channel}}}\n" for channel, data in events]
        with cursor.copy(COPY) as copy:
            copy.write("".join(rows))


class ByBatch(Way):
    """Publishes the messages that the sequencer would, from where the log's head stands on."""

    def __init__(self) -> None:
        super().__init__()
        import django

        django.setup()
        import redis
        from django.conf import settings

        from events import log
        from streams import batch

        self._batch = batch
        self._redis = redis.Redis.from_url(settings.REDIS_URL)
        head = log.head()
        self._epoch, self._position = head.epoch, head.position
        self._most = settings.WORKERS_PUBLISH_BATCH

    def send(self, events: list[tuple[str, str]]) -> None:
        """Publish events as batches of the size that the sequencer makes."""
        for first in range(0, len(events), self._most):
            prev = self._position
            made = []
            for channel, data in events[first : first + self._most]:
                self._position += 1
                frame = f"id: {self._epoch}-{self._position}\nevent: {EVENT_TYPE}\ndata: {data}\n\n"
                made.append(self._batch.Published(self._position, (channel,), frame.encode()))
            batch = self._batch.Batch(self._epoch, prev, self._position, tuple(made))
            self._redis.publish(self._batch.redis_channel(), batch.pack())

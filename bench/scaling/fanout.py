"""Valkey hands every message to every web process: what that costs it, and how much of it one core does.

Subscribers are bare connections that subscribe to a channel as a hub does, and throw away what comes; who
publishes does it by the sequencer's own script. Both are one process, so that none falls behind for long.
"""

import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.context import Context
from bench.crowd import Told, serve
from bench.figures import Figure
from bench.payload import payload
from bench.scaling.cores import moved, precise
from bench.scaling.units import SCENARIO, unit

if TYPE_CHECKING:
    from redis.client import Redis

CHANNEL = "fanout:events"  # of a prefix of its own: no hub listens
NUMBER = "fanout:published"
FEW, MANY = 2, 16  # subscribers
RATE = 2_000.0  # messages of one event a second
AHEAD_BYTES = 4 * 1024 * 1024  # that one subscriber may be behind: Valkey cuts off who is 32 MB behind
AT_ONCE = 16  # messages that are under way
FULL = (4, 16, 64)  # web processes
TURN_EVENTS = 25  # of a message: what a turn of the sequencer finds at 5,000 events a second

ANSWER = re.compile(rb"(?<=:1\r\n)\$\d+\r\n\d+\r\n")  # the end of one: that it moved N, and to where
DISCARD = socket.MSG_TRUNC  # <linux/tcp.h>: received and not copied


Links = dict[int, tuple[socket.socket, list[int]]]  # by number; with the bytes that each got


@dataclass(frozen=True, slots=True)
class Flooded:
    """What was published, and to how many."""

    messages: int
    seconds: float
    bytes: int  # of one message, as a subscriber gets it


def measure(context: Context) -> Iterator[Figure]:
    """Find the cost of a message and of each kB of it, for Valkey and for each subscriber."""
    pid = context.deployment.valkey.pid
    child = Told(serve, context.cores.rest, _Flood, (), context.deployment.environment)
    with child as flood, moved([pid], context.cores.server):
        few, many = (
            _run(flood, pid, subscribers, 1, RATE, context.pick(1.0, 2.0)) for subscribers in (FEW, MANY)
        )
        alone = (many.cost - few.cost) / (MANY - FEW)
        full = {each: _run(flood, pid, each, TURN_EVENTS, 0.0, context.pick(0.7, 1.5)) for each in FULL}
        least, most = full[FULL[0]], full[FULL[-1]]
        more = (most.cost - least.cost) / (FULL[-1] - FULL[0])
        # Where it is full a byte costs more than before: so that is what counts.
        size = least.kilobytes - few.kilobytes
        yield unit("valkey.subscriber", alone)
        yield unit("valkey.subscriber_kb", (more - alone) / size)
        yield unit("valkey.message", few.cost - FEW * alone)
        yield unit("valkey.message_kb", (least.cost - FULL[0] * more - few.cost + FEW * alone) / size)
        for subscribers, found in full.items():
            rate = found.rate * TURN_EVENTS
            yield Figure(SCENARIO, "Valkey", "events a second where it is full", "1/s", rate, subscribers)
            yield Figure(SCENARIO, "Valkey", "CPU at that", "% of a core", 100 * found.share, subscribers)


@dataclass(frozen=True, slots=True)
class Cost:
    """What messages to so many cost Valkey."""

    cost: float  # µs of a message
    kilobytes: float  # of a message
    rate: float  # messages a second
    share: float  # of a core


def _run(flood: Told, pid: int, subscribers: int, events: int, rate: float, seconds: float) -> Cost:
    before = precise(pid)
    done: Flooded = flood.tell("run", subscribers, events, rate, seconds)
    used = precise(pid) - before
    return Cost(
        1e6 * used / done.messages, done.bytes / 1000, done.messages / done.seconds, used / done.seconds
    )


class _Flood:
    """The child's side: it publishes, and reads all that comes of it."""

    def __init__(self) -> None:
        import django

        django.setup()
        import redis
        from django.conf import settings

        from streams.batch import Batch, Published
        from workers.sequencer import KEEP_SECONDS, PUBLISH

        self._redis: Redis = redis.Redis.from_url(settings.REDIS_URL)
        self._script = PUBLISH.encode()
        self._keep = KEEP_SECONDS
        self._batch, self._published = Batch, Published
        self._position = 0
        self._redis.delete(NUMBER)
        address = self._redis.connection_pool.connection_kwargs
        self._address = (address["host"], address["port"])
        self._link = socket.create_connection(self._address, timeout=30)
        self._answers = b""
        self._unanswered = 0

    def run(self, subscribers: int, events: int, rate: float, seconds: float) -> Flooded:
        """Publish messages at a rate, or as fast as all is read, to so many."""
        message = self._message(events)
        size = len(_as_heard(message))
        with self._subscribed(subscribers) as (poll, links):
            began = time.monotonic()
            sent, due = 0, 0
            while (passed := time.monotonic() - began) < seconds:
                due = int(rate * passed) + 1 if rate else sent + AT_ONCE
                if sent < due:
                    self._publish(message, due - sent)
                    sent = due
                    self._settle(AT_ONCE)
                    _read(poll, links, sent * size, 0 if rate else AHEAD_BYTES)
                else:
                    time.sleep(0.0005)
            _read(poll, links, sent * size, 0)
            self._settle(0)
            return Flooded(sent, time.monotonic() - began, size)

    def _message(self, events: int) -> bytes:
        made = [
            self._published(n, (f"item:{n}",), f"id: 0123456789-{n}\nevent: BenchTicked\ndata: ".encode()
                            + payload(n).encode() + b"\n\n")
            for n in range(1, events + 1)
        ]  # fmt: skip
        return self._batch("0123456789", 0, events, tuple(made)).pack()

    def _publish(self, message: bytes, times: int) -> None:
        """Call the sequencer's script, without a client that would cost more than Valkey does."""
        asked = []
        for _ in range(times):
            known = b"%d" % self._position if self._position else b""
            self._position += 1
            words = [b"EVAL", self._script, b"1", NUMBER.encode(), known, b"%d" % self._position]
            words += [b"%d" % self._keep, CHANNEL.encode(), message]
            asked.append(b"*%d\r\n" % len(words))
            asked += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self._link.sendall(b"".join(asked))
        self._unanswered += times

    def _settle(self, most: int) -> None:
        """Hear the answers, but for so many."""
        while self._unanswered > most:
            self._answers += self._link.recv(65536)
            whole = ANSWER.split(self._answers)
            if any(each.startswith((b"*2\r\n:0", b"-")) for each in whole):
                raise OSError(f"Valkey refused to publish: {self._answers[:100]!r}")
            self._unanswered -= len(whole) - 1
            self._answers = whole[-1]

    @contextmanager
    def _subscribed(self, number: int) -> Iterator[tuple[select.epoll, Links]]:
        """Subscribe so often; what comes is counted from the acknowledgement on."""
        links: Links = {}
        poll = select.epoll()
        for _ in range(number):
            link = socket.create_connection(self._address, timeout=10)
            link.sendall(f"SUBSCRIBE {CHANNEL}\r\n".encode())
            answer = b""
            while not answer.endswith(b":1\r\n"):
                answer += link.recv(4096)
            link.setblocking(False)
            poll.register(link.fileno(), select.EPOLLIN)
            links[link.fileno()] = (link, [0])
        try:
            yield poll, links
        finally:
            poll.close()
            for link, _ in links.values():
                link.close()


def _as_heard(message: bytes) -> bytes:
    name = CHANNEL.encode()
    return b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(name), name, len(message), message)


def _read(poll: select.epoll, links: Links, upto: int, behind: int) -> None:
    """Read until all have got so many bytes, but for some that they may be behind."""
    room = bytearray(1024 * 1024)
    late = {number for number, (_, got) in links.items() if got[0] < upto - behind}
    while late:
        found = poll.poll(10)
        if not found:
            raise TimeoutError("Valkey does not send what was published")
        for number, _ in found:
            link, got = links[number]
            taken = link.recv_into(room, 0, DISCARD)
            if not taken:
                raise OSError("Valkey cut a subscriber off")
            got[0] += taken
            if got[0] >= upto - behind:
                late.discard(number)

"""The load generator: one process, one thread, epoll and bare sockets, told by a pipe what to do.

It reads all the time, whatever it is told, and is cheap where it matters: thousands of readers of a
channel get the same bytes, so what a piece of them means is found out once and only compared after that.
"""

import gc
import os
import resource
import select
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from bench.checker import Alone, Follower, Tape
from bench.wire import Body, Refused

READ_BYTES = 16 * 1024  # a larger buffer costs more to get than one event to read
MORE_BYTES = 256 * 1024  # where there is more than that
AT_ONCE = 8_192  # readers that are asked for at once
SAMPLED = 400  # readers of a channel whose every event's latency is noted; more would not change a percentile
PORTS_OF_ADDRESS = 8_000  # connections from one source: a fourth of the ports that the kernel gives
NO_PORT_YET = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)  # <linux/in.h>: the port is chosen at connect
RESET = struct.pack("ii", 1, 0)  # close at once, so that no port is left waiting


@dataclass(frozen=True, slots=True)
class Opened:
    """How long it took to open streams, from the first connect to the last one's first bytes."""

    streams: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What all readers got since the mark, and what it cost to read it."""

    events: int  # over all readers
    seconds: float  # from the mark to the last piece
    cpu_share: float  # of one core, of this process, from the mark until it was asked
    bytes: int
    faults: dict[str, int]
    late_ms: dict[float, float]  # by percentile: from the publisher to here


PERCENTILES = (50.0, 95.0, 99.0, 100.0)


@dataclass(slots=True)
class Group:
    """The readers of one channel; with what the last piece did to who stood there, for the next one."""

    tape: Tape
    raw: bytes = b""
    before: tuple[int | None, int] = (None, -1)
    after: tuple[int | None, int] = (None, -1)
    readers: list["Reader"] = field(default_factory=list)

    def read(self, raw: bytes, body: Body, check: Follower) -> None:
        """Have a reader take a piece; one that is what another got at the same place, as that one did."""
        now = time.monotonic_ns()
        if check.alone is not None or check.rest or body.rest:
            check.feed(body.feed(raw), now)
            return
        state = (body.need, check.offset)
        if raw == self.raw and state == self.before:
            body.need, check.offset = self.after
            if check.marks is not None:
                check.marks.append((check.offset, now))
            return
        check.feed(body.feed(raw), now)
        if check.alone is None and not check.rest and not body.rest:
            self.raw, self.before, self.after = raw, state, (body.need, check.offset)


class Reader:
    """One open stream."""

    __slots__ = ("body", "check", "group", "ready", "socket")

    def __init__(self, opened: socket.socket, group: Group, check: Alone | Follower) -> None:
        self.socket = opened
        self.group = group
        self.body = Body()
        self.check = check
        self.ready = False


class Generator:
    """All the readers, and what the parent may ask of them."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders
        self._poll = select.epoll()
        self._poll.register(orders.fileno(), select.EPOLLIN)
        self._readers: dict[int, Reader] = {}
        self._groups: dict[str, Group] = {}
        self._faults: Counter[str] = Counter()
        self._unready = 0
        self._bytes = 0
        self._connected = int(time.time()) % 200 * PORTS_OF_ADDRESS  # begins at another source each time
        self._marked = (0, 0.0)
        self._last_read = 0
        self._nap = 0.0

    def serve(self) -> None:
        """Do what the parent asks until it is gone."""
        while True:
            if self._pump(1.0):
                try:
                    name, arguments = self._orders.recv()
                except (EOFError, ConnectionResetError):
                    return
                try:
                    self._orders.send((True, getattr(self, name)(*arguments)))
                except (Refused, OSError, TimeoutError) as error:
                    self._orders.send((False, f"{name}: {type(error).__name__}: {error}"))

    # --- what the parent may ask ------------------------------------------------------------------

    def open(
        self, address: tuple[str, int], wanted: list[tuple[bytes, str, int]], last: int | None, window: int
    ) -> Opened:
        """Open streams: by which request, of which channel, how often; so many at a time.

        `last` is the number before the first event to come, where that is known. Raises Refused.
        """
        self.mark()
        began = time.monotonic()
        count = 0
        for request, channel, times in wanted:
            alone = times == 1 and channel not in self._groups
            group = self._groups.setdefault(channel, Group(Tape(last)))
            for number in range(times):
                self._until(lambda: self._unready < window, 60)
                sampled = number % max(1, times // SAMPLED) == 0
                check = (
                    Alone(self._faults, last)
                    if alone
                    else Follower(group.tape, self._faults, sampled=sampled)
                )
                self._connect(address, request, Reader(self._socket(), group, check))
                count += 1
        if not self._until(lambda: not self._unready, 60):
            raise TimeoutError(f"{self._unready} of {count} streams did not begin")
        return Opened(count, time.monotonic() - began)

    def mark(self) -> None:
        """Begin to count anew. What was published before must have been read."""
        for group in self._groups.values():
            group.tape.begin()
            group.raw = b""
            for reader in group.readers:
                reader.check.begin()
        self._bytes = 0
        self._faults.clear()
        self._marked = (time.monotonic_ns(), time.process_time())
        self._last_read = self._marked[0]

    def until(self, targets: dict[str, int], seconds: float) -> bool:
        """Return whether all readers of the channels have read so far, in time."""
        waiting = [
            (reader, target)
            for channel, target in targets.items()
            for reader in self._groups[channel].readers
        ]

        def there() -> bool:
            while waiting:
                reader, target = waiting[-1]
                last = reader.check.last
                if last is None or last < target:
                    return False
                waiting.pop()
            return True

        return self._until(there, seconds)

    def closed(self, number: int, seconds: float) -> bool:
        """Return whether so many streams were closed by the server, in time."""
        return self._until(lambda: self._faults["closed"] >= number, seconds)

    def report(self) -> Heard:
        """Return what came since the mark."""
        checks = [reader.check for group in self._groups.values() for reader in group.readers]
        late = sorted(each for check in checks for each in check.late)
        began, cpu = self._marked
        ran = (time.monotonic_ns() - began) / 1e9
        cpu_share = (time.process_time() - cpu) / ran
        return Heard(
            events=sum(check.count for check in checks),
            seconds=(self._last_read - began) / 1e9,
            cpu_share=cpu_share,
            bytes=self._bytes,
            faults={name: number for name, number in self._faults.items() if number},
            late_ms={
                share: late[min(len(late) - 1, int(len(late) * share / 100))] / 1e6
                for share in (PERCENTILES if late else ())
            },
        )

    def leave(self, channels: list[str]) -> None:
        """Leave the streams of some channels."""
        for channel in channels:
            for reader in self._groups.pop(channel).readers:
                self._forget(reader)

    def nap(self, seconds: float) -> None:
        """Sleep so long before what came is read, so that no write of a server has to wake this process.

        A server that writes slower than this reads would pay for that with each of its writes, and a faster
        one not; on a real network none would. Latency is as much coarser.
        """
        self._nap = seconds

    def close(self) -> None:
        """Leave all streams."""
        for reader in list(self._readers.values()):
            self._forget(reader)
        self._groups.clear()
        self._unready = 0
        self._faults.clear()

    # --- reading ----------------------------------------------------------------------------------

    def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                return False
            self._pump(0.05, orders=False)
        return True

    def _pump(self, seconds: float, *, orders: bool = True) -> bool:
        """Read what came; return whether the parent asks for something."""
        asked = False
        readers, pipe = self._readers, self._orders.fileno()
        if not orders:
            seconds = min(seconds, 0.01)  # the pipe may be ready, and is not looked at now
        found = self._poll.poll(seconds, AT_ONCE)
        if found and self._nap:
            time.sleep(self._nap)
            found = self._poll.poll(0, AT_ONCE)
        took = False
        for number, _ in found:
            if number == pipe:
                asked = True
            elif number in readers:
                self._read(readers[number])
                took = True
        if took:
            self._last_read = time.monotonic_ns()
        return asked and orders

    def _read(self, reader: Reader) -> None:
        try:
            raw = reader.socket.recv(READ_BYTES)
            if len(raw) == READ_BYTES:
                with suppress(BlockingIOError):
                    raw += reader.socket.recv(MORE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        if not raw:
            self._faults["closed"] += 1
            self._forget(reader)
            return
        self._bytes += len(raw)
        if reader.ready and isinstance(reader.check, Follower):
            reader.group.read(raw, reader.body, reader.check)
        elif text := reader.body.feed(raw):
            reader.check.feed(text, time.monotonic_ns())
            if not reader.ready:
                reader.ready = True
                self._unready -= 1

    def _socket(self) -> socket.socket:
        """Return a socket that will come from one of our many addresses."""
        made = socket.socket()
        made.setsockopt(socket.IPPROTO_IP, NO_PORT_YET, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        number = self._connected // PORTS_OF_ADDRESS
        made.bind((f"127.1.{number // 250 % 250}.{number % 250 + 1}", 0))
        self._connected += 1
        return made

    def _connect(self, address: tuple[str, int], request: bytes, reader: Reader) -> None:
        reader.socket.settimeout(10)
        reader.socket.connect(address)
        reader.socket.setblocking(False)
        self._readers[reader.socket.fileno()] = reader
        reader.group.readers.append(reader)
        self._unready += 1
        self._poll.register(reader.socket.fileno(), select.EPOLLIN)
        reader.socket.send(request)

    def _forget(self, reader: Reader) -> None:
        if self._readers.pop(reader.socket.fileno(), None) is not None:
            self._poll.unregister(reader.socket.fileno())
            reader.socket.close()
            self._unready -= not reader.ready


def main(orders: Connection, core: int) -> None:
    """Be the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the parent, which ends us by the pipe
    os.sched_setaffinity(0, {core})
    gc.disable()  # nothing here is cyclic, and there is much of it
    Generator(orders).serve()


def allowed_files() -> int:
    """Return how many files this process, and each of its children, may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allow_files(number: int) -> None:
    """Let this process and its children open so many files, as far as we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(number, hard), max(number, hard)))
    except (ValueError, OSError):  # not root: as many as there are
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

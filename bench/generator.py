"""The load generator: one process, one thread, epoll and bare sockets, told by a pipe what to do.

It reads all the time, whatever it is told, and is cheap where it matters: thousands of readers of a
channel get the same bytes, so what a piece of them means is found out once and only compared after that,
where the kernel put it.
"""

import gc
import os
import resource
import select
import signal
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from bench.checker import Alone, Follower, Tape
from bench.wire import Body, Refused

READ_BYTES = 256 * 1024  # at once: two of them stay in a core's own cache, and few streams have more
AT_ONCE = 8_192  # readers that are asked for at once
SAMPLED = 400  # readers of a channel whose every event's latency is noted; more would not change a percentile
PORTS_OF_ADDRESS = 8_000  # connections from one source: a fourth of the ports that the kernel gives
NO_PORT_YET = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)  # <linux/in.h>: the port is chosen at connect
PIECES = 100  # that are checked at once: longer, and what comes meanwhile would be stamped late
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
    """The readers of one channel."""

    tape: Tape
    readers: list["Reader"] = field(default_factory=list)


class Reader:
    """One open stream."""

    __slots__ = ("body", "check", "group", "ready", "socket", "unread")

    def __init__(self, opened: socket.socket, group: Group, check: Alone | Follower) -> None:
        self.socket = opened
        self.group = group
        self.body = Body()
        self.ready = False
        self.check = check
        self.unread: deque[tuple[bytes, int]] = deque()  # pieces of who comes alone, and when they came

    @property
    def checked(self) -> Alone | Follower:
        """Return who checks it, of all that came: who comes alone is read when somebody asks."""
        while self.unread:
            self.check_some()
        return self.check

    def check_some(self) -> None:
        """Check the next of what came."""
        for _ in range(min(len(self.unread), PIECES)):
            piece, now = self.unread.popleft()
            self.check.feed(self.body.feed(piece), now)


class Intake:
    """What pieces are read into: two buffers that stay, by turns.

    So the last piece of a crowd stands beside the next one, with what it did to who stood there: one that is
    the same does the same to whom stands there, too. No other is copied either, but where it leads.
    """

    def __init__(self) -> None:
        self.buffer, self._last = bytearray(READ_BYTES), bytearray(READ_BYTES)
        self._view, self._other = memoryview(self.buffer), memoryview(self._last)
        self._group: Group | None = None  # whose the last piece was; None: it says nothing of the next
        self._size = self._offset = self._then_offset = 0
        self._need: int | None = None
        self._then_need: int | None = None

    def forget(self) -> None:
        """Compare what comes next with no piece before it."""
        self._group = None

    def piece(self, size: int) -> bytes:
        """Return what was read, to keep."""
        return self._view[:size].tobytes()

    def take(self, size: int, group: Group, body: Body, check: Follower) -> None:
        """Have a reader of a crowd take what was read."""
        now = time.monotonic_ns()
        need, offset = body.need, check.offset
        whole = not (check.rest or body.rest or check.alone)
        if (
            whole
            and size == self._size
            and offset == self._offset
            and need == self._need
            and group is self._group
            and self._last.startswith(self._view[:size])
        ):
            body.need, check.offset = self._then_need, self._then_offset
            check.mark(now)
            return
        if body.rest:
            check.feed(body.feed(self.piece(size)), now)
        else:
            for begin, end in body.parts(self.buffer, size):
                check.feed(self._view[begin:end], now)
        check.mark(now)
        if whole and not (check.rest or body.rest or check.alone):
            self._group, self._size, self._need, self._offset = group, size, need, offset
            self._then_need, self._then_offset = body.need, check.offset
            self.buffer, self._last = self._last, self.buffer
            self._view, self._other = self._other, self._view


class Generator:
    """All the readers, and what the parent may ask of them."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders
        self._poll = select.epoll()
        self._poll.register(orders.fileno(), select.EPOLLIN)
        self._readers: dict[int, Reader] = {}
        self._groups: dict[str, Group] = {}
        self._faults: Counter[str] = Counter()
        self._intake = Intake()
        self._unready = 0
        self._bytes = 0
        self._connected = int(time.time()) % 200 * PORTS_OF_ADDRESS  # begins at another source each time
        self._marked = (0, 0.0)
        self._last_read, self._last_cpu = self._marked
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
            for reader in group.readers:
                reader.checked.begin()
        self._intake.forget()
        self._bytes = 0
        self._faults.clear()
        self._marked = (time.monotonic_ns(), time.process_time())
        self._last_read, self._last_cpu = self._marked

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
                while reader.unread:
                    reader.check_some()
                    self._pump(0, orders=False)  # what comes meanwhile is stamped as it comes
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
        began, cpu = self._marked
        ran = (self._last_read - began) / 1e9
        checks = [reader.checked for group in self._groups.values() for reader in group.readers]
        late = sorted(each for check in checks for each in check.late)
        return Heard(
            events=sum(check.count for check in checks),
            seconds=ran,
            cpu_share=(self._last_cpu - cpu) / ran if ran else 0.0,
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
                _ = reader.checked  # a fault counts, whoever leaves
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
            self._last_read, self._last_cpu = time.monotonic_ns(), time.process_time()
        return asked and orders

    def _read(self, reader: Reader) -> None:
        intake = self._intake
        try:
            size = reader.socket.recv_into(intake.buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._faults["closed"] += 1
            self._forget(reader)
            return
        self._bytes += size
        check = reader.check
        if not reader.ready:
            if text := reader.body.feed(intake.piece(size)):
                now = time.monotonic_ns()
                check.feed(text, now)
                if isinstance(check, Follower):
                    check.mark(now)
                reader.ready = True
                self._unready -= 1
        elif isinstance(check, Follower):
            intake.take(size, reader.group, reader.body, check)
        else:
            reader.unread.append((intake.piece(size), time.monotonic_ns()))

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

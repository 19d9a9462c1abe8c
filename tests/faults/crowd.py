"""A crowd of clients in a process of its own: thousands of bare sockets that read one stream each.

Run as a module with a plan as JSON (see `Plan`); it prints a line of JSON for each step, the last
one says what everyone got.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from tests.stack import ROOT

# What the server's frames hold never has a CR: this is how the chunks of the coding are cut out.
_CHUNKING = re.compile(rb"\r\n[0-9a-f]+\r\n")
_NOTED = re.compile(rb'^data: \{"n":(\d+)', re.MULTILINE)
_ENDED = re.compile(rb'^event: stream\.end\ndata: \{"reason":"(\w+)"', re.MULTILINE)
_RETRY = re.compile(rb"^retry: (\d+)$", re.MULTILINE)
_ID = re.compile(rb"^id: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a crowd does: `count` clients come `within` so many seconds, to the first of the ports.

    Who was ended comes back after the time it was told, to the next port, with its last id.
    It is over when everyone has got the events noted as 0 to `last`.
    """

    ports: list[int]
    path: str
    cookies: str
    count: int
    last: int
    last_event_id: str = ""
    within: float = 1.0
    seconds: float = 60.0
    first: int = 0  # the number of the first event that is due
    live_from: int = -1  # events from this one on are timed
    every: int = 0  # events after which it says that everyone has got them


@dataclass(slots=True)
class Report:
    """What a crowd got."""

    opened: float = 0.0  # seconds from the first call until everyone's first frame
    caught_up: float = 0.0  # until everyone had what was there when they came
    done: float = 0.0  # until everyone had everything
    wrong: list[str] = field(default_factory=list)
    refused: int = 0  # connections that were refused or cut without a word
    ends: dict[str, int] = field(default_factory=dict)
    retries: list[int] = field(default_factory=list)  # milliseconds, as the ends said
    ended_at: list[float] = field(default_factory=list)  # by the wall clock
    late: list[float] = field(default_factory=list)  # when each client got the first timed event


class Client(asyncio.Protocol):
    """One reader: remembers its last id and comes back, as EventSource does."""

    def __init__(self, crowd: "Crowd", number: int) -> None:
        self.crowd = crowd
        self.number = number
        self.got = array("l")
        self.last_id = crowd.plan.last_event_id
        self.retry = 1.0
        self.calls = 0
        self.transport: asyncio.Transport | None = None
        self._begin()

    def _begin(self) -> None:
        self.rest = b""
        self.opened = False
        self.ended = False

    async def call(self) -> None:
        """Connect, for as often as the server cannot be reached."""
        loop = asyncio.get_running_loop()
        plan = self.crowd.plan
        while True:
            port = plan.ports[min(self.calls, len(plan.ports) - 1)]
            self.calls += 1
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", port)
                return
            except OSError:
                self.crowd.report.refused += 1
                await asyncio.sleep(0.1)

    def connection_made(self, transport: Any) -> None:
        self._begin()
        self.transport = transport
        plan = self.crowd.plan
        last = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        transport.write(
            f"GET {plan.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {plan.cookies}\r\n{last}\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.rest += data
        if not self.opened:
            head, found, _ = self.rest.partition(b"\r\n\r\n")
            if not found or (b"stream.open" not in self.rest and b"stream.end" not in self.rest):
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self.crowd.report.wrong.append(f"{self.number}: {head[:40]!r}")
            self.opened = True
            self.crowd.note_opened()
        whole, found, rest = self.rest.rpartition(b"\n\n")
        if not found:
            return
        self.rest = rest
        text = _CHUNKING.sub(b"", whole + found)
        if ids := _ID.findall(text):
            self.last_id = ids[-1].decode()
        before = self.got[-1] if self.got else -1
        numbers = list(map(int, _NOTED.findall(text)))
        self.got.extend(numbers)
        if numbers:
            self.crowd.note_got(self, before, numbers[-1])
        if told := _RETRY.findall(text):
            self.retry = int(told[-1]) / 1000
        if end := _ENDED.search(text):
            report = self.crowd.report
            reason = end[1].decode()
            report.ends[reason] = report.ends.get(reason, 0) + 1
            report.retries.append(int(told[-1]))
            report.ended_at.append(time.time())
            self.ended = True
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.crowd.over:
            if not self.ended:
                self.crowd.report.refused += 1
            self.crowd.later(self.retry, self)


class Crowd:
    """All clients of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.report = Report()
        self.over = False
        self._opened = self._caught_up = self._done = 0
        self._passed: dict[int, int] = {}  # how many clients got so many events
        self._tasks: set[asyncio.Task[None]] = set()
        self._everyone = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        clients = [Client(self, number) for number in range(self.plan.count)]
        for client in clients:
            due = self.plan.within * client.number / self.plan.count
            if (ahead := due - (time.monotonic() - self._began)) > 0.005:
                await asyncio.sleep(ahead)
            self._spawn(client.call())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.plan.seconds):
                await self._everyone.wait()
        await asyncio.sleep(0.2)  # for what comes twice
        self.over = True
        self.report.done = self.report.done or -1.0
        due = array("l", range(self.plan.first, self.plan.last + 1))
        for client in clients:
            if client.got != due:
                self.report.wrong.append(f"{client.number}: {_differs(client.got, due)}")
        for client in clients:
            if client.transport is not None:
                client.transport.abort()
        self.report.wrong = self.report.wrong[:20]
        say("report", **asdict(self.report))
        loop.call_soon(loop.stop)

    def later(self, seconds: float, client: Client) -> None:
        """Let a client come back."""

        async def back() -> None:
            await asyncio.sleep(seconds)
            await client.call()

        self._spawn(back())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def note_opened(self) -> None:
        self._opened += 1
        if self._opened * 2 == self.plan.count:
            say("half")
        if self._opened == self.plan.count:
            self.report.opened = time.monotonic() - self._began
            say("opened")

    def note_got(self, client: Client, before: int, now: int) -> None:
        timed = self.plan.live_from if self.plan.live_from >= 0 else self.plan.last
        if before < timed - 1 <= now:
            self._caught_up += 1
            if self._caught_up == self.plan.count:
                self.report.caught_up = time.monotonic() - self._began
        if before < timed <= now and before == timed - 1:
            self.report.late.append(time.time())
        if every := self.plan.every:
            for many in range((before + 1) // every + 1, (now + 1) // every + 1):
                self._passed[many] = self._passed.get(many, 0) + 1
                if self._passed[many] == self.plan.count:
                    say("passed", events=many * every)
        if before < self.plan.last <= now:
            self._done += 1
            if self._done == self.plan.count:
                self.report.done = time.monotonic() - self._began
                self._everyone.set()


def _differs(got: Sequence[int], due: Sequence[int]) -> str:
    where = next(
        (n for n, (a, b) in enumerate(zip(got, due, strict=False)) if a != b), min(len(got), len(due))
    )
    return f"{len(got)} of {len(due)} events; from the {where + 1}. on {list(got[where : where + 3])}"


def say(what: str, **more: Any) -> None:
    sys.stdout.write(json.dumps({"what": what, **more}) + "\n")
    sys.stdout.flush()


class Running:
    """A crowd that was sent off; `until` waits for a step of it."""

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crowd", json.dumps(asdict(plan))],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def until(self, what: str) -> dict[str, Any]:
        """Return what the crowd says when it comes to a step."""
        for line in self._process.stdout:
            said = json.loads(line)
            if said.pop("what") == what:
                return said
        raise AssertionError(f"the crowd ended before {what}")

    def report(self) -> Report:
        """Wait for the end; return what everyone got."""
        return Report(**self.until("report"))

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._process.stdout.close()


@contextlib.contextmanager
def crowd(client: httpx.Client, ports: Sequence[int], path: str, **plan: Any) -> Iterator[Running]:
    """Send a crowd off, all of it logged in as a client is."""
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    running = Running(Plan(ports=list(ports), path=path, cookies=cookies, **plan))
    try:
        yield running
    finally:
        running.close()


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    loop = asyncio.new_event_loop()
    task = loop.create_task(Crowd(plan).run())
    loop.run_forever()
    task.result()


if __name__ == "__main__":
    main()

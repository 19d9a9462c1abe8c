"""Every client program against the real service, over a network that breaks its connections."""

import json
import queue
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chaos import clients
from tests.chaos.network import Network
from tests.faults.people import new_item, say
from tests.stack import ROOT, Stack


class Running:
    """A client program, and what it said."""

    def __init__(self, program: clients.Program, said: list[dict[str, Any]]) -> None:
        self.all: list[dict[str, Any]] = []
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self.process = subprocess.Popen(
            program.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.tell(json.dumps({"clients": said}))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(json.loads(line))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def until(self, wanted: Callable[[dict[str, Any]], Any], *, seconds: float = 30) -> dict[str, Any]:
        """Return the next observation that is wanted."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                said = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not in {seconds} s; the last ones: {self.all[-10:]}") from None
            self.all.append(said)
            if wanted(said):
                return said

    def stop(self) -> int:
        """Have it end; return its status."""
        self.tell("stop")
        status = self.process.wait(20)
        self.close()
        while not self._queue.empty():
            self.all.append(self._queue.get())
        return status

    def close(self) -> None:
        """Leave nothing open, whatever happened."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self._thread.join(10)
        self.process.stdin.close()
        self.process.stdout.close()

    def tokens(self) -> list[str]:
        """Return the tokens, as they came."""
        return [said["token"] for said in self.all if said["k"] == "frame" and said["token"]]


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def one(program: clients.Program, *said: dict[str, Any]) -> Running:
        started.append(Running(program, list(said)))
        return started[-1]

    yield one
    for running in started:
        running.close()


@pytest.fixture
def network(stack: Stack) -> Iterator[Network]:
    with Network([stack.ports["daphne"], stack.ports["uvicorn"]], seed=1) as started:
        yield started


@pytest.fixture(params=["lean", "httpx", "npm", "chromium"])
def program(request) -> clients.Program:
    return named(request.param)


def named(name: str) -> clients.Program:
    """Return a program, or skip the test where it cannot be run."""
    found = {program.name: program for program in clients.available()}
    if name not in found:
        pytest.skip(
            f"the client {name} lacks what it needs: nodejs and npm, or chromium; apt-get install them"
        )
    return found[name]


def frame(**wanted: Any) -> Callable[[dict[str, Any]], bool]:
    """Return a test for a frame that says all this."""
    return lambda said: said["k"] == "frame" and wanted.items() <= said.items()


def kind(name: str) -> Callable[[dict[str, Any]], bool]:
    """Return a test for an observation of a kind."""
    return lambda said: said["k"] == name


def client(network: Network, alice: Any, item: str, **more: Any) -> dict[str, Any]:
    """Describe a client who reads an item."""
    cookies = "; ".join(f"{name}={value}" for name, value in alice.cookies.items())
    return {
        "name": "one", "base": f"http://127.0.0.1:{network.balanced}", "cookie": cookies,
        "path": f"/streams/?channel=item:{item}", "habit": "steady", "seed": 1, **more,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["lean", "httpx", "npm"])
def test_who_has_the_item_open_is_said_without_an_id(stack, network, run, name):
    alice = stack.login("alice")
    item = new_item(alice)
    running = run(named(name), client(network, alice, item))
    said = running.until(lambda said: said["k"] == "frame" and said["event"] == "PresenceChanged")

    assert (said["id"], said["token"]) == (None, None)
    assert said["data"]["item_id"] == item
    assert [user["username"] for user in said["data"]["users"]] == ["alice"]


def test_a_cut_connection_is_resumed_and_every_event_comes_once_in_order(program, stack, network, run):
    alice = stack.login("alice")
    item = new_item(alice)
    running = run(program, client(network, alice, item))
    running.until(frame(event="stream.open"))
    say(alice, item, "first ☃")
    running.until(frame(token="first ☃"))

    assert network.do("reset") >= 1  # a browser may have connected once more, in advance
    running.until(kind("cut"))
    say(alice, item, "missed")
    running.until(frame(token="missed"))
    say(alice, item, "last")
    running.until(frame(token="last"))

    assert running.stop() == 0
    assert running.tokens() == ["first ☃", "missed", "last"]
    opened = [said["data"]["mode"] for said in running.all if said.get("event") == "stream.open"]
    assert opened == ["live", "resumed"]
    first, again = [said for said in running.all if said["k"] == "connect"]
    assert first["last"] is None
    if not again.get("unknown"):
        [before] = [said["id"] for said in running.all if said.get("token") == "first ☃"]
        assert again["last"] == before
    assert [said["c"] for said in running.all] == ["one"] * len(running.all)
    times = [said["t"] for said in running.all]
    assert times == sorted(times)
    assert abs(times[-1] - time.time()) < 60


def test_who_is_refused_for_good_gives_up(program, stack, network, run):
    carol = stack.login("carol")

    running = run(program, client(network, carol, "987654321"))

    running.until(kind("gaveup"))
    assert running.stop() == 0


def test_every_habit_ends_with_all_events_once_in_order(stack, network, run):
    alice = stack.login("alice")
    item = new_item(alice)
    habits = ("steady", "flaky", "slow", "never", "vanishing")
    seeds = {"flaky": _soonest(1, 20), "vanishing": _soonest(5, 40)}
    running = run(
        named("lean"),
        *(
            client(network, alice, item, name=habit, habit=habit, seed=seeds.get(habit, 1))
            for habit in habits
        ),
    )
    for _ in habits:
        running.until(frame(event="stream.open"))
    said = ["x" * 15_000 + str(number) for number in range(3)]  # 45 s for who reads slowly
    for text in said:
        say(alice, item, text)
    for _ in range(9):  # of who reads
        running.until(lambda found: found["k"] == "frame" and found["token"])
    got = {
        name: [each["token"] for each in running.all if each["c"] == name and each.get("token")]
        for name in habits
    }
    assert got["steady"] == got["flaky"] == got["vanishing"] == said
    assert got["never"] == got["slow"] == []

    left = {running.until(kind("cut"))["c"], running.until(kind("cut"))["c"]}
    running.tell("settle")
    say(alice, item, "the end")
    for _ in habits:
        running.until(frame(token="the end"))

    assert left == {"flaky", "vanishing"}
    assert running.stop() == 0
    for name in habits:
        mine = [found for found in running.all if found["c"] == name]
        assert [found["token"] for found in mine if found.get("token")] == [*said, "the end"], name
        at = None
        for found in mine:
            if found["k"] == "connect":
                assert found["last"] == at, name
            at = found.get("id") or at


def _soonest(least: float, most: float) -> int:
    """Return the seed with which a habit shows soonest."""
    return min(range(100), key=lambda seed: random.Random(seed).uniform(least, most))


def test_a_silent_connection_is_left_by_who_watches_it(stack, network, run):
    alice = stack.login("alice")
    item = new_item(alice)
    running = run(named("lean"), *(client(network, alice, item, name=str(n), watchdog=2) for n in range(6)))
    for _ in range(6):
        running.until(frame(event="stream.open"))

    assert network.do("halfopen") == 6  # some learn of it at once, some never
    for _ in range(6):
        running.until(kind("cut"))
    say(alice, item, "after all")

    for _ in range(6):
        running.until(frame(token="after all"))
    whys = {found["why"] for found in running.all if found["k"] == "cut"}
    assert "silence" in whys
    assert len(whys) > 1
    assert running.stop() == 0

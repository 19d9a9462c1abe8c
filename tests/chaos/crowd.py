"""The subscribers: which there are, the programs that carry them, and what these report."""

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.clients import Program
from tests.chaos.tape import Tape
from tests.stack import ROOT

SUBSCRIBERS = 300
END_SECONDS = 10
# Of those that lean clients carry; what others wrote is steady.
HABITS = {"steady": 0.45, "flaky": 0.24, "slow": 0.1, "never": 0.08, "vanishing": 0.13}
ONE_CHANNEL = 0.5  # of the subscribers watch one item only, the others up to all of them
WATCHDOG_SECONDS = 20.0  # of silence, heartbeats included, until a lean client comes back
MOST_ITEMS = 12  # of one that watches many


@dataclass(frozen=True, slots=True)
class Client:
    """One subscriber, as its program is told of it."""

    name: str
    base: str
    path: str
    cookie: str
    habit: str
    seed: int
    watchdog: float = WATCHDOG_SECONDS


@dataclass(frozen=True, slots=True)
class Place:
    """Where there is something to watch: base URLs, items, users with their cookies."""

    bases: Sequence[str]
    items: Sequence[str]
    probed: str  # the channel that every steady subscriber watches
    users: Sequence[tuple[int, str]]


def gather(programs: Sequence[Program], place: Place, *, seed: int) -> dict[Program, list[Client]]:
    """Return the subscribers of each program; the one without a share takes what the others leave."""
    draw = random.Random(f"{seed} crowd")
    found: dict[Program, list[Client]] = {}
    left = SUBSCRIBERS - sum(program.share or 0 for program in programs)
    for program in programs:
        found[program] = []
        for number in range(left if program.share is None else program.share):
            habit = "steady"
            if program.name == "lean":
                habit = draw.choices(list(HABITS), list(HABITS.values()))[0]
            user, cookie = draw.choice(place.users)
            watched = 1 if draw.random() < ONE_CHANNEL else draw.randint(2, min(MOST_ITEMS, len(place.items)))
            channels = [f"item:{item}" for item in draw.sample(list(place.items), watched)]
            if watched > 1:
                channels.append(f"user:{user}")
            if habit == "steady":
                channels.append(place.probed)
            path = "/streams/?" + "&".join(f"channel={channel}" for channel in channels)
            base = draw.choice(list(place.bases))
            name = f"{program.name}-{number}"
            found[program].append(Client(name, base, path, cookie, habit, draw.getrandbits(32)))
    return found


def channels_of(client: Client) -> list[str]:
    """Return what a subscriber watches."""
    return [word.partition("=")[2] for word in client.path.partition("?")[2].split("&")]


class Crowd:
    """The programs, running; use as a context manager. `heard` is called for each token that arrives."""

    def __init__(
        self,
        crowd: Mapping[Program, Sequence[Client]],
        folder: Path,
        epoch: str,
        heard: Callable[[str, int], None],
    ) -> None:
        self.tapes: dict[str, Tape] = {
            client.name: Tape(client.name, channels_of(client), epoch)
            for clients in crowd.values()
            for client in clients
        }
        self.steady = {c.name for clients in crowd.values() for c in clients if c.habit == "steady"}
        self._crowd = crowd
        self._folder = folder
        self._heard = heard
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self.failures: list[str] = []

    def __enter__(self) -> "Crowd":
        for program, clients in self._crowd.items():
            with (self._folder / f"{program.name}.log").open("w") as log:
                # It ends with its standard input, so also with us.
                process = subprocess.Popen(
                    program.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                    text=True, bufsize=1, start_new_session=True,
                )  # fmt: skip
            self._running[program.name] = process
            assert process.stdin is not None
            process.stdin.write(json.dumps({"clients": [asdict(client) for client in clients]}) + "\n")
            thread = threading.Thread(target=self._listen, args=(program.name, process), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *exc: object) -> None:
        self.tell("stop")
        deadline = time.monotonic() + END_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        for thread in self._threads:
            thread.join(5)

    def tell(self, word: str) -> None:
        """Tell all programs something."""
        for name, process in self._running.items():
            assert process.stdin is not None
            try:
                process.stdin.write(word + "\n")
                process.stdin.flush()
            except OSError:
                self.failures.append(f"{name} has ended by itself; see {self._folder / name}.log")

    def check(self) -> None:
        """Raise where a program ended or said what nobody can read."""
        for name, process in self._running.items():
            if process.poll() is not None:
                self.failures.append(f"{name} ended with {process.poll()}; see {self._folder / name}.log")
        if self.failures:
            raise RuntimeError("; ".join(self.failures))

    @property
    def deliveries(self) -> int:
        """Return how many events arrived so far."""
        return sum(tape.deliveries for tape in self.tapes.values())

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        tapes, heard, load = self.tapes, self._heard, json.loads
        try:
            for line in process.stdout:
                said = load(line)
                client = said["c"]
                token = tapes[client].observe(said)
                if token >= 0:
                    heard(client, token)
        except Exception as error:
            self.failures.append(f"{name} said what cannot be read: {error!r}")

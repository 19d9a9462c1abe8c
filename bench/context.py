"""What a scenario is given: how much to do, what to measure, and the means."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from bench.figures import Aim, Figure
from bench.plots import Plot
from bench.usage import Cores, Usage

if TYPE_CHECKING:
    from bench.crowd import Crowd
    from bench.deployment import Deployment
    from bench.publishing import Publisher

T = TypeVar("T")


class Server(Protocol):
    """One server under measurement, started for this scenario and pinned to its core."""

    @property
    def subject(self) -> str:
        """What it is called."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""

    def usage(self) -> Usage:
        """Return what it cost so far: of its own processes, not of those behind it."""

    def opening(self, channel: str, *, last_event_id: str = "") -> bytes:
        """Return the HTTP request that opens a stream of a channel."""

    def publisher(self) -> "AbstractContextManager[Publisher]":
        """Return who publishes to it by its usual way: a process of its own, on the other core."""


class Starts(Protocol):
    """One subject: what it is called, and how to start a server of it."""

    @property
    def subject(self) -> str:
        """What it is called."""

    def start(self, **environment: str) -> AbstractContextManager[Server]:
        """Serve until the context is left."""


@dataclass(slots=True)
class Context:
    """One round's means. `deployment` is the real thing behind our web processes: it runs all the time."""

    quick: bool
    cores: Cores
    folder: Path
    deployment: "Deployment"
    starts: dict[str, Starts]  # by subject; only those that can be had here and were asked for
    round: int = 1
    lines: list[str] = field(default_factory=list)  # remarks for the report, each once

    def pick(self, quick: T, full: T) -> T:
        """Return what fits the mode."""
        return quick if self.quick else full

    @property
    def extras(self) -> bool:
        """Tell whether to measure what no aim needs, too: in the first of the full rounds."""
        return not self.quick and self.round == 1

    def among(self, *subjects: str) -> list[str]:
        """Return those of some subjects (of all, where none is named) that are to be measured."""
        return [each for each in self.starts if not subjects or each in subjects]

    @contextmanager
    def serving(self, subject: str, **environment: str) -> Iterator[Server]:
        """Start a fresh server of a subject; settings are ours, and ignored by peers."""
        with self.starts[subject].start(**environment) as server:
            yield server

    @contextmanager
    def crowd(self) -> Iterator["Crowd"]:
        """Start the load generator: a process of its own, on the other core."""
        from bench.crowd import Crowd

        with Crowd(core=self.cores.rest) as crowd:
            yield crowd

    def say(self, text: str) -> None:
        """Tell the person who waits."""
        print(f"      {text}", flush=True)  # noqa: T201 (that is what it is for)

    def remark(self, text: str) -> None:
        """Put a line into the report."""
        if text not in self.lines:
            self.lines.append(text)


class Scenario(Protocol):
    """A module of `bench.scenarios`: its docstring says what it does and how to read it."""

    TITLE: str
    SECONDS: tuple[int, int]  # that one round takes about, quick and full
    AIMS: Sequence[Aim]
    PLOTS: Sequence[Plot]

    @staticmethod
    def run(context: Context) -> Iterator[Figure]:
        """Measure every subject once, and yield what was found as it comes."""

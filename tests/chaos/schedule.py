"""What is broken when: drawn from a seed before anything runs, so that the same seed breaks the same.

Pure. A fault begins at a second of the run and holds its target until it was mended; two that
hold the same target never overlap, all others may.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass

PROCESSES = ("daphne", "uvicorn", "worker", "worker2", "beat", "valkey", "postgres")
GAP_SECONDS = 3.1  # between the beginnings of two faults, on average
FIRST_SECONDS = 2.0  # everybody is connected by then
HELD_SECONDS = 10.0  # of a transaction that holds its append open
START_SECONDS = 9.0  # of a process that was killed: until then it is not hurt again


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: whom it holds, how long it lasts, and how hard it may be."""

    name: str
    target: str
    seconds: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 0.0)
    rest: float = 1.0  # seconds after its end in which its target is left alone


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it begins, in seconds from the start of the run, and how long it lasts."""

    number: int
    at: float
    kind: Kind
    seconds: float
    amount: float

    def __str__(self) -> str:
        amount = f" {self.amount:.2f}" if self.amount else ""
        return f"{self.at:7.2f} s  {self.kind.name}{amount}, {self.seconds:.2f} s"


def _kinds() -> tuple[Kind, ...]:
    return (
        *(Kind(f"kill {name}", name, (0.5, 2.0), rest=START_SECONDS) for name in PROCESSES),
        *(Kind(f"freeze {name}", name, (1.5, 4.0), rest=2.0) for name in PROCESSES),
        Kind("flush valkey", "valkey"),
        Kind("restart valkey empty", "valkey", (0.0, 0.5), rest=2.0),
        Kind("cut subscriptions", "valkey"),
        Kind("restart postgres at once", "postgres", (0.0, 0.5), rest=START_SECONDS),
        Kind("terminate all backends", "postgres", rest=2.0),
        Kind("terminate the hubs' backends", "postgres", rest=2.0),
        Kind("hold an append open", "append", (HELD_SECONDS, HELD_SECONDS)),
        Kind("worker dies while placing", "point", (0.5, 2.0), rest=START_SECONDS),
        Kind("worker dies before publishing", "point", (0.5, 2.0), rest=START_SECONDS),
        Kind("worker dies in a batch", "point", (0.5, 2.0), rest=START_SECONDS),
        Kind("worker dies before acknowledging", "point", (0.5, 2.0), rest=START_SECONDS),
        Kind("network reset", "network", amount=(0.2, 1.0)),
        Kind("network stall", "network", (1.0, 4.0)),
        Kind("network half-open", "network", (3.0, 6.0), amount=(0.1, 0.4)),
        Kind("network delay", "network", (2.0, 4.0), amount=(20.0, 200.0)),
        Kind("network throttle", "network", (2.0, 4.0), amount=(2_000.0, 20_000.0)),
    )


KINDS = {kind.name: kind for kind in _kinds()}


def plan(seed: int, seconds: float, only: Collection[str] | None = None) -> list[Fault]:
    """Return the faults of a run, in the order in which they begin; each ends within the run.

    Kinds are dealt like cards: none comes again before all have been.
    """
    draw = random.Random(seed)
    kinds = [kind for kind in KINDS.values() if only is None or kind.name in only]
    deck: list[Kind] = []
    busy: dict[str, float] = {}
    faults: list[Fault] = []
    at = FIRST_SECONDS
    while at < seconds:
        if not deck:
            deck = draw.sample(kinds, len(kinds))
        lasts = {kind.name: draw.uniform(*kind.seconds) for kind in deck}
        fits = (kind for kind in deck if busy.get(kind.target, 0) <= at and at + lasts[kind.name] <= seconds)
        kind = next(fits, None)
        if kind is None:
            if all(at + lasts[each.name] > seconds for each in deck):
                deck = []
            at += 0.5
            continue
        deck.remove(kind)
        faults.append(Fault(len(faults) + 1, at, kind, lasts[kind.name], draw.uniform(*kind.amount)))
        busy[kind.target] = at + lasts[kind.name] + kind.rest
        at += draw.uniform(0.4, 1.6) * GAP_SECONDS
    return faults

"""What was measured, and what was aimed at.

A scenario yields `Figure`s, one a quantity, and names its `Aim`s. What is compared is the median over
the rounds, so that one noisy round decides nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

UVICORN = "tickertape-uvicorn"
DAPHNE = "tickertape-daphne"
NCHAN = "nchan"
EVENTSTREAM = "django-eventstream"
SUBJECTS = (UVICORN, DAPHNE, NCHAN, EVENTSTREAM)


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one subject as one round had it; `at` is what it was varied over, if anything."""

    scenario: str
    subject: str
    quantity: str
    unit: str
    value: float
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """What a quantity is to reach: at least or at most `bound`, in its own unit or times a peer's figure."""

    scenario: str
    subject: str
    quantity: str
    bound: float
    least: bool = True  # else the bound is the most
    times: str | None = None  # the peer whose figure of this quantity the bound is multiplied by
    at: float | None = None

    @property
    def text(self) -> str:
        """Return what is aimed at, for a person."""
        sign = "≥" if self.least else "≤"
        return f"{sign} {self.bound:g} × {self.times}" if self.times else f"{sign} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An aim beside what was reached; without the one figure or the other nothing can be said."""

    aim: Aim
    unit: str
    wanted: float | None
    reached: float | None

    @property
    def ratio(self) -> float | None:
        """Return how far it was reached: 1 and more is met, whichever way the aim points."""
        if self.wanted is None or self.reached is None:
            return None
        over, under = (self.reached, self.wanted) if self.aim.least else (self.wanted, self.reached)
        return over / under if under else None

    @property
    def met(self) -> bool | None:
        """Tell whether the aim is met; None where that was not measured."""
        if self.wanted is None or self.reached is None:
            return None
        return self.reached >= self.wanted if self.aim.least else self.reached <= self.wanted


def medians(figures: Iterable[Figure]) -> list[Figure]:
    """Return one figure for each quantity: the median over the rounds, in the order of first coming."""
    values: dict[tuple[str, str, str, str, float | None], list[float]] = {}
    for each in figures:
        key = (each.scenario, each.subject, each.quantity, each.unit, each.at)
        values.setdefault(key, []).append(each.value)
    return [
        Figure(scenario, subject, quantity, unit, median(found), at)
        for (scenario, subject, quantity, unit, at), found in values.items()
    ]


def compare(aims: Sequence[Aim], figures: Iterable[Figure]) -> list[Outcome]:
    """Return each aim beside the medians of what was measured."""
    found = {(each.scenario, each.subject, each.quantity, each.at): each for each in medians(figures)}

    def outcome(aim: Aim) -> Outcome:
        reached = found.get((aim.scenario, aim.subject, aim.quantity, aim.at))
        wanted: float | None = aim.bound
        if aim.times is not None:
            peer = found.get((aim.scenario, aim.times, aim.quantity, aim.at))
            wanted = None if peer is None else aim.bound * peer.value
        return Outcome(aim, reached.unit if reached else "", wanted, reached.value if reached else None)

    return [outcome(aim) for aim in aims]

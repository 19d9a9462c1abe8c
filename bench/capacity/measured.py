"""The figures that the calculator reckons with: kept in the repository, written by one command."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.scaling.units import KEYS, SCENARIO, UNITS
from bench.scaling.workers import BY_WORKERS, REACTED

FILE = Path(__file__).with_name("measured.json")

# Of whole workers, the first of which is one.
WHOLE = f"{REACTED} a second{BY_WORKERS} [1/s]"

Point = tuple[float, float]


class Unmeasured(ValueError):
    """The file of figures is not whole; the text says what it lacks."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, on what."""

    machine: str
    mode: str
    rounds: int
    values: Mapping[str, float]  # medians, or the most where that is 0; by `bench.scaling.units`
    spread: Mapping[str, tuple[float, float]]  # least and most of the rounds
    curves: Mapping[str, Mapping[str, Sequence[Point]]]  # by part and by what

    @property
    def reacted(self) -> float:
        """Return how many events a second one whole worker reacts to, all that this takes included."""
        [(_, rate), *_] = self.curves["worker"][WHOLE]
        return rate

    def seconds(self, key: str) -> float:
        """Return the CPU seconds of a unit that is kept in microseconds."""
        if UNITS[key].unit != "µs":
            raise KeyError(f"{key} is no time")
        return self.values[key] / 1e6


def load(path: Path = FILE) -> Measured:
    """Read the figures; raise Unmeasured where one is missing or is no figure."""
    try:
        said = json.loads(path.read_text())
        units = said["units"]
        lacking = sorted(UNITS.keys() - units.keys())
        unknown = sorted(units.keys() - UNITS.keys())
        if lacking or unknown:
            raise Unmeasured(f"{path.name} lacks {lacking} and has unknown {unknown}: measure again")
        for key, each in units.items():
            if each["unit"] != UNITS[key].unit or not 0 <= each["low"] <= each["value"] <= each["high"]:
                raise Unmeasured(f"{path.name}: {key} is {each}")
        return Measured(
            machine=said["machine"],
            mode=said["mode"],
            rounds=int(said["rounds"]),
            # What is none in the median is noise, not free: it costs what it did at the most.
            values={key: float(units[key]["value"] or units[key]["high"]) for key in UNITS},
            spread={key: (float(units[key]["low"]), float(units[key]["high"])) for key in UNITS},
            curves={
                part: {what: [(x, y) for x, y in points] for what, points in curves.items()}
                for part, curves in said["curves"].items()
            },
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise Unmeasured(f"{path.name}: {type(error).__name__}: {error}") from error


def of_reports(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is kept of reports of the scenario: medians of all rounds, and how far they were apart."""
    rounds: dict[tuple[str, str, str, float | None], list[float]] = defaultdict(list)
    for each in (figure for report in reports for figure in report["figures"]):
        if each["scenario"] == SCENARIO:
            rounds[each["subject"], each["quantity"], each["unit"], each["at"]].append(each["value"])
    units: dict[str, Any] = {}
    curves: dict[str, dict[str, list[Point]]] = {}
    for (part, what, unit, at), found in rounds.items():
        value = _short(median(found))
        if key := KEYS.get((part, what)):
            units[key] = {"value": value, "unit": unit, "low": _short(min(found)), "high": _short(max(found))}
        elif at is not None:
            curves.setdefault(part, {}).setdefault(f"{what} [{unit}]", []).append((at, value))
    lacking = sorted(UNITS.keys() - units.keys())
    if lacking:
        raise Unmeasured(f"the report lacks {lacking}")
    if len({(report["machine"], report["mode"]) for report in reports}) > 1:
        raise Unmeasured("the reports are of different machines, or of different modes")
    report = reports[0]
    # The report's own Python: who writes this down may have another.
    said = re.fullmatch(r"(.+), Linux .+, (Python [\w.+]+)", report["machine"])
    if said is None:
        raise Unmeasured(f"the report does not say on what it was measured: {report['machine']}")
    return {
        "machine": f"{said[1]}, {said[2]}",
        "mode": report["mode"],
        "rounds": sum(report["rounds"] for report in reports),
        "units": {key: units[key] for key in UNITS},
        "curves": curves,
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")

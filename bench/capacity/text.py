"""The calculator's answer: as tables for people, and the same for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.capacity.load import Load
from bench.capacity.measured import Measured
from bench.capacity.model import (
    MOST_TIMES,
    Bill,
    Plan,
    Step,
    bill,
    logs_needed,
    part_price,
    plan,
    share,
    steps,
)
from bench.numbers import shown

NEAR = 1e3  # times the load: further off nobody needs to know exactly


@dataclass(frozen=True, slots=True)
class Answer:
    """What a load takes: of how many logs each is as the plan, and when one log would be full."""

    load: Load
    logs: int
    enough: bool  # of logs
    plan: Plan
    bill: Bill
    steps: Sequence[Step]

    @classmethod
    def of(cls, load: Load, measured: Measured, *, logs: int | None = None) -> "Answer":
        """Reckon; on as few logs as will do, or on so many."""
        needed = logs or logs_needed(load, measured)
        number = needed or 1
        each = plan(share(load, number), measured)
        return cls(load, number, each.fits, each, bill(load, each, number), steps(load, measured))

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs."""
        parts = [
            {
                "part": each.name,
                "number": self.logs * each.number,
                "cores_used": _round(self.logs * each.used),
                "cores": _round(self.logs * each.cores),
                "memory_gb": _round(self.logs * each.memory_gb),
                "price": _round(self.logs * part_price(self.load, each)),
            }
            for each in self.plan.parts
        ]
        return {
            "load": asdict(self.load) | {"opens": self.load.opened, "deliveries": self.load.deliveries},
            "logs": self.logs,
            "fits": self.enough,
            "parts": parts,
            "limits": [
                {"name": each.name, "used": _round(each.used), "add": each.add} for each in self.plan.limits
            ],
            "disk_gb": _round(self.logs * self.plan.disk_gb),
            "egress_gb": _round(self.logs * self.plan.egress_gb),
            "inside_mb_a_second": _round(self.logs * self.plan.inside_mb),
            "wal_mb_a_second": _round(self.logs * self.plan.wal_mb),
            "price": {name: _round(value) for name, value in asdict(self.bill).items()}
            | {"total": _round(self.bill.total)},
            "full": [
                {"times": _round(each.factor), "name": each.name, "add": each.add} for each in self.steps
            ],
        }

    def table(self) -> str:
        """Return all of it for people."""
        return "\n".join([*self._head(), "", *self._parts(), "", *self._limits(), "", *self._steps()])

    def _head(self) -> list[str]:
        load = self.load
        lines = [
            f"{shown(load.connections)} streams, {shown(load.opened)} opened a second; {shown(load.events)}"
            f" events a second for {shown(load.audience)} readers each:"
            f" {shown(load.deliveries)} deliveries a second.",
        ]
        if not self.enough:
            lines.append(f"This does not fit on {self.logs} log(s): see what is above 100 %.")
        return lines

    def _parts(self) -> list[str]:
        rows = [["part", "number", "cores used", "cores", "memory", "a month"]]
        logs, load = self.logs, self.load
        rows += [
            [
                each.name,
                shown(logs * each.number),
                _tenths(logs * each.used),
                _tenths(logs * each.cores),
                f"{_tenths(logs * each.memory_gb)} GB",
                f"$ {logs * part_price(load, each):,.0f}",
            ]
            for each in self.plan.parts
        ]
        rows.append(["disk", "", "", "", f"{logs * self.plan.disk_gb:,.0f} GB", f"$ {self.bill.disk:,.0f}"])
        rows.append(
            ["traffic out", "", "", "", f"{logs * self.plan.egress_gb:,.0f} GB", f"$ {self.bill.egress:,.0f}"]
        )
        cores = sum(logs * each.cores for each in self.plan.parts)
        memory = sum(logs * each.memory_gb for each in self.plan.parts)
        total = f"$ {self.bill.total:,.0f}"
        rows.append([f"all, {logs} log(s)", "", "", _tenths(cores), f"{_tenths(memory)} GB", total])
        inside, wal = _tenths(logs * self.plan.inside_mb), _tenths(logs * self.plan.wal_mb)
        said = f"Valkey sends {inside} MB a second to the web processes; PostgreSQL logs {wal} MB a second."
        return [*_columns(rows), said]

    def _limits(self) -> list[str]:
        rows = [["of each log is used", ""]]
        rows += [[each.name, f"{100 * each.used:,.0f} %"] for each in self.plan.limits]
        return _columns(rows)

    def _steps(self) -> list[str]:
        rows = [["one log is full at", "streams", "events/s", "by", "then add"]]
        for each in self.steps:
            if each.factor >= min(NEAR, MOST_TIMES):
                rows.append([f"> {NEAR:,.0f} ×", "", "", each.name, each.add])
                continue
            if not each.factor:
                rows.append(["at any load", "", "", each.name, each.add])
                continue
            there = self.load.times(each.factor)
            near = [
                f"{shown(three(each.factor))} ×",
                shown(three(there.connections)),
                shown(three(there.events)),
            ]
            rows.append([*near, each.name, each.add])
        return _columns(rows)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: numbers to the right, words to the left."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    cells_of = [[row[n] for row in rows[1:] if row[n]] for n in range(len(rows[0]))]
    left = [bool(cells) and all(cell[0].isalpha() for cell in cells) for cells in cells_of]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if words else cell.rjust(width)
            for cell, width, words in zip(row, widths, left, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _tenths(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def three(value: float) -> float:
    """Return a number of three digits that mean something."""
    return float(f"{value:.3g}")


def _round(value: float) -> float:
    return float(f"{value:.6g}")

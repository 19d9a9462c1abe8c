"""The report: tables for people (Markdown), the same for programs (JSON), and where the plots are."""

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.context import Scenario
from bench.figures import Aim, Figure, Outcome, compare, medians
from bench.numbers import shown
from bench.plots import Plot, draw


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a run found out."""

    mode: str
    rounds: int
    scenarios: Mapping[str, Scenario]
    figures: Sequence[Figure]
    remarks: Sequence[str]

    @property
    def aims(self) -> list[Aim]:
        """Return the aims of the scenarios that ran."""
        return [aim for scenario in self.scenarios.values() for aim in scenario.AIMS]


def write(run: Run, folder: Path) -> None:
    """Write report.md, report.json and the plots into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot, svg in drawn(run):
        (folder / f"{plot.name}.svg").write_text(svg)
    (folder / "report.md").write_text(markdown(run))
    (folder / "report.json").write_text(json.dumps(as_json(run), indent=1, ensure_ascii=False) + "\n")


def drawn(run: Run) -> Iterator[tuple[Plot, str]]:
    """Yield the plots that there are figures for."""
    found = medians(run.figures)
    for name, scenario in run.scenarios.items():
        for plot in scenario.PLOTS:
            lines: dict[str, list[tuple[float, float]]] = {}
            unit = ""
            for each in found:
                if each.scenario == name and each.quantity == plot.quantity and each.at is not None:
                    lines.setdefault(each.subject, []).append((each.at, each.value))
                    unit = each.unit
            if lines:
                yield plot, draw(plot, lines, unit)


def machine() -> str:
    """Return what this was measured on."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        models = [
            line.partition(":")[2].strip() for line in text.split("\n") if line.startswith("model name")
        ]
    except OSError:
        models = []
    model = f"{len(models)} × {models[0]}" if models else platform.machine()
    return f"{model}, Linux {platform.release()}, Python {platform.python_version()}"


def as_json(run: Run) -> dict[str, Any]:
    """Return all of it for programs: every round's figures, and the aims with what became of them."""
    return {
        "mode": run.mode,
        "rounds": run.rounds,
        "machine": machine(),
        "remarks": list(run.remarks),
        "aims": [
            {**asdict(each.aim), "unit": each.unit, "wanted": each.wanted, "reached": each.reached}
            | {"ratio": each.ratio, "met": each.met}
            for each in compare(run.aims, run.figures)
        ],
        "figures": [asdict(each) for each in run.figures],
    }


def markdown(run: Run) -> str:
    """Return all of it for people."""
    lines = ["# What was measured", "", f"{run.mode}, {run.rounds} round(s), medians. {machine()}.", ""]
    lines += [f"- {remark}" for remark in run.remarks]
    lines += ["", "## Aims", "", *aims_table(compare(run.aims, run.figures)), ""]
    plots = [plot for plot, _ in drawn(run)]
    for name, scenario in run.scenarios.items():
        drawn_only = {plot.quantity for plot in scenario.PLOTS if not plot.in_table}
        figures = [
            each
            for each in medians(run.figures)
            if each.scenario == name and not (each.quantity in drawn_only and each.at is not None)
        ]
        lines += [f"## {scenario.TITLE}", "", _about(scenario), ""]
        lines += [*figures_table(figures), ""]
        lines += [f"![{plot.title}]({plot.name}.svg)\n" for plot in scenario.PLOTS if plot in plots]
    return "\n".join(lines).rstrip() + "\n"


def aims_table(outcomes: Iterable[Outcome]) -> list[str]:
    """Return a row for each aim: aim, reached, ratio, met or not."""
    lines = ["| | subject | aim | that is | reached | ratio | |", "|---|---|---|---|---|---|---|"]
    verdicts = {True: "met", False: "**not met**", None: "not measured"}
    for each in outcomes:
        aim = each.aim
        what = aim.quantity if aim.at is None else f"{aim.quantity} at {shown(aim.at)}"
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        row = [f"{aim.scenario}: {what}", aim.subject, aim.text, _with(each.wanted, each.unit)]
        lines.append(_row([*row, _with(each.reached, each.unit), ratio, verdicts[each.met]]))
    return lines


def figures_table(figures: Sequence[Figure]) -> list[str]:
    """Return a table of one scenario's figures: a row for each quantity, a column for each subject."""
    subjects = list(dict.fromkeys(each.subject for each in figures))
    cells = {(each.quantity, each.unit, each.at, each.subject): each.value for each in figures}
    keys = list(dict.fromkeys((each.quantity, each.unit, each.at) for each in figures))
    order = list(dict.fromkeys(quantity for quantity, _, _ in keys))
    keys.sort(key=lambda key: (order.index(key[0]), key[2] or 0))  # a quantity's rows stand together
    lines = [_row(["", "unit", *subjects]), "|---|---|" + "---:|" * len(subjects)]
    for quantity, unit, at in keys:
        name = quantity if at is None else f"{quantity} at {shown(at)}"
        values = [cells.get((quantity, unit, at, subject)) for subject in subjects]
        lines.append(_row([name, unit, *("" if value is None else shown(value) for value in values)]))
    return lines


def _with(value: float | None, unit: str) -> str:
    return "" if value is None else f"{shown(value)} {unit}".strip()


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _about(scenario: Scenario) -> str:
    return " ".join((scenario.__doc__ or "").split())

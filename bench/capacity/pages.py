"""What docs/capacity.md and its pictures take from the figures: written by the command, held by a test."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from bench.capacity.load import Load
from bench.capacity.measured import Measured, Point
from bench.capacity.model import ALONE, logs_needed, plan, reading, share
from bench.capacity.text import Answer, three
from bench.numbers import shown
from bench.plots import Plot, draw
from bench.publishing import TICK_SECONDS
from bench.scaling.fleet import BUSY, RATE
from bench.scaling.hubs import DELIVERIES, DELIVERIES_CPU, MANY
from bench.scaling.units import UNITS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "capacity.md"

EXAMPLES = {
    "ten thousand": "--connections 10000 --events 100 --audience 20",
    "a hundred thousand": "--connections 100000 --events 1000 --audience 50",
    "a million": "--connections 1000000 --events 2000 --audience 50",
    "a million by token": "--connections 1000000 --events 2000 --audience 50 --sessions 0",
    "a storm": "--connections 1000000 --events 2000 --audience 50 --opens 5000 --replay 1",
}
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
BLOCK = re.compile(r"(<!-- begin (?P<name>[\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write(measured: Measured) -> list[Path]:
    """Write the page's parts and the pictures; return what was written."""
    written = {PAGE: page(PAGE.read_text(), measured), **pictures(measured)}
    for path, content in written.items():
        path.write_text(content)
    return list(written)


def page(text: str, measured: Measured) -> str:
    """Return the page with every part that the figures make."""

    def block(found: re.Match[str]) -> str:
        lines = "\n".join(_block(found["name"], measured))
        return f"{found[1]}{lines}\n{found[3]}"

    return BLOCK.sub(block, text)


def _block(name: str, measured: Measured) -> Iterator[str]:
    if name == "machine":
        yield f"{measured.machine}; {measured.mode}, {measured.rounds} round(s)."
    elif name == "summary":
        yield from _summary(measured)
    elif name == "units":
        yield from _units(measured)
    elif name == "full":
        yield from _full(measured)
    elif name == "fleets":
        yield from _fleets(measured)
    elif name == "check":
        yield from _check(measured)
    else:
        asked = EXAMPLES[name.removeprefix("example ")]
        yield "```"
        yield f"$ python -m bench.capacity {asked}"
        yield Answer.of(_load(asked), measured).table()
        yield "```"


def _load(asked: str) -> Load:
    words = shlex.split(asked)
    return Load(**{
        name.removeprefix("--").replace("-", "_"): float(value)
        for name, value in zip(words[::2], words[1::2], strict=True)
    })  # fmt: skip


def _summary(measured: Measured) -> Iterator[str]:
    yield "| streams | events/s | to readers each | cores | memory | a month | traffic | full next, at |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---|"
    for asked in list(EXAMPLES.values())[:3]:
        load = _load(asked)
        answer = Answer.of(load, measured)
        parts = answer.plan.parts
        cores, memory = (
            answer.logs * sum(getattr(each, of) for each in parts) for of in ("cores", "memory_gb")
        )
        # Of what adding web processes does not move.
        after = next(each for each in answer.steps if each.name != ALONE)
        full = f"{after.name}: {shown(three(after.factor))} times that"
        yield (
            f"| {shown(load.connections)} | {shown(load.events)} | {shown(load.audience)} | {shown(cores)} |"
            f" {shown(memory)} GB | $ {answer.bill.total:,.0f} | $ {answer.bill.egress:,.0f} | {full} |"
        )


def _units(measured: Measured) -> Iterator[str]:
    yield "| name | whose | of what | reckoned with | rounds from – to | how |"
    yield "|---|---|---|---:|---|---|"
    for key, each in UNITS.items():
        low, high = measured.spread[key]
        apart = f"{_value(low, each.unit)} – {_value(high, each.unit)}" if measured.rounds > 1 else "one"
        value = _value(measured.values[key], each.unit)
        yield f"| `{key}` | {each.part} | {each.what} | {value} | {apart} | {each.how} |"


def _value(value: float, unit: str) -> str:
    if unit == "bytes" and value >= 1e5:
        return f"{shown(value / 1e6)} MB"
    return f"{shown(value)} {unit}".replace("1/s", "a second")


def _full(measured: Measured) -> Iterator[str]:
    yield "| part | | at | | of a core | a whole core |"
    yield "|---|---|---:|---:|---:|---:|"
    for part, curves in measured.curves.items():
        for (named, points), (_, shares) in _driven(curves):
            what = named.removesuffix(RATES)
            for (at, rate), (_, used) in zip(points, shares, strict=True):
                whole = shown(three(100 * rate / used))
                yield f"| {part} | {what} | {shown(at)} | {shown(rate)} | {used:.0f} % | {whole} |"


def _fleets(measured: Measured) -> Iterator[str]:
    yield "| | 1 worker | 2 | 4 |"
    yield "|---|---:|---:|---:|"
    for named, points in measured.curves["worker"].items():
        what, _, unit = named.removesuffix("]").rpartition(" [")
        if what.endswith(", by workers"):
            values = " | ".join(_value(value, unit) for _, value in points)
            yield f"| {what.removesuffix(', by workers')} | {values} |"


RATES, SHARES = " [1/s]", " [% of a core]"
Curve = tuple[str, Sequence[Point]]


def _driven(curves: Mapping[str, Sequence[Point]]) -> Iterator[tuple[Curve, Curve]]:
    """Yield rates, each with the shares of a core that they took, which were measured next."""
    for rates, shares in pairwise(curves.items()):
        if rates[0].endswith(RATES) and shares[0].endswith(SHARES):
            yield rates, shares


def _check(measured: Measured) -> Iterator[str]:
    """Hold the formulas against what they were not made of, and say how far they are off, both ways."""
    yield "| | part | measured | by formula | off |"
    yield "|---|---|---:|---:|---:|"
    off = []
    for what, part, value, reckoned in _checked(measured):
        off.append(round(100 * (reckoned / value - 1)))
        yield f"| {what} | {part} | {value:.3f} cores | {reckoned:.3f} cores | {off[-1]:+d} % |"
    yield ""
    yield f"So the formulas are off by {min(off):+d} % to {max(off):+d} %: too little is what a minus says."


def _checked(measured: Measured) -> Iterator[tuple[str, str, float, float]]:
    """Yield what was measured and what the formulas say: the whole way, and deliveries to many."""
    names = {
        "web process": "web processes",
        "worker": "workers",
        "Valkey": "Valkey",
        "PostgreSQL": "PostgreSQL",
    }
    for part, name in names.items():
        for at, value in measured.curves[part][f"CPU at {BUSY} [cores]"]:
            # So many processes as there were: each stream would have one to itself.
            asked = Load(
                connections=at, events=RATE, audience=0, streams=1, opens=0, per_transaction=RATE / 250
            )
            fleet = f"{shown(at)} web process{'es' if at > 1 else ''}"
            yield fleet, part, value, plan(asked, measured).part(name).used
    # The first rate is the one that came in time; above it, events wait and are joined. They were handed
    # over in a message each tick, and each to its one reader.
    [(at, rate), *_] = measured.curves["web process"][f"{DELIVERIES}{RATES}"]
    [(_, used), *_] = measured.curves["web process"][f"{DELIVERIES_CPU}{SHARES}"]
    asked = Load(connections=len(MANY), events=rate, audience=1, opens=0)
    ticked = replace(measured, values={**measured.values, "worker.turns": 1 / TICK_SECONDS})
    web = plan(asked, ticked).part("web processes")
    # Of one process: what a second one would read besides is not in it.
    reckoned = web.used - (web.number - 1) * reading(asked, ticked)
    yield f"{shown(at)} deliveries/s to {shown(len(MANY))} readers", "web process", used / 100, reckoned


def pictures(measured: Measured) -> dict[Path, str]:
    """Return the pictures: cores over streams, and what Valkey does where it is full."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for size in SIZES:
        asked = Load(connections=size, events=size / 100, audience=50)
        logs = logs_needed(asked, measured)
        if logs is None:
            continue
        for each in plan(share(asked, logs), measured).parts:
            lines.setdefault(each.name, []).append((size, logs * each.cores))
    cores = Plot("cores", "Cores to have, where a hundred streams bring an event a second", "capacity",
                 "cores", "open streams", log_x=True, log_y=True)  # fmt: skip
    full = Plot("full", "What one core of Valkey hands to that many web processes", "capacity",
                "events a second", "web processes", log_x=True, log_y=True)  # fmt: skip
    (_, rates), (_, shares) = next(_driven(measured.curves["Valkey"]))
    hubs = {"Valkey": [(at, 100 * rate / used) for (at, rate), (_, used) in zip(rates, shares, strict=True)]}
    folder = PAGE.parent
    return {
        folder / "capacity-cores.svg": draw(cores, lines, "cores"),
        folder / "capacity-valkey.svg": draw(full, hubs, "events/s"),
    }

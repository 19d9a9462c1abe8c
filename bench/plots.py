"""Plots as SVG, written by hand: axes, ticks, a line for each subject, its name at the side.

They are read on white and on dark pages, by a style that asks which it is, and aloud, by title and
description; subjects differ by the form of their points too, not by colour alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.figures import SUBJECTS
from bench.numbers import shown

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 78, 190, 64, 58  # around the field; the names stand at the right
LINE = 20  # between two names, at the least

# Okabe and Ito's, which most people with a colour vision deficiency can tell apart; then for dark pages.
COLOURS = (("#0072b2", "#56b4e9"), ("#d55e00", "#e69f00"), ("#007a5a", "#2cc295"), ("#a3478a", "#e39bcb"))

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.small { font-size: 12px; fill: #59636e; }
.grid { stroke: #d1d9e0; stroke-width: 1; }
.axis { stroke: #59636e; stroke-width: 1; }
.line { fill: none; stroke-width: 2; }
.leader { stroke-width: 1; stroke-dasharray: 2 4; fill: none; }
.back { fill: #ffffff; }
"""
DARK = """
text { fill: #f0f6fc; } .small { fill: #9198a1; } .grid { stroke: #30363d; } .axis { stroke: #9198a1; }
.back { fill: #0d1117; }
"""


@dataclass(frozen=True, slots=True)
class Plot:
    """What to draw: a quantity of a scenario over its `at`, a line for each subject."""

    name: str  # of the file
    title: str
    scenario: str
    quantity: str
    x: str  # what `at` is, with its unit
    log_x: bool = False
    log_y: bool = False
    in_table: bool = True  # whether its points are in the report's table, too


@dataclass(frozen=True, slots=True)
class Axis:
    """Values along a length of the picture, from one end to the other."""

    low: float
    high: float
    begin: float
    end: float
    log: bool

    def place(self, value: float) -> float:
        """Return where a value is."""
        low, high, value = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        return self.begin + (self.end - self.begin) * ((value - low) / (high - low) if high > low else 0.5)

    @classmethod
    def over(cls, values: Sequence[float], begin: float, end: float, *, log: bool) -> "Axis":
        """Make an axis that holds all values; a linear one begins at 0."""
        if log:
            positive = [value for value in values if value > 0] or [1.0]
            low, high = (
                10.0 ** math.floor(math.log10(min(positive))),
                10.0 ** math.ceil(math.log10(max(positive))),
            )
            return cls(low, high if high > low else low * 10, begin, end, True)
        top = max([*values, 0.0]) or 1.0
        step = _step(top)
        return cls(0.0, math.ceil(top / step - 1e-9) * step, begin, end, False)

    @property
    def ticks(self) -> list[float]:
        """Return the values to be named."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = _step(self.high)
        return [number * step for number in range(int(self.high / step + 1e-9) + 1)]


def _step(top: float) -> float:
    """Return a round distance of four to eight ticks up to a value."""
    size = 10.0 ** math.floor(math.log10(top / 4))
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if top / (size * factor) <= 6)


def draw(plot: Plot, lines: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> str:
    """Return the SVG of some lines, each of points (`at`, value)."""
    kept = {
        name: sorted((x, y) for x, y in points if (x > 0 or not plot.log_x) and (y > 0 or not plot.log_y))
        for name, points in lines.items()
    }
    kept = {name: points for name, points in kept.items() if points}
    every = [point for points in kept.values() for point in points]
    across = Axis.over([x for x, _ in every], LEFT, WIDTH - RIGHT, log=plot.log_x)
    up = Axis.over([y for _, y in every], HEIGHT - BOTTOM, TOP, log=plot.log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(plot.title)}</title>',
        f'<desc id="desc">{escape(_described(plot, kept, unit))}</desc>',
        f"<style>{STYLE}{_colours(0)}@media (prefers-color-scheme: dark) {{{DARK}{_colours(1)}}}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT - 58}" y="24">{escape(plot.title)}</text>',
        *_axes(plot, across, up, unit),
        *_lines(kept, across, up),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _described(plot: Plot, lines: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> str:
    said = [
        f"{name}: {', '.join(f'{shown(y)} {unit} at {shown(x)}' for x, y in points)}"
        for name, points in lines.items()
    ]
    return f"{plot.quantity} over {plot.x}. {'. '.join(said)}."


def _colours(which: int) -> str:
    return "".join(
        f".s{number} {{ stroke: {pair[which]}; fill: {pair[which]}; }}" for number, pair in enumerate(COLOURS)
    )


def _axes(plot: Plot, across: Axis, up: Axis, unit: str) -> list[str]:
    parts = []
    for value in up.ticks:
        y = up.place(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="small" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{shown(value)}</text>'
        )
    foot = HEIGHT - BOTTOM + 20
    for value in across.ticks:
        x = across.place(value)
        parts.append(f'<path class="axis" d="M{x:.1f} {HEIGHT - BOTTOM}v5"/>')
        parts.append(f'<text class="small" x="{x:.1f}" y="{foot}" text-anchor="middle">{shown(value)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="small" x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">{escape(plot.x)}</text>'
    )
    parts.append(f'<text class="small" x="{LEFT - 58}" y="{TOP - 16}">{escape(unit)}</text>')
    return parts


def _lines(lines: Mapping[str, Sequence[tuple[float, float]]], across: Axis, up: Axis) -> list[str]:
    placed = {name: [(across.place(x), up.place(y)) for x, y in points] for name, points in lines.items()}
    names = _apart({name: points[-1][1] for name, points in placed.items()})
    parts = []
    others = [name for name in placed if name not in SUBJECTS]
    for name, points in placed.items():
        number = SUBJECTS.index(name) if name in SUBJECTS else others.index(name)
        style = f"s{number % len(COLOURS)}"
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="{style} line" style="fill:none" d="M{path}"/>')
        parts += [_point(number, style, x, y) for x, y in points]
        (x, y), side, level = points[-1], WIDTH - RIGHT + 24, names[name]
        parts.append(
            f'<path class="{style} leader" style="fill:none"'
            f' d="M{x + 6:.1f} {y:.1f}L{side - 14} {level:.1f}"/>'
        )
        parts.append(_point(number, style, side - 6, level))
        parts.append(f'<text x="{side + 4}" y="{level + 4:.1f}">{escape(name)}</text>')
    return parts


def _apart(wanted: Mapping[str, float]) -> dict[str, float]:
    """Return levels for names near those wanted, and so far apart that they can be read."""
    levels: dict[str, float] = {}
    lowest: float = TOP - LINE
    for name, level in sorted(wanted.items(), key=lambda each: each[1]):
        lowest = levels[name] = max(level, lowest + LINE)
    over = lowest - (HEIGHT - BOTTOM)
    return {name: level - max(0.0, over) for name, level in levels.items()} if over > 0 else levels


def _point(number: int, style: str, x: float, y: float) -> str:
    forms = (
        f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z",
        f"M{x:.1f} {y - 5:.1f}l5 9h-10z",
        f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
    )
    return f'<path class="{style}" d="{forms[number % len(forms)]}"/>'

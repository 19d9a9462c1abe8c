"""Plots as SVG, written by hand."""

from dataclasses import dataclass


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


def draw(plot: Plot, lines: dict[str, list[tuple[float, float]]], unit: str) -> str:
    """Return the SVG."""
    return ""

"""The table that a run ends with."""

import dataclasses
import json
from typing import Any

from tests.chaos.ledger import WRONGS
from tests.chaos.run import Result


def lines(result: Result) -> list[str]:
    """Return the table as lines of plain text."""
    found = [f"{'fault':36}{'times':>8}{'slowest recovery':>18}"]
    for kind in sorted(result.faults):
        slowest = result.slowest.get(kind)
        shown = "never" if slowest is None else f"{slowest:.1f} s"
        found.append(f"{kind:36}{result.faults[kind]:8,}{shown:>18}")
    found.append("")
    who = ", ".join(f"{number} {name}" for name, number in result.subscribers.items())
    rows: list[tuple[str, Any]] = [
        ("faults", sum(result.faults.values())),
        (f"subscribers ({who})", sum(result.subscribers.values())),
        ("connections", result.connections),
        *((f"  streams ended by us: {reason}", result.ends[reason]) for reason in sorted(result.ends)),
        ("events", result.events),
        ("  acknowledged appends", result.acknowledged),
        ("  appends of unknown outcome", result.unknown),
        ("  notifications, by the workers' reactions", result.notifications),
        ("  rows of read models, each as the log makes it", result.rows),
        ("deliveries", result.deliveries),
    ]
    rows += [(what, result.verdict.counts[what]) for what in WRONGS]
    found += [f"{name:50}{number:>12,}" for name, number in rows]
    for name, number in sorted(result.fell.items()):
        found.append(f"{name} ended {number} times without being told to")
    for kind, number in sorted(result.missed.items()):
        found.append(f"{number} times not done, for want of someone to do it to: {kind}")
    return found


def blames(result: Result) -> list[str]:
    """Return what is wrong, in words."""
    return [f"{what}: {words}" for what in WRONGS for words in result.verdict.words.get(what, ())]


def as_json(result: Result) -> str:
    """Return all of it for a program."""
    found = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    del found["verdict"]
    found["wrong"] = {what: result.verdict.counts[what] for what in WRONGS}
    found["blames"] = blames(result)
    return json.dumps(found, indent=2)

"""Client programs: other people's SSE clients and a lean one of ours, told what to do by lines.

A program reads one JSON object, `{"clients": [{"name", "base", "path", "cookie", "habit", "seed",
"watchdog"}, …]}`, then the lines `settle` (everyone steady from now on) and `stop`. It prints what
its clients meet as lines of JSON: `connect`, `frame`, `cut`, `gaveup`, in the order of the client
library and with all its repetitions, if there are any.
"""

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """A client program: how to run it, and how many clients it should carry."""

    name: str
    command: tuple[str, ...]
    share: int | None  # None: all the others


def available() -> list[Program]:
    """Return the programs that can be run here."""
    return [Program("lean", _python("lean"), None)]


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"tests.chaos.clients.{module}")

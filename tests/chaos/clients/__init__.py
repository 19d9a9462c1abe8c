"""Client programs: other people's SSE clients and a lean one of ours, told what to do by lines.

A program reads one JSON object, `{"clients": [{"name", "base", "path", "cookie", "habit", "seed",
"watchdog"}, …]}`, then the lines `settle` (everyone steady from now on) and `stop`. It prints what
its clients meet as lines of JSON: `connect`, `frame`, `cut`, `gaveup`, in the order of the client
library and with all its repetitions, if there are any.
"""

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import npm
from tests.browser import chromium

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Program:
    """A client program: how to run it, and how many clients it should carry."""

    name: str
    command: tuple[str, ...]
    share: int | None  # None: all the others


ALL = ("lean", "httpx", "npm", "chromium")


@functools.cache
def available() -> tuple[Program, ...]:
    """Return the programs that can be run here; say of each that cannot what it lacks."""
    return tuple(_found())


def _found() -> Iterator[Program]:
    yield Program("lean", _python("lean"), None)
    yield Program("httpx", _python("httpx_client"), 6)
    if npm.packages() is None:
        _left_out("npm's eventsource", f"what `npm ci` says above, or {npm.HOW_TO_GET_IT}")
    else:
        yield Program("npm", ("node", str(HERE / "eventsource.mjs")), 5)
    if chromium.executable() is None:
        _left_out("Chromium's EventSource", "a Chromium, on Debian: apt-get install chromium")
    else:
        yield Program("chromium", _python("chromium"), 4)  # of 6 connections to a host


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"tests.chaos.clients.{module}")


def _left_out(what: str, lacks: str) -> None:
    sys.stderr.write(f"chaos: {what} is left out, for want of {lacks}.\n")

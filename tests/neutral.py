"""What the README says of neutral clients, cell by cell, and a server whose heart beats fast for them."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.stack import ROOT, Stack

BEAT_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Client:
    """A row: each part as the README words it, but for markup."""

    back: str
    reset: str
    heartbeats: str
    channels: str
    who: frozenset[str]
    cursor: str = "yes"


BY_HAND = "by hand, with Last-Event-ID"
ITSELF = "yes, with Last-Event-ID"
ANEW = "a new connection"
CLIENTS = {
    "curl": Client(BY_HAND, "yes", "shown as they are", ANEW, frozenset({"cookie", "header", "token"})),
    "httpx-sse": Client(
        BY_HAND, "yes", "an empty message with the id", ANEW, frozenset({"cookie", "header", "token"})
    ),
    "eventsource of npm": Client(
        ITSELF, "yes", "not seen", ANEW, frozenset({"cookie", "header", "token"})
    ),
    "EventSource": Client(ITSELF, "yes", "not seen", ANEW, frozenset({"cookie", "token"})),
    "htmx, SSE extension": Client(
        "yes, or anew from the query cursor", "yes, sse:stream.reset", "not seen", ANEW,
        frozenset({"cookie", "token"}),
    ),
    "WebSocket": Client(
        "by hand, with last_event_id", "yes", "an object without event", "add, drop",
        frozenset({"cookie", "header", "token"}),
    ),
    "clients/js": Client(
        "yes", "yes, onReset", "not seen", "subscribe, close", frozenset({"cookie", "header", "token"})
    ),
    "clients/python": Client("yes", "yes, Reset", "not seen", ANEW, frozenset({"cookie", "header"})),
}  # fmt: skip


def table() -> dict[str, Client]:
    """Return the rows of the README's table."""
    part = (ROOT / "README.md").read_text().partition("## Any client")[2].partition("\n## ")[0]
    found = {}
    for line in part.splitlines():
        cells = [re.sub(r"[`\[\]]|\([^)]*\)", "", cell).strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and cells[0] and cells[0] != "client" and not cells[0].startswith("-"):
            name, back, reset, heartbeats, channels, who, cursor, _ = cells
            found[name] = Client(back, reset, heartbeats, channels, frozenset(who.split(", ")), cursor)
    return found


@contextlib.contextmanager
def beating(stack: Stack, name: str) -> Iterator[str]:
    """Give the base URL of a web process that says several times a second that it is there."""
    stack.start(name, STREAMS_HEARTBEAT_SECONDS=str(BEAT_SECONDS))
    try:
        yield stack.url(name)
    finally:
        stack.kill(name)

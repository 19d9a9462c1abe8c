"""Frames: what a stream says, as bytes (WHATWG HTML, 9.2 Server-sent events). Pure.

A frame's data is one line, made by `events.registry.encode`, so nothing in it can begin
a field or an event. An `id:` is a cursor: everything at or below it was written before it.
"""

import json
import random
import re
from collections.abc import Iterable, Mapping
from typing import Any

from events.cursor import Cursor
from events.log import Entry

CONTENT_TYPE = "text/event-stream; charset=utf-8"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
KEEPALIVE = b":\n\n"  # says "still here" without moving the cursor


def event(entry: Entry, epoch: str) -> bytes:
    """Return the frame of a placed event."""
    return f"id: {epoch}-{entry.position}\nevent: {entry.type}\ndata: {entry.data}\n\n".encode()


def transient(name: str, data: str) -> bytes:
    """Return the frame of what is not in the log: without an id, so that no cursor moves."""
    return f"event: {name}\ndata: {data}\n\n".encode()


def control(name: str, payload: Mapping[str, Any], cursor: Cursor | None = None) -> bytes:
    """Return the frame of something the stream says about itself: `stream.<name>`."""
    data = json.dumps(payload, separators=(",", ":"))
    where = f"id: {cursor}\n" if cursor else ""
    return f"{where}event: stream.{name}\ndata: {data}\n\n".encode()


def check_name(event: str) -> str:
    """Return an event's name; raise ValueError for one that could not be told from a field or from ours."""
    if not _NAME.fullmatch(event) or event.startswith("stream."):
        raise ValueError("an event's name has 1 to 64 letters, digits, _ . - and does not begin with stream.")
    return event


def heartbeat(cursor: Cursor) -> bytes:
    """Return a block without data: no client sees an event, but its cursor moves."""
    return f":\nid: {cursor}\n\n".encode()


def opening(mode: str, cursor: Cursor, missed: int | None, retry_seconds: float) -> bytes:
    """Return the first frame of every connection, with the time to wait before the next one."""
    retry = f"retry: {jittered(retry_seconds)}\n".encode()
    return retry + control("open", {"mode": mode, "cursor": str(cursor), "missed": missed}, cursor)


def ending(reason: str, retry_seconds: float) -> bytes:
    """Return the last frame of a stream that we end, and when to come back."""
    return f"retry: {jittered(retry_seconds)}\n".encode() + control("end", {"reason": reason})


def jittered(seconds: float) -> int:
    """Return a wait in milliseconds between half and one and a half of `seconds`.

    A crowd that was cut off together must not come back together.
    """
    return int(seconds * 1000 * random.uniform(0.5, 1.5))  # noqa: S311 (not a secret)


def data_of(frame: bytes) -> bytes:
    """Return the JSON of an event frame's payload."""
    return frame.partition(b"\ndata: ")[2]


def join(frames: Iterable[bytes]) -> bytes:
    """Return frames as one piece: one write costs what one frame would."""
    return b"".join(frames)

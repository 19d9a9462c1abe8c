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
from events.registry import one_line

CONTENT_TYPE = "text/event-stream; charset=utf-8"
_LINE_END = re.compile("\r\n|\n|\r")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
HEAD_BYTES = 80  # of a frame in which its event's name ends: a cursor is shorter than half of it
KEEPALIVE = b":\n\n"  # says "still here" without moving the cursor


def event(entry: Entry, epoch: str) -> bytes:
    """Return the frame of a placed event."""
    return f"id: {epoch}-{entry.position}\nevent: {entry.type}\ndata: {entry.data}\n\n".encode()


def transient(name: str, data: str) -> bytes:
    """Return the frame of what is not in the log: without an id, so that no cursor moves."""
    return f"event: {name}\ndata: {data}\n\n".encode()


def message(data: Any, *, event: str | None = None, last_id: str = "") -> bytes:
    """Return the frame of anything: text as it is, line by line; all else as JSON.

    Raises ValueError for what JSON, or an event's name, has no room for.
    """
    text = data if isinstance(data, str) else dumps(data)
    head = f"id: {last_id}\n" if last_id else ""
    if event is not None:
        head += f"event: {check_name(event)}\n"
    # Each line end begins a `data:` of its own, so nothing in the text can be a field (9.2.6).
    return (head + "".join(f"data: {line}\n" for line in _LINE_END.split(text)) + "\n").encode()


def dumps(data: Any) -> str:
    """Return JSON on one line, also for readers that take every line end of Unicode's for one."""
    try:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return one_line(text)


def split(chunk: bytes) -> list[bytes]:
    """Return the frames that a chunk is made of."""
    return [block + b"\n\n" for block in chunk.split(b"\n\n")[:-1]]


def fields(frame: bytes) -> dict[str, str]:
    """Return the fields of one of our own frames; a comment has none."""
    lines = (line.partition(": ") for line in frame.decode().split("\n"))
    return {name: value for name, colon, value in lines if colon}


def as_json(frame: bytes) -> str:
    """Return one of our own frames as the JSON object that the other ways send.

    It has `id`, `event` and `data`, null where there is none; `retry` where the frame has.
    """
    found = fields(frame)
    last_id, event = json.dumps(found.get("id")), json.dumps(found.get("event"))
    retry = f',"retry":{found["retry"]}' if "retry" in found else ""
    return f'{{"id":{last_id},"event":{event},"data":{found.get("data", "null")}{retry}}}'


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


def chunked(piece: bytes) -> bytes:
    """Return a piece of a body in the chunked coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"

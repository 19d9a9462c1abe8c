"""Events on a terminal: a line each, for people or (`--json`) for programs.

What is shown is what users typed: nothing of it can move a cursor, change a colour or begin a line.
"""

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from itertools import islice
from typing import Any

from django.core.management.base import CommandError
from django.core.management.color import Style
from django.utils import timezone

from events.channels import Channel, is_name
from events.errors import Invalid, TickertapeError
from events.retention import parse_age
from events.search import Found

WRONG_USE = 2  # the exit status of a command that was not understood
INTERRUPTED = 130  # of one that Ctrl-C ended: what shells say of it
_VALUE_MOST = 100  # characters of a value that a person is shown
_PAIRS_MOST = 20  # fields of a payload, likewise
_ESCAPE = "tickertape.escape"  # what a stream does with characters that its encoding has no room for


def as_json(found: Found, *, epoch: str) -> str:
    """Return an event as one line of JSON, its payload's value as sent; `cursor` is what to go on from."""
    about = {
        "cursor": f"{epoch}-{found.position}",
        "position": found.position,
        "id": str(found.id),
        "type": found.type,
        "version": found.version,
        "channels": found.channels,
        "actor_id": None if found.actor_id is None else str(found.actor_id),
        "caused_by": None if found.caused_by is None else str(found.caused_by),
        "time": found.created_at.astimezone(UTC).isoformat(),
    }
    return f'{json.dumps(about)[:-1]}, "data": {_printable(found.data)}}}'


def as_line(found: Found, style: Style) -> str:
    """Return an event for a person, on one line, long values cut."""
    time = timezone.localtime(found.created_at).strftime("%Y-%m-%d %H:%M:%S")
    by = f" by {found.actor_id}" if found.actor_id is not None else ""
    return "  ".join(
        [
            style.HTTP_NOT_MODIFIED(time),
            style.SQL_FIELD(f"{found.position:>8}"),
            style.MIGRATE_LABEL(f"{found.type:<20}"),
            style.SQL_KEYWORD(" ".join(found.channels)) + by,
            _pairs(found.data),
        ]
    )


def _pairs(data: str) -> str:
    try:
        payload = json.loads(data)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        return shown(data)
    pairs = (f"{shown(name)}={shown(_word(value))}" for name, value in islice(payload.items(), _PAIRS_MOST))
    more = [f"… and {len(payload) - _PAIRS_MOST} more"] if len(payload) > _PAIRS_MOST else []
    return " ".join([*pairs, *more])


def _word(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _printable(data: str) -> str:
    """Return JSON with an escape for every character that does not print: the same value."""
    return "".join(each if each.isprintable() else _escape(each) for each in data)


def _escape(text: str) -> str:
    return json.dumps(text)[1:-1]  # above the BMP as two surrogates, as JSON has it


def shown(text: str) -> str:
    """Return what somebody typed as text for a terminal, long ones cut."""
    if len(text) > _VALUE_MOST:
        text = text[:_VALUE_MOST] + "…"
    # An escape sequence needs none of what is printable; nor do marks that turn text around.
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def channel(name: str) -> Channel:
    """Read a channel's name, the log's own included: who has the database may read all of it."""
    if not is_name(name):
        raise CommandError(
            f"channel: {shown(name)!r} is no channel's name: use one such as item:42 or system.",
            returncode=WRONG_USE,
        )
    return Channel(name)


def moment(name: str, text: str | None) -> datetime | None:
    """Read a time: ISO 8601, or how long ago, as in 2h."""
    if text is None:
        return None
    try:
        return timezone.now() - parse_age(text)
    except Invalid:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"--{name} is a time such as 2026-11-21T18:45, or an age such as 2h, not {shown(text)!r}.",
            returncode=WRONG_USE,
        ) from None
    return found if found.tzinfo else timezone.make_aware(found)


def refused(error: TickertapeError, *, fields: Callable[[str], str] = str) -> CommandError:
    """Return an error for a terminal: what is wrong, and each field that is."""
    faults = "".join(f"\n  {fields(fault.field)}: {shown(fault.message)}" for fault in error.errors)
    return CommandError(f"{shown(error.detail)}{faults}")


@contextmanager
def printing() -> Iterator[None]:
    """Print as a tool in a pipe does, whatever the locale.

    Whoever reads may leave when they have seen enough, as `head` does; what the output's encoding has
    no room for is escaped as in JSON; Ctrl-C ends it without a word.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors=_ESCAPE)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except KeyboardInterrupt:
        _drop_output()
        sys.exit(INTERRUPTED)


def _drop_output() -> None:
    """Drop what is not written yet: the interpreter would complain of it at its end, or wait."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _escape(error.object[error.start : error.end]), error.end


codecs.register_error(_ESCAPE, _escaped)

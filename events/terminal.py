"""Events on a terminal: a line each, for people or (`--json`) for programs.

What is shown is what users typed: nothing of it can move a cursor, change a colour or begin a line.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.core.management.color import Style
from django.utils import timezone

from events.channels import Channel, is_name
from events.errors import Invalid, TickertapeError
from events.retention import parse_age
from events.search import Found

WRONG_USE = 2  # the exit status of a command that was not understood
_VALUE_MOST = 100  # characters of a value that a person is shown


def as_json(found: Found, *, epoch: str) -> str:
    """Return an event as one line of JSON, its payload as it was sent; `cursor` is what to go on from."""
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
    return f'{json.dumps(about)[:-1]}, "data": {found.data}}}'


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
        return _shown(data)
    return " ".join(f"{_shown(name)}={_shown(_word(value))}" for name, value in payload.items())


def _word(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _shown(text: str) -> str:
    if len(text) > _VALUE_MOST:
        text = text[:_VALUE_MOST] + "…"
    # An escape sequence needs none of what is printable; nor do marks that turn text around.
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def channel(name: str) -> Channel:
    """Read a channel's name, the log's own included: who has the database may read all of it."""
    if not is_name(name):
        raise CommandError(
            f"channel: {_shown(name)!r} is no channel's name: use one such as item:42 or system.",
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
        # A date of which years from 1 to 9999 make no other in any time zone.
        return (found if found.tzinfo else timezone.make_aware(found)) + timedelta()
    except (ValueError, OverflowError):
        raise CommandError(
            f"--{name} is a time such as 2026-11-21T18:45, or an age such as 2h, not {_shown(text)!r}.",
            returncode=WRONG_USE,
        ) from None


def refused(error: TickertapeError, *, fields: Callable[[str], str] = str) -> CommandError:
    """Return an error for a terminal: what is wrong, and each field that is."""
    faults = "".join(f"\n  {fields(fault.field)}: {_shown(fault.message)}" for fault in error.errors)
    return CommandError(f"{_shown(error.detail)}{faults}")


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """Let whoever reads the output leave when they have seen enough, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Or the interpreter would complain at its end, when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""`manage.py events`: what the log holds of a channel, a type, a time, somebody, or of one cause."""

import re
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError

from events import log, search, terminal
from events.errors import Unavailable
from events.log import EventId
from events.search import LIMIT, MOST, Question

_TYPE = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_MAX_ID = 2**63 - 1


class Command(BaseCommand):
    """Show the newest events that fit, in their order."""

    help = "Show events of the log: the newest that fit, the last one last. Nothing is changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        several: dict[str, Any] = {"action": "append", "default": []}
        parser.add_argument("--channel", **several, metavar="CHANNEL", help="as item:42 (repeat it)")
        parser.add_argument("--type", **several, metavar="TYPE", help="as CommentAdded (repeat it)")
        parser.add_argument("--since", metavar="TIME", help="ISO 8601, or an age such as 2h")
        parser.add_argument("--until", metavar="TIME", help="likewise; what was appended before it")
        parser.add_argument("--actor", metavar="USER", help="who did it: a user's name or id")
        parser.add_argument(
            "--correlation",
            metavar="ID",
            help="an event's id: it, its cause and all that followed; or a UUID in `correlation_id`",
        )
        parser.add_argument("--limit", default=str(LIMIT), metavar="N", help=f"{LIMIT}; {MOST} is the most")
        parser.add_argument("--json", action="store_true", help="a JSON object on each line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the log, and print what it says."""
        try:
            with terminal.printing():
                self._answer(_question(options), as_json=options["json"])
        except Unavailable as error:
            raise CommandError(error.detail) from None
        except (OperationalError, InterfaceError):
            raise CommandError("The database does not answer.") from None

    def _answer(self, question: Question, *, as_json: bool) -> None:
        positions = search.search(question)
        epoch = log.head().epoch
        for each in search.pages(positions):
            self.stdout.write(
                terminal.as_json(each, epoch=epoch) if as_json else terminal.as_line(each, self.style)
            )
        if len(positions) == question.limit:
            self.stderr.write(
                f"-- the newest {question.limit}; there may be more: --limit, or --until a time"
            )


def _question(options: dict[str, Any]) -> Question:
    family, correlation_id = _correlation(options["correlation"])
    return Question(
        channels=[terminal.channel(name) for name in options["channel"]],
        types=[_type(name) for name in options["type"]],
        since=terminal.moment("since", options["since"]),
        until=terminal.moment("until", options["until"]),
        actor_id=_actor(options["actor"]),
        family=family,
        correlation_id=correlation_id,
        limit=_limit(options["limit"]),
    )


def _wrong(said: str) -> CommandError:
    return CommandError(said, returncode=terminal.WRONG_USE)


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MOST:
        raise _wrong(f"--limit is a number from 1 to {MOST}, not {text[:80]!r}.")
    return int(text)


def _type(name: str) -> str:
    if not _TYPE.fullmatch(name):
        raise _wrong(f"--type is an event's name such as CommentAdded, not {name[:80]!r}.")
    return name


def _actor(given: str | None) -> int | None:
    """Return a user's id; the log outlives its users, so a number need not be anybody's today."""
    if given is None:
        return None
    try:
        user = (
            get_user_model()._default_manager.filter(username=given).first() if "\x00" not in given else None
        )
    except UnicodeError:  # an argument that is not UTF-8
        user = None
    if user is not None:
        return int(user.pk)
    if given.isdecimal() and len(given) < 20 and int(given) <= _MAX_ID:
        return int(given)
    raise _wrong(f"--actor is a user's name or id; there is no user {given[:80]!r}.")


def _correlation(given: str | None) -> tuple[EventId | None, str | None]:
    if given is None:
        return None, None
    if given.isdecimal() and len(given) < 20 and int(given) <= _MAX_ID:
        return EventId(int(given)), None
    try:
        return None, str(UUID(given))
    except ValueError:
        raise _wrong(f"--correlation is an event's id or a UUID, not {given[:80]!r}.") from None

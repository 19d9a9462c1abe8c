"""`manage.py publish`: append an event from a terminal or a script, by the rules of `POST /api/events`."""

import json
import sys
from argparse import ArgumentParser
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection, transaction
from pydantic import ValidationError

from events import ingest, log, terminal
from events.cursor import Cursor
from events.errors import TickertapeError

TRIES = 50  # each places as many as one batch has: more means that something is wrong


class Command(BaseCommand):
    """Append one event, checked by the catalogue, and place it."""

    help = (
        "Append an event, as in: publish item:42 OrderShipped '{\"order\": 3}'. `-` reads it from stdin."
        " The status is 0 once it is appended, known where or not."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("channel", help="as item:42")
        parser.add_argument("type", help="as OrderShipped")
        parser.add_argument("data", help="the payload, a JSON object; - reads it from stdin")
        parser.add_argument("--also", action="append", default=[], metavar="CHANNEL", help="another channel")
        parser.add_argument("--id", help="sent again with the same id, it is appended once")
        parser.add_argument("--json", action="store_true", help="print a JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Append it, and say what it is called."""
        try:
            event = ingest.NewEvent.model_validate(
                {
                    "channels": [options["channel"], *options["also"]],
                    "type": options["type"],
                    "data": _payload(options["data"]),
                    "id": options["id"],
                }
            )
            with transaction.atomic():
                key = None if event.id is None else f"publish:{event.id}"
                event_id = ingest.append_event(event, unique_key=key)
        except ValidationError as error:
            faults = (f"  {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise CommandError("\n".join(["Some fields were refused.", *faults])) from None
        except TickertapeError as error:
            raise terminal.refused(error) from None
        except (OperationalError, InterfaceError):
            raise CommandError("The database does not answer; it is not known whether it was done.") from None
        said: dict[str, object]
        if (cursor := _placed(event_id)) is None:
            said = {"id": str(event_id), "position": None, "cursor": None}
            line = f"Event {event_id} was appended; where is not known yet."
        else:
            said = {"id": str(event_id), "position": cursor.position, "cursor": str(cursor)}
            line = f"Event {event_id} is at position {cursor.position}, cursor {cursor}."
        with terminal.printing():
            self.stdout.write(json.dumps(said) if options["json"] else line)


def _payload(given: str) -> Any:
    try:
        text = sys.stdin.buffer.read().decode() if given == "-" else given
        return json.loads(text, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise CommandError("data: is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise CommandError(f"data: is not JSON: {error.msg} at character {error.pos}.") from None
    except (ValueError, RecursionError):
        raise CommandError("data: holds what JSON or its readers have no room for.") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _placed(event_id: log.EventId) -> Cursor | None:
    """Return an event's cursor, if it is to be had; place it where no worker was quicker.

    It is appended whatever happens here, so nothing is an error: a script would append it again.
    """
    try:
        for _ in range(TRIES):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT l.epoch, e.position FROM events_event e, events_logstate l WHERE e.id = %s",
                    [event_id],
                )
                row = cursor.fetchone()
            if row is None:  # sent before, and pruned since
                return None
            if row[1] is not None:
                return Cursor(*row)
            log.place()
    except (OperationalError, InterfaceError):
        pass
    return None

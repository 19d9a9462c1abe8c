"""`manage.py prune_log`: remove what is older than an age from the log, beside the running service."""

import time
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from events import retention
from events.errors import Invalid

BATCH_MOST = 100_000  # a batch is one transaction, and placing waits for it
SAY_SECONDS = 1.0  # between two lines of progress


class Command(BaseCommand):
    """Prune the log."""

    help = (
        "Remove the events that are older than an age, the oldest first, and what else died of age"
        " (idempotency keys, sessions, failed reactions to what is gone). Streams go on; a client whose"
        " place is gone is told so (stream.reset). Can be broken off and started again at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the age, and how to go about it."""
        parser.add_argument("--older-than", metavar="30d", help="s, m, h, d or w; else EVENTS_RETENTION_DAYS")
        parser.add_argument("--batch", default="1000", metavar="N", help="events of one transaction (1000)")
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")

    def handle(self, **options: Any) -> None:
        """Prune, saying how far it is."""
        batch = _batch(options["batch"])
        end = retention.horizon(_age(options["older_than"]))
        if end.held:
            self.stdout.write(f"Events above {end.upto} are kept: reactions have yet to read them.")
        if options["dry_run"]:
            self.stdout.write(f"Would prune {end.count} events, up to position {end.upto}.")
            return
        if end.count:
            self._prune(end, batch)
        else:
            self.stdout.write("No event is that old.")
        for name, count in retention.sweep():
            if count:
                self.stdout.write(f"Removed {count} {name}.")

    def _prune(self, end: retention.Horizon, batch: int) -> None:
        removed, said = 0, time.monotonic()
        for pruned in retention.prune(end.upto, batch=batch):
            removed += pruned.removed
            if time.monotonic() - said > SAY_SECONDS and not pruned.done:
                said = time.monotonic()
                self.stdout.write(f"Pruned {removed} of {end.count} ...")
                self.stdout.flush()
        self.stdout.write(
            f"Pruned {removed} events; position {max(end.upto + 1, end.oldest)} is the oldest now."
        )


def _age(given: str | None) -> timedelta:
    if given is None:
        if not settings.EVENTS_RETENTION_DAYS:
            raise CommandError(
                "Give --older-than, as in 30d: EVENTS_RETENTION_DAYS keeps everything.", returncode=2
            )
        return timedelta(days=settings.EVENTS_RETENTION_DAYS)
    try:
        return retention.parse_age(given)
    except Invalid as refused:
        raise CommandError(
            f"--older-than {refused.errors[0].message}, not {given!r}.", returncode=2
        ) from None


def _batch(given: str) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= BATCH_MOST:
        raise CommandError(f"--batch must be a number from 1 to {BATCH_MOST}, not {given!r}.", returncode=2)
    return int(given)

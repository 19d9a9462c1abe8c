"""`manage.py new_epoch`: after a restore of which nothing is left to notice it by."""

from typing import Any

from django.core.management.base import BaseCommand

from events import log


class Command(BaseCommand):
    """Begin a new epoch of the log."""

    help = (
        "Begin a new epoch of the log: every client is told that continuity is lost (stream.reset) and"
        " loads its state anew. Needed after a data folder was put back while neither a process nor Redis"
        " went on; a fail-over and a restored dump are noticed without it (docs/operations.md)."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Begin it and say which it is."""
        before = log.head()
        epoch = log.new_epoch()
        self.stdout.write(f"Epoch {epoch} begins after position {before.position}; {before.epoch} has ended.")

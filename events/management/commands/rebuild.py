"""`manage.py rebuild`: fold a read model from the log anew, beside the running service."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from events import log, readmodels


class Command(BaseCommand):
    """Rebuild read models."""

    help = (
        "Make the rows of a read model anew from the log, in one transaction; without a name, list what there"
        " is. The service goes on; who writes waits for the last moment of it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the names."""
        parser.add_argument("name", nargs="*", help="which read models; none lists them")

    def handle(self, **options: Any) -> None:
        """Rebuild each and say what it changed; or list them."""
        known = readmodels.registered()
        unknown = sorted(set(options["name"]) - set(known))
        if unknown:
            raise CommandError(
                f"There is no read model {unknown[0]!r}; there is: {', '.join(known)}.", returncode=2
            )
        if not options["name"]:
            for name in known:
                self.stdout.write(name)
        for name in options["name"]:
            began = time.monotonic()
            while log.place().count:
                pass  # what has no position yet would be folded while who writes waits
            rebuilt = readmodels.rebuild(known[name])
            self.stdout.write(
                f"Rebuilt {name} in {time.monotonic() - began:.1f} s: {rebuilt.rows} rows,"
                f" {rebuilt.removed} removed, {rebuilt.added} added."
            )

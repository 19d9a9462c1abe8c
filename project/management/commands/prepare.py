"""`manage.py prepare`: what one start needs of the database, in one process.

Loading Django takes longer than looking whether there is anything to do, so `make run` asks
for all of it at once. Each part done is a line `done: …` of its own.
"""

import time
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from project.management.commands import demo

WAIT_SECONDS = 5  # for a database that is just starting


class Command(BaseCommand):
    """Migrate, and fill the demo."""

    help = "Wait for the database, migrate it where something is new, and in demo mode make the demo data."

    def handle(self, **_options: Any) -> None:
        """Do each part that is due and say so."""
        _wait()
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if plan:
            call_command("migrate", interactive=False, verbosity=0)
        self.stdout.write(
            f"done: database migrated, {len(plan)} new" if plan else "done: database is up to date"
        )
        _forget_workers()
        if settings.MODE == "demo":
            demo.fill()
            self.stdout.write("done: demo data")


def _forget_workers() -> None:
    """Forget when a worker was last seen, or one of the run before makes this one ready before its own."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE events_logstate SET ticked_at = NULL")


def _wait() -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError as error:
            if time.monotonic() > deadline:
                reason = " ".join(str(error).split())
                raise CommandError(f"DATABASE_URL does not answer: {reason}") from None
        time.sleep(0.2)

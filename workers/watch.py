"""The watch: says who keeps a transaction open for long, once, and when that is over."""

import logging

from django.conf import settings

from events import transactions

logger = logging.getLogger(__name__)

SECONDS = 10.0  # between two looks


class Watch:
    """Remembers of whom it spoke."""

    def __init__(self) -> None:
        self._known: set[tuple[int | None, bool]] = set()

    def look(self) -> None:
        """Warn of every transaction that became too old since the last look."""
        found = transactions.longer_than(settings.WORKERS_LONG_TRANSACTION_SECONDS)
        for each in found:
            if (each.pid, each.writes) in self._known:
                continue
            logger.warning(
                "A transaction that writes stays open: placing gets slower until it ends."
                if each.writes
                else "A snapshot is held: what was deleted or replaced since takes space until it ends.",
                extra={
                    "pid": each.pid,
                    "application": each.application_name,
                    "seconds": round(each.seconds),
                },
            )
        if self._known and not found:
            logger.info("No transaction stays open any more.")
        self._known = {(each.pid, each.writes) for each in found}

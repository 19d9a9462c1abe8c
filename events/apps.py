"""The events app."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Wire the events app into Django."""

    name = "events"

    def ready(self) -> None:
        """Enter the topics' event types and channel rules, and listen for changes of access."""
        from events import (  # noqa: F401  (importing them registers)
            access,
            broadcasts,
            checks,
            comments,
            digests,
            items,
            jobs,
            notifications,
            watching,
        )

        access.connect()

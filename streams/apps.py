"""The streams app."""

from django.apps import AppConfig


class StreamsConfig(AppConfig):
    """Wire the streams app into Django."""

    name = "streams"

    def ready(self) -> None:
        """Tell what only the live edge knows, and have what tokens keep be swept up."""
        from events import edge
        from streams import deliveries, presence, tokens  # noqa: F401

        edge.register(connected=presence.connected_users, delivered=deliveries.delivered)

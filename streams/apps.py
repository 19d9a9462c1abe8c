"""The streams app."""

from django.apps import AppConfig


class StreamsConfig(AppConfig):
    """Wire the streams app into Django."""

    name = "streams"

    def ready(self) -> None:
        """Tell what only the live edge knows."""
        from events import edge
        from streams import deliveries, presence

        edge.register(connected=presence.connected_users, delivered=deliveries.delivered)

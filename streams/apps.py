"""The streams app."""

from django.apps import AppConfig
from django.conf import settings


class StreamsConfig(AppConfig):
    """Wire the streams app into Django."""

    name = "streams"

    def ready(self) -> None:
        """Tell what only the live edge knows, and have what tokens keep be swept up.

        Raises ImproperlyConfigured where it is not to be told who may sign tokens.
        """
        from events import edge
        from streams import deliveries, issuers, presence, tokens  # noqa: F401

        edge.register(connected=presence.connected_users, delivered=deliveries.delivered)
        issuers.read(settings.STREAMS_TOKEN_ISSUERS)

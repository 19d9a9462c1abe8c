"""The streams app."""

from django.apps import AppConfig


class StreamsConfig(AppConfig):
    """Wire the streams app into Django."""

    name = "streams"

    def ready(self) -> None:
        """Register what tokens keep, so that it is swept up."""
        from streams import tokens  # noqa: F401

"""The streams app."""

from django.apps import AppConfig


class StreamsConfig(AppConfig):
    """Wire the streams app into Django."""

    name = "streams"

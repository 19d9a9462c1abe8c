"""The events app."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Wire the events app into Django."""

    name = "events"

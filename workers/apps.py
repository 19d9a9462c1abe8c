"""The workers app."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """Wire the workers app into Django."""

    name = "workers"

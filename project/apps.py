"""The project app."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Wire the project app into Django."""

    name = "project"

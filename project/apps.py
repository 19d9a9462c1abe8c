"""The project's own app: the page, the commands, and the Celery app made everyone's default."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Make tasks sent from anywhere go to our broker."""

    name = "project"

    def ready(self) -> None:
        """Make the Celery app the default."""
        import project.celery  # noqa: F401

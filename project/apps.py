"""The project's own app: the page, the commands, and the Celery app made everyone's default."""

from django.apps import AppConfig
from django.conf import settings


class ProjectConfig(AppConfig):
    """Make tasks sent from anywhere go to our broker; offer the demo's jobs where it is one."""

    name = "project"

    def ready(self) -> None:
        """Make the Celery app the default, and enter the jobs."""
        import project.celery  # noqa: F401

        if not settings.PRODUCTION:
            from project import demo_jobs  # noqa: F401  (importing it enters them)

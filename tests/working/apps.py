"""The app."""

from django.apps import AppConfig


class WorkingConfig(AppConfig):
    name = "tests.working"

    def ready(self) -> None:
        from tests.working import jobs  # noqa: F401  (importing it enters them)

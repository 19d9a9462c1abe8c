"""The workers app."""

from typing import Any

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """Listen for what the log says it appended, and put the clock into every worker."""

    name = "workers"

    def ready(self) -> None:
        """Connect the one upward arrow: a hint."""
        from celery import current_app

        from events.log import appended
        from workers import clock, wake

        def hint(**kwargs: Any) -> None:
            wake.waker().wake(wake.PLACE)

        appended.connect(hint, weak=False, dispatch_uid="workers.wake")
        clock.install(current_app)

"""The workers app."""

from typing import Any

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """Listen for what the log says it appended."""

    name = "workers"

    def ready(self) -> None:
        """Connect the one upward arrow: a hint."""
        from events.log import appended
        from workers import inbox, parked, wake  # noqa: F401  (importing them registers what they do)

        def hint(**kwargs: Any) -> None:
            wake.waker().wake(wake.PLACE)

        appended.connect(hint, weak=False, dispatch_uid="workers.wake")

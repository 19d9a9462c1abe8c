"""The app: it echoes each `Called` on `item:2`, and fails with one that is broken until all is mended."""

import time

from django.apps import AppConfig


class ReactingConfig(AppConfig):
    name = "tests.reacting"

    def ready(self) -> None:
        from events.models import Event
        from tests.reacting.events import Called, Echoed
        from workers import reactions

        @reactions.reaction(to=Called)
        def echo(cause: reactions.Cause) -> None:
            called = cause.event
            time.sleep(called.seconds)  # so that tasks of many children meet
            if called.broken and not Event.objects.filter(type="Mended").exists():
                raise ValueError("It is broken.")
            cause.append(Echoed(n=called.n), target="all", channels=["item:2"])

"""The app: it echoes each `Called` of a channel on `item:2`, and fails while it is told to."""

import time

from django.apps import AppConfig


class ReactingConfig(AppConfig):
    name = "tests.reacting"

    def ready(self) -> None:
        from tests.reacting.events import Called, Echoed
        from workers import reactions

        @reactions.reaction(to=Called)
        def echo(cause: reactions.Cause) -> None:
            called = cause.event
            time.sleep(called.seconds)  # so that tasks of many children meet
            cause.append(Echoed(n=called.n), target="all", channels=["item:2"])

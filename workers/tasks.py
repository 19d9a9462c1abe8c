"""The tasks' entry points: each does all the work there is, so it takes nothing and may come twice."""

from collections.abc import Callable

from celery import shared_task
from django.db import InterfaceError, OperationalError, connection

from workers import reactions, sequencer, wake


@shared_task(name=wake.PLACE)  # type: ignore[untyped-decorator]
def place() -> None:
    """Place and publish what was committed; have it reacted to."""
    wake.waker().clear(wake.PLACE)
    if _work(sequencer.run) and reactions.registered():
        wake.waker().wake(wake.REACT)


@shared_task(name=wake.REACT)  # type: ignore[untyped-decorator]
def react() -> None:
    """React to what was placed, and again to what failed and is due."""
    wake.waker().clear(wake.REACT)
    _work(reactions.run)


def _work(work: Callable[[], int]) -> int:
    try:
        return work()
    except (OperationalError, InterfaceError):
        connection.close()  # kept from task to task: the next one must not meet a broken one
        raise

"""The tasks' entry points: each does all the work there is, so it takes nothing and may come twice."""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from events import retention
from workers import digest, jobs, reactions, sequencer, wake

# Of a task that goes on finding work: less than the life of the flag that hides hints, and so little that
# where a worker has one process only, what reacts does not hold up what else there is.
LINGER_SECONDS = 0.1
IDLE_SECONDS = 0.05  # without finding any
PAUSE_SECONDS = 0.004  # between two looks, at least
KEEP_SECONDS = 60.0  # of each run: a child that prunes does nothing else
DIGEST_SECONDS = 60.0  # of each run, as above


@shared_task(name=wake.PLACE)  # type: ignore[untyped-decorator]
def place() -> None:
    """Place and publish what was committed, for those of the release before, who ask for it by a task."""
    wake.waker().clear(wake.PLACE)  # theirs: up, it would hide their next commits
    _work(sequencer.run)


@shared_task(name=wake.REACT)  # type: ignore[untyped-decorator]
def react() -> None:
    """React to what was placed, and again to what failed and is due."""
    _linger(wake.REACT, lambda: _work(reactions.run))


def _linger(task: str, look: Callable[[], int]) -> None:
    """Look for work, and where there was some, for a while as soon as there is more.

    Then, hints no longer hidden, once more. So many commits cost one task, and none is overlooked.
    """
    until = time.monotonic() + LINGER_SECONDS
    wake.waker().hold(task)
    try:
        idle_at = time.monotonic() + IDLE_SECONDS if look() else 0.0
        while (left := min(until, idle_at) - time.monotonic()) > 0:
            if _ear(task).wait(left) and look():
                idle_at = time.monotonic() + IDLE_SECONDS
    finally:
        wake.waker().clear(task)
    look()


_here = threading.local()  # a connection must not be shared between threads or forks


def _ear(task: str) -> wake.Ear:
    """Return what hears of a task's work here."""
    if getattr(_here, "pid", None) != os.getpid():
        _here.pid, _here.ears = os.getpid(), {}
    if task not in _here.ears:
        _here.ears[task] = wake.Ear(task, gather=PAUSE_SECONDS)
    found: wake.Ear = _here.ears[task]
    return found


@shared_task(name=wake.JOBS)  # type: ignore[untyped-decorator]
def look() -> None:
    """Send the jobs that are due to whoever runs them."""
    wake.waker().clear(wake.JOBS)
    _work(jobs.look)


@shared_task(name="workers.keep")  # type: ignore[untyped-decorator]
def keep() -> None:
    """Prune what the settings say is too old, and what else died of age."""
    days = settings.EVENTS_RETENTION_DAYS
    _work(lambda: retention.keep(timedelta(days=days) if days else None, seconds=KEEP_SECONDS))


@shared_task(name="workers.digest")  # type: ignore[untyped-decorator]
def mail_digests() -> None:
    """Mail the digests that are due."""
    _work(lambda: digest.run(seconds=DIGEST_SECONDS))


def _work(work: Callable[[], int]) -> int:
    try:
        return work()
    except (OperationalError, InterfaceError):
        connection.close()  # kept from task to task: the next one must not meet a broken one
        raise

"""Jobs that do what a test asks, and say each time that they do it."""

import logging
import threading
import time
from pathlib import Path

from celery import current_task
from django.conf import settings

from events import jobs
from workers.jobs import Params, job

logger = logging.getLogger(__name__)


class Act(Params):
    seconds: float = 0.0
    note: str = ""
    many: int = 0


@job("nap", params=Act, retries=1, retry_seconds=0.1, acks_late=True)
def nap(handle, params):
    """Sleep through everything, at the first try: it neither tells nor asks."""
    handle.send({"try": handle.tries})
    time.sleep(params.seconds if handle.tries == 1 else 0)
    return handle.tries


@job("held", params=Act, retries=1, retry_seconds=0.1, acks_late=True)
def held(handle, params):
    """Go on, at the first try, until there is the file that is noted."""
    while handle.tries == 1 and not Path(params.note).exists():
        time.sleep(0.05)
    return handle.tries


@job("deaf", params=Act)
def deaf(handle, params):
    """Like it, and may run once only."""
    handle.send({"try": handle.tries})
    time.sleep(params.seconds)


@job("brief", params=Act, time_limit=4, retries=1, retry_seconds=0.1)
def brief(handle, params):
    """Have four seconds at the most."""
    handle.send({"try": handle.tries})
    time.sleep(params.seconds)


@job("soft", params=Act, soft_time_limit=3)
def soft(handle, params):
    """Be told after three seconds."""
    time.sleep(params.seconds)


@job("asks", params=Act)
def asks(handle, params):
    """Ask whether it is to stop, and clean up."""
    while not handle.cancelled:
        time.sleep(0.01)
    handle.check()


@job("waits", params=Act)
def waits(handle, params):
    """Tell that it runs, and go on until there is a file of the note's name."""
    handle.progress(1, 2, "waiting")
    while not Path(params.note).exists():
        handle.check()
        time.sleep(0.01)
    return "it came"


@job("native", params=Act, max_retries=3)
def native(handle, params):
    """Retry as Celery's own tasks do."""
    if handle.tries < 3:
        raise current_task.retry(countdown=0.2)
    return handle.tries


@job("tells", params=Act)
def tells(handle, params):
    """Tell more than anybody can read, and send a few things."""
    began = time.monotonic()
    for n in range(params.many):
        handle.progress(n, params.many, f"{n}")
        time.sleep(params.seconds / params.many)
    handle.send("two\nlines")
    handle.send([1, {"a": None}])
    handle.send(event="my_event", data={"x": 1})
    handle.progress(params.many, params.many, "all")
    return time.monotonic() - began


@job("floods", params=Act)
def floods(handle, params):
    """Send things of which each fills a page."""
    for n in range(params.many):
        handle.send(f"{n} " + "x" * settings.STREAMS_WRITE_BYTES)


@job("late", params=Act)
def late(handle, params):
    """Keep the handle, and use it when the job is over."""

    def after():
        time.sleep(params.seconds)
        for use in (lambda: handle.send("late"), lambda: handle.progress(1, 2)):
            try:
                use()
            except jobs.JobOver:
                logger.warning("Refused after the end.")

    threading.Thread(target=after).start()
    return "done"


@job("odd", params=Act)
def odd(handle, params):
    """Return what JSON has no room for, or too much of it."""
    return "x" * params.many if params.many else float("nan")

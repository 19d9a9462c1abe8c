"""The clock: what makes the workers' promises hold without broker and beat.

Each Celery worker ticks by itself, in threads of its main process that begin before it has
reached its broker: one places and publishes, one reacts, one sees to jobs, one begins the broadcasts
whose time has come. Hints only make it sooner. Another looks out for transactions that stay open.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from django.conf import settings
from django.db import connection

from workers.wake import PLACE, Ear

logger = logging.getLogger(__name__)

JITTER = 0.1  # of a tick's time: the clocks of many workers must not tick together
# From one placing to the next, however many hints there are: under load it makes fewer of them, each of more,
# and what comes alone does not wait for it. About as long as a placing takes: by more, who commits every few
# milliseconds would wait all of it each time. Where CPU is scarce it takes longer, and gathers by itself.
GATHER_SECONDS = 0.002


class Ticker(threading.Thread):
    """Calls a function again and again, whatever it raises; with a `hint` also as soon as there is one."""

    def __init__(self, name: str, work: Callable[[], object], *, seconds: float, hint: str = "") -> None:
        super().__init__(name=f"tickertape-{name}", daemon=True)
        self._hint = hint
        self._work = work
        self._seconds = seconds
        self._stopping = threading.Event()
        self._failing = False

    def run(self) -> None:
        """Tick until told to stop."""
        ear = Ear(self._hint, gather=GATHER_SECONDS, stopping=self._stopping) if self._hint else None
        heard = False
        while not self._stopping.is_set():
            began = time.monotonic()
            self._tick()
            # From tick to tick, not from its end: a Redis that hangs must not make placing rarer.
            seconds = self._seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
            rest = max(0.05, seconds - (time.monotonic() - began))
            if ear is None or self._failing:
                # Who cannot work leaves the hints to those who can, and tries no oftener for them.
                heard = False
                self._stopping.wait(rest)
            else:
                heard = ear.wait(rest)
        if ear is not None:
            if heard:
                ear.give_back()
            ear.close()
        connection.close()

    def _tick(self) -> None:
        try:
            self._work()
        except Exception as error:
            if not self._failing:
                logger.warning(
                    "The clock's work failed; it goes on trying.",
                    # Not its text: a database's may quote a row.
                    extra={
                        "clock": self.name,
                        "error": type(error).__name__,
                        "sqlstate": getattr(error.__cause__, "sqlstate", None),
                    },
                )
            self._failing = True
            connection.close()  # it may be the broken one: the next tick opens another
        else:
            if self._failing:
                logger.info("The clock's work goes on.", extra={"clock": self.name})
            self._failing = False

    def stop(self) -> None:
        """Stop after the tick that is under way."""
        self._stopping.set()


class Clock(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the tickers with the worker: after the pool has forked, before the broker is asked for."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._tickers: list[Ticker] = []

    def start(self, parent: Any) -> None:
        """Begin to tick."""
        from events import broadcasts  # not before the apps are ready
        from workers import jobs, reactions, sequencer, watch

        seconds = settings.WORKERS_CLOCK_SECONDS
        self._tickers = [
            Ticker("sequencer", sequencer.run, seconds=seconds, hint=PLACE),
            Ticker("reactions", reactions.run, seconds=seconds),
            Ticker("jobs", jobs.look, seconds=seconds),
            Ticker("broadcasts", broadcasts.begin_due, seconds=seconds),
            Ticker("watch", watch.Watch().look, seconds=watch.SECONDS),
        ]
        for ticker in self._tickers:
            ticker.start()

    def stop(self, parent: Any) -> None:
        """Stop ticking: an ending worker finishes what it began."""
        for ticker in self._tickers:
            ticker.stop()
        for ticker in self._tickers:
            ticker.join(timeout=2)

    terminate = stop


def install(app: Any) -> None:
    """Make the clock part of every worker of a Celery app."""
    app.steps["worker"].add(Clock)

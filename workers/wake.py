"""Hints that there is work, as Celery tasks: they can neither fail nor hold up who gives them.

A hint is coalesced by a flag in Redis that expires, and that its task clears before it looks
for work; so a burst of commits costs one task, and none is overlooked. Without a hint the
workers' clocks find the work within half a second or so.
"""

import logging
import os
import threading
import time
from typing import Any

import redis
from celery import current_app
from django.conf import settings
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

logger = logging.getLogger(__name__)

FLAG_SECONDS = 1.0  # a flag whose task was lost hides work no longer than this
OPEN_SECONDS = (0.5, 5.0)  # the breaker: no tries for so long after a failure, doubling

PLACE = "workers.place"
REACT = "workers.react"


class Waker:
    """Sends hints, within a tenth of a second or not at all."""

    def __init__(self) -> None:
        seconds = settings.WORKERS_WAKE_SECONDS
        limits: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        self._redis = redis.Redis.from_url(settings.REDIS_URL, retry=Retry(NoBackoff(), 0), **limits)
        self._broker: Any = Connection(  # type: ignore[no-untyped-call]
            settings.CELERY_BROKER_URL,
            transport_options={**limits, "retry_on_timeout": False, "max_retries": 0},
        )
        self._lock = threading.Lock()
        self._closed_until = 0.0
        self._wait = OPEN_SECONDS[0]

    def wake(self, task: str) -> None:
        """Have a task run soon, unless one is due already or Redis was away a moment ago."""
        if not self._may_try() or not self._lock.acquire(timeout=settings.WORKERS_WAKE_SECONDS):
            return
        try:
            if self._may_try() and self._redis.set(_flag(task), 1, nx=True, px=int(FLAG_SECONDS * 1000)):
                current_app.send_task(task, connection=self._broker, retry=False, expires=30)
        except (RedisError, OperationalError, OSError) as error:
            self._closed_until = time.monotonic() + self._wait
            self._wait = min(self._wait * 2, OPEN_SECONDS[1])
            self._broker.release()
            logger.warning(
                "Workers could not be woken; their clocks will look.", extra={"error": type(error).__name__}
            )
        else:
            self._wait = OPEN_SECONDS[0]
        finally:
            self._lock.release()

    def _may_try(self) -> bool:
        return time.monotonic() >= self._closed_until

    def clear(self, task: str) -> None:
        """Say that a task's work is being looked for from now on."""
        try:
            self._redis.delete(_flag(task))
        except (RedisError, OSError) as error:
            logger.info("A flag could not be cleared; it expires.", extra={"error": type(error).__name__})


def _flag(task: str) -> str:
    return f"{settings.REDIS_PREFIX}:wake:{task}"


_wakers: dict[int, Waker] = {}  # by process: a broker's connection must not cross a fork


def waker() -> Waker:
    """Return this process's waker."""
    return _wakers.setdefault(os.getpid(), _wakers.get(os.getpid()) or Waker())

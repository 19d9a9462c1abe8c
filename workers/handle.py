"""What a job's code holds while it runs, and the pulse that keeps the run alive meanwhile.

The code says how far it is as often as it likes: the pulse, a thread with a database connection of
its own, tells the latest of it at most four times a second, renews the lease, and hears whether
the job is to stop. Redis away, or hung, holds up nothing but the frames.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from events import registry, runs
from events.channels import job_channel
from events.errors import Conflict, FieldError, Invalid
from events.jobs import JobOver, JobProgressed, JobState, State
from events.runs import Claim
from streams import sse
from streams.batch import Transient, redis_channel

logger = logging.getLogger(__name__)

BEATS = 10  # in a lease: some may fail before anybody takes the run for dead
MOST_MESSAGE = 500  # characters: a line under a progress bar
REDIS_SECONDS = 0.25
PAUSE_SECONDS = 1.0  # without a try after Redis failed
INSIST_SECONDS = 60.0  # a database that is away may come back before a result is lost

T = TypeVar("T")


class Cancelled(Exception):
    """The job was asked to stop: let it pass, or clean up and raise it again."""


class Pulse(threading.Thread):
    """Beats for a run, and tells its progress."""

    def __init__(self, held: Claim) -> None:
        super().__init__(name="tickertape-job", daemon=True)
        self.cancelled = False
        self.lost: Conflict | None = None
        self.stirred = threading.Event()  # is set with either
        self._held = held
        self._latest: JobProgressed | None = None
        self._told: JobProgressed | None = None
        self._given = threading.Event()
        self._stopping = threading.Event()
        self._redis: redis.Redis = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis_from = 0.0
        self._said_stopping = False

    def give(self, progress: JobProgressed) -> None:
        """Tell this next, in place of what was not told yet."""
        self._latest = progress
        self._given.set()

    def stop(self) -> None:
        """Tell the last progress, and end; whoever still has the handle may say nothing more."""
        self._stopping.set()
        self._given.set()
        self.join()
        self.lost = self.lost or JobOver()

    def run(self) -> None:
        """Beat until stopped, or until the run is no longer ours."""
        try:
            last = 0.0
            while self.lost is None:
                self._given.wait(settings.WORKERS_JOB_LEASE_SECONDS / BEATS)
                if self._latest is not self._told:
                    self._stopping.wait(last + settings.WORKERS_JOB_PROGRESS_SECONDS - time.monotonic())
                    last = time.monotonic()
                stopping = self._stopping.is_set()
                self._given.clear()
                if stopping and self._latest is self._told:
                    return
                self._beat(self._latest)
                if stopping:
                    return
        finally:
            connection.close()
            self._redis.close()

    def _beat(self, latest: JobProgressed | None) -> None:
        news = None if latest is self._told or latest is None else latest
        kept = None if news is None else news.model_dump(mode="json", exclude={"job_id"})
        try:
            self.cancelled = runs.beat(self._held, progress=kept)
        except Conflict as lost:
            self.lost = lost
            self.stirred.set()
            return
        except DatabaseError as error:
            logger.warning("A job's lease could not be renewed.", extra={"error": type(error).__name__})
            connection.close()
            return
        self._told = latest
        if self.cancelled:
            self.stirred.set()
        if news is not None:
            self._publish(news)
        if self.cancelled and not self._said_stopping:
            self._said_stopping = self._publish(
                JobState(
                    job_id=str(self._held.job_id),
                    task_type=self._held.name,
                    state=State.RUNNING,
                    progress=latest and latest.model_dump(mode="json", exclude={"job_id"}),
                    stopping=True,
                )
            )

    def _publish(self, news: JobProgressed | JobState) -> bool:
        """Tell who listens now; return whether Redis took it."""
        if time.monotonic() < self._redis_from:
            return False
        frame = sse.transient(news.name(), registry.encode(news.model_dump(mode="json")))
        message = Transient(job_channel(self._held.job_id), news.name(), frame)
        try:
            self._redis.publish(redis_channel(), message.pack())
        except (RedisError, OSError):
            self._redis_from = time.monotonic() + PAUSE_SECONDS
            return False
        return True


class Handle:
    """A job, to its code."""

    def __init__(self, held: Claim, pulse: Pulse) -> None:
        self._held = held
        self._pulse = pulse

    @property
    def id(self) -> str:
        """Return the job's id."""
        return str(self._held.job_id)

    @property
    def tries(self) -> int:
        """Return which try this is, from 1."""
        return self._held.tries

    @property
    def cancelled(self) -> bool:
        """Tell whether the job was asked to stop: for code that would rather ask than have it raised."""
        return self._pulse.cancelled

    def user(self) -> AbstractBaseUser:
        """Return whose job it is."""
        return get_user_model()._default_manager.get(pk=self._held.owner_id)

    def check(self) -> None:
        """Raise Cancelled where the job was asked to stop; RunLost, JobOver where it is no longer ours."""
        if self._pulse.lost is not None:
            raise self._pulse.lost
        if self._pulse.cancelled:
            raise Cancelled

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far it is. Costs nothing, so say it as often as you like. Raises as `check` does."""
        self.check()
        if len(message) > MOST_MESSAGE:
            error = FieldError("message", f"must have at most {MOST_MESSAGE} characters")
            raise Invalid(errors=(error,))
        said = JobProgressed(job_id=self.id, done=done, total=total, message=message)
        registry.encode(said.model_dump())  # refused here, where the code that said it hears of it
        self._pulse.give(said)

    def wait(self, seconds: float) -> None:
        """Sleep, but not on: wakes where the job is asked to stop. Raises as `check` does."""
        self._pulse.stirred.wait(seconds)
        self.check()

    def send(self, data: Any = None, *, event: str | None = None) -> None:
        """Record something for who listens to the job, or comes late. Raises as `check` does."""
        self.check()
        if event is not None:
            sse.check_name(event)
        runs.send(self._held, data, event=event)

    def attach(self, name: str, content: bytes | Iterable[bytes], *, content_type: str) -> str:
        """Keep a file for the job's owner; return the address to download it from.

        Pieces are taken one by one, and refused as soon as they are too much. Raises Invalid, and as
        `check` does.
        """
        self.check()
        content = _bounded([content] if isinstance(content, bytes) else content)
        runs.attach(self._held, name=name, content=content, content_type=content_type)
        return f"/api/jobs/{self.id}/file"


def _bounded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a file's pieces while they are not too much."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > settings.WORKERS_JOB_FILE_BYTES:
            error = FieldError("content", f"must have at most {settings.WORKERS_JOB_FILE_BYTES} bytes")
            raise Invalid(errors=(error,))
        yield piece


def insist(work: Callable[[], T]) -> T:
    """Do something in the database, and again where that is away, for a while."""
    until = time.monotonic() + INSIST_SECONDS
    while True:
        try:
            return work()
        except (OperationalError, InterfaceError):
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.2, 0.6))  # noqa: S311

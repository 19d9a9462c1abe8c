"""Hints that there is work: they can neither fail nor hold up who gives them.

Who commits gives one itself where the connection takes it without waiting; else a thread does, so that a
request waits for nothing: not for Redis, not for a name to resolve. Who places waits for them all the time,
by an `Ear`: a list in Redis that holds one at the most, so a burst of commits costs one. For others nobody
waits before it is there: its hint is a Celery task, coalesced by a flag in Redis that expires, and that its
task clears before it looks for work for the last time; so none is overlooked. While the flag is up, the task
hears of more by an `Ear`, too. Without a hint the workers' clocks find the work within half a second or so.
"""

import contextlib
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from celery import current_app
from django.conf import settings
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError
from redis.retry import Retry

from streams import sockets
from workers.talk import Talk, link_to

logger = logging.getLogger(__name__)

# A flag whose task was lost hides work no longer than this. One that Redis heard of while it hung, it
# sets when it is back.
FLAG_SECONDS = 0.5
PAUSE_SECONDS = (0.25, 0.5)  # no tries for so long after a failure, doubling: soon live after its return

SLICE_SECONDS = 0.25  # of a wait: who is told to stop meanwhile hears of it no later
HEAR_SECONDS = 0.1  # in which Redis must say that a wait is over, or it counts as hung

PLACE = "workers.place"
REACT = "workers.react"
JOBS = "workers.jobs"
TASKS = (REACT, JOBS)  # whose hint is a Celery task
HEARD = (PLACE, REACT)  # whose hint an Ear hears

AWAY = (RedisError, OSError, UnicodeError)  # the last of a host that cannot be a name


def connect(*, answer_seconds: float, connect_seconds: float) -> redis.Redis:
    """Return a client of Redis that tries once, by a new connection after one that failed.

    And after one that was refused to write: behind a name that leads to another master since, the old one
    may live on as a replica, and would refuse for ever.
    """
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=answer_seconds,
        socket_connect_timeout=connect_seconds,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[ReadOnlyError],  # "retry" is to close the connection, and 0 tries
    )


class Line:
    """The connection that hints go over, of redis-py's making and without its client, which costs thrice.

    Who commits does not wait for the answer: it is looked at before the next hint. One that was refused
    then is not given again, but those after it are, by another connection.
    """

    def __init__(self, client: redis.Redis, seconds: float) -> None:
        self._link = link_to(client)
        self._hints = {task: b"".join(self._link.pack_commands(_hint(task))) for task in HEARD}
        self._seconds = seconds
        self._free = threading.Lock()
        self._due = 0  # answers
        self._since = 0.0  # when Redis answered, or was asked for the first of them

    def give_at_once(self, task: str) -> bool:
        """Give a hint without waiting for anything; return whether that could be done."""
        if not self._free.acquire(blocking=False):
            return False
        try:
            sock = getattr(self._link, "_sock", None)
            if sock is None or isinstance(sock, ssl.SSLSocket):
                return False
            there = sock.fileno()  # that does not block, for it has a time-out
            if (answers := sockets.read(there)) is not None:
                self._heard(answers)
            if self._due and time.monotonic() > self._since + self._seconds:
                self._link.disconnect()  # it may lead nowhere: the next is given by a new one
                return False
            hint = self._hints[task]
            taken = sockets.send(there, hint, len(hint), sockets.NOW)
            self._sent(os.write(there, hint) if taken < 0 else taken, task)  # which says what is wrong
        except BlockingIOError:
            return False
        except AWAY:
            self._link.disconnect()
            return False
        finally:
            self._free.release()
        return True

    def give(self, task: str) -> None:
        """Give a hint, and wait for the answer; raise what is in AWAY."""
        with self._free:
            for again in (True, False):  # it may have been closed since the last one
                try:
                    self._exchange(task)
                except BaseException as error:  # also a refusal: the name may lead to another Redis by now
                    self._link.disconnect()
                    if not again or not isinstance(error, redis.ConnectionError | ConnectionError):
                        raise
                else:
                    return

    def close(self) -> None:
        """End the connection, unless somebody waits in it, who is a thread that ends with the process."""
        if self._free.acquire(timeout=self._seconds):
            self._link.disconnect()
            self._free.release()

    def _exchange(self, task: str) -> None:
        if self._link._sock is None:
            self._link.connect()
            self._due = 0
        sock = self._link._sock
        sock.sendall(self._hints[task])
        self._sent(len(self._hints[task]), task)
        while self._due:
            self._heard(sock.recv(4096))

    def _sent(self, size: int, task: str) -> None:
        if size != len(self._hints[task]):
            raise redis.ConnectionError("a part of a hint")
        if not self._due:
            self._since = time.monotonic()
        self._due += len(_hint(task))

    def _heard(self, answers: bytes) -> None:
        """Count answers, each a line; an error's begins with a minus, which is in no other."""
        if not answers:
            raise redis.ConnectionError("Redis closed the connection")
        if b"-" in answers:
            raise redis.ResponseError("Redis refused a hint")
        self._due -= answers.count(b"\n")
        self._since = time.monotonic()


class Waker:
    """Sends hints; what may have to wait, from its own thread, whose alone the broker's connection is."""

    def __init__(self) -> None:
        seconds = settings.WORKERS_WAKE_SECONDS
        limits: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        self._redis = connect(answer_seconds=seconds, connect_seconds=seconds)
        self._line = Line(self._redis, seconds)
        self._broker: Any = Connection(  # type: ignore[no-untyped-call]
            settings.CELERY_BROKER_URL,
            transport_options={**limits, "retry_on_timeout": False, "max_retries": 0},
        )
        self._wanted: set[str] = set()
        self._given = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tickertape-wake", daemon=True)
        self._thread.start()

    def wake(self, task: str) -> None:
        """Have work looked for soon."""
        if task in TASKS or not self._line.give_at_once(task):
            self._wanted.add(task)
            self._given.set()

    def hold(self, task: str) -> None:
        """Say that a task's work will be looked for again: until `clear` a hint is not needed."""
        self._try(lambda: self._redis.set(_flag(task), 1, px=int(FLAG_SECONDS * 1000)))

    def clear(self, task: str) -> None:
        """Say that a task's work is being looked for for the last time."""
        self._try(lambda: self._redis.delete(_flag(task)))

    def _try(self, work: Callable[[], object]) -> None:
        """Do something about a flag. In the task itself: it may wait."""
        try:
            work()
        except AWAY as error:
            logger.info("A flag could not be changed; it expires.", extra={"error": type(error).__name__})

    def stop(self) -> None:
        """End the thread; hints that were not sent are not missed."""
        self._stopping.set()
        self._given.set()
        self._thread.join(5)
        self._broker.release()
        self._line.close()
        self._redis.close()

    def _run(self) -> None:
        pause = PAUSE_SECONDS[0]
        while self._given.wait() and not self._stopping.is_set():
            self._given.clear()
            try:
                while self._wanted:
                    self._send(self._wanted.pop())
                pause = PAUSE_SECONDS[0]
            except (OperationalError, *AWAY) as error:
                logger.warning(
                    "Workers could not be woken; their clocks will look.",
                    extra={"error": type(error).__name__, "pause": pause},
                )
                self._broker.release()
                self._stopping.wait(pause)
                pause = min(pause * 2, PAUSE_SECONDS[1])
            except Exception:
                logger.exception("Waking failed.")
                self._stopping.wait(pause)

    def _send(self, task: str) -> None:
        """Send a task, unless one is due already; tell who waits."""
        if task in TASKS and self._redis.set(_flag(task), 1, nx=True, px=int(FLAG_SECONDS * 1000)):
            current_app.send_task(task, connection=self._broker, retry=False, expires=30)
        elif task in HEARD:
            # Where a flag went meanwhile, its task looks once more after this commit.
            self._line.give(task)


class Ear:
    """Waits for the hints of one kind of work, and never raises; a thread's own, of several one gets each."""

    def __init__(self, task: str, *, gather: float, stopping: threading.Event | None = None) -> None:
        self._task = task
        self._gather = gather
        self._stopping = stopping or threading.Event()
        self._redis: Talk | None = None
        self._deaf_until = self._went_at = 0.0

    def wait(self, seconds: float) -> bool:
        """Return as soon as there is a hint, or after so long, or when stopping; and whether there was one.

        But not before `gather` has passed since the last time: who is told of much does it together.
        """
        until = time.monotonic() + seconds
        if (rest := self._went_at + self._gather - time.monotonic()) > 0:
            time.sleep(min(rest, seconds))
        heard = False
        while not heard and not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
            if (deaf := self._deaf_until - time.monotonic()) > 0:
                self._stopping.wait(min(left, deaf))
            else:
                heard = self._hear(min(left, SLICE_SECONDS))
        self._went_at = time.monotonic()
        return heard

    def give_back(self) -> None:
        """Leave a hint that was heard, and not followed, to whoever waits next."""
        if self._redis is not None:
            with contextlib.suppress(*AWAY):
                self._redis.ask("LPUSH", _list(self._task), 1)

    def close(self) -> None:
        """Hear no more."""
        if self._redis is not None:
            self._redis.close()

    def _hear(self, seconds: float) -> bool:
        try:
            if self._redis is None:
                answer_seconds = SLICE_SECONDS + HEAR_SECONDS
                self._redis = Talk(
                    connect(answer_seconds=answer_seconds, connect_seconds=settings.WORKERS_WAKE_SECONDS)
                )
            # For 0 Redis would wait for ever.
            return self._redis.ask("BLPOP", _list(self._task), max(seconds, 0.001)) is not None
        except Exception as error:  # whatever it is: who waits has work to do without hints
            self._deaf_until = time.monotonic() + PAUSE_SECONDS[-1]
            logger.debug("Hints cannot be heard.", extra={"error": type(error).__name__})
            return False


def _flag(task: str) -> str:
    return f"{settings.REDIS_PREFIX}:wake:{task}"


def _list(task: str) -> str:
    return f"{settings.REDIS_PREFIX}:hint:{task}"


def _hint(task: str) -> list[tuple[str, str, int] | tuple[str, str, int, int]]:
    """Return the commands that give a hint: one that nobody took yet is as good as two.

    It is written in any case, or a replica that holds one would not refuse.
    """
    return [("LPUSH", _list(task), 1), ("LTRIM", _list(task), 0, 0)]


_wakers: dict[int, Waker] = {}  # by process: neither a thread nor a connection crosses a fork
_making = threading.Lock()


def _forget() -> None:
    """Begin anew in a forked child: what a thread of its parent had locked would stay so for ever."""
    global _making
    _making = threading.Lock()
    _wakers.clear()


os.register_at_fork(after_in_child=_forget)


def waker() -> Waker:
    """Return this process's waker."""
    found = _wakers.get(os.getpid())
    if found is None:
        with _making:
            found = _wakers.get(os.getpid())
            if found is None:
                found = _wakers[os.getpid()] = Waker()
    return found

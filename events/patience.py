"""Connections that give up a PostgreSQL which does not answer, for those who have somebody waiting.

A server that is frozen, or cut off without a word, leaves a query waiting for ever: its kernel goes
on acknowledging what we send, so neither keepalives nor TCP's own limits notice, and a cancellation
is one more request to the same server. So the wait itself has an end: where not a byte came for so
long, the connection is closed, its caller gets an OperationalError, and a pool makes another. The
thread that waited is free again. What the server still does with the query is not known, as with any
connection that is lost.

A server that is well, and only waits for a lock, must not go on waiting for somebody who has left:
such sessions would add up to `max_connections`. So it is told to give up a little sooner than we do,
which also spares the connection, and to look every second whether we are still there. Neither ends
a COMMIT that waits for a synchronous standby: it must not be taken for done.
"""

import select
import time
from typing import Any, Self, TypeVar

import psycopg
from django.conf import settings
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

T = TypeVar("T")

SOONER = 0.9  # of our own wait: its answer needs time to come


class Unanswered(psycopg.OperationalError):
    """The database did not answer in time."""


def _limited(gen: PQGen[T]) -> PQGen[T]:
    """Do what psycopg's generator does; raise Unanswered where the server says nothing for too long.

    Psycopg resumes a waiting generator several times a second, with nothing where nothing came.
    """
    try:
        wanted = next(gen)
        since = time.monotonic()
        while True:
            ready = yield wanted
            if ready:
                since = time.monotonic()
            elif time.monotonic() - since > settings.DATABASE_ANSWER_SECONDS:
                raise Unanswered("the database does not answer")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


def _options(conninfo: str, more: dict[str, Any]) -> str:
    """Return what to start a session with; what the caller says comes last, so it counts."""
    said = more.get("options") or conninfo_to_dict(conninfo).get("options") or ""
    wait = max(1, int(settings.DATABASE_ANSWER_SECONDS * SOONER * 1000))  # 0 would be for ever
    return f"-c statement_timeout={wait} -c client_connection_check_interval=1s {said}".strip()


class PatientConnection(psycopg.Connection[Any]):
    """A connection of a thread that waits no longer than DATABASE_ANSWER_SECONDS."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect as psycopg does, to a session that gives up as well."""
        return super().connect(conninfo, **{**kwargs, "options": _options(conninfo, kwargs)})

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait as psycopg does, but not for ever."""
        try:
            return super().wait(_limited(gen), *args, **kwargs)
        except Unanswered:
            self.pgconn.finish()  # whatever comes now would be the answer to another question
            raise


class PatientAsyncConnection(psycopg.AsyncConnection[Any]):
    """The same for an event loop."""

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect as psycopg does, to a session that gives up as well."""
        return await super().connect(conninfo, **{**kwargs, "options": _options(conninfo, kwargs)})

    async def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait as psycopg does, but not for ever."""
        try:
            return await super().wait(_limited(gen), *args, **kwargs)
        except Unanswered:
            self.pgconn.finish()
            raise


async def check(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise OperationalError where a connection was closed meanwhile; it asks only where something came.

    What has left says so, and an idle connection hears nothing else but notices. What left without a word
    is given up when it does not answer.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)

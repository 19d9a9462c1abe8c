"""Connections that give up a PostgreSQL which does not answer, for those who have somebody waiting.

A server that is frozen, or cut off without a word, leaves a query waiting for ever: its kernel goes
on acknowledging what we send, so neither keepalives nor TCP's own limits notice, and a cancellation
is one more request to the same server. So the wait itself has an end: where not a byte came for so
long, the connection is closed, its caller gets an OperationalError, and a pool makes another. The
thread that waited is free again; there is nothing to clean up behind it. What the server still does
with the query is not known, as with any connection that is lost.
"""

import time
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from psycopg.abc import PQGen

T = TypeVar("T")


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


class PatientConnection(psycopg.Connection[Any]):
    """A connection of a thread that waits no longer than DATABASE_ANSWER_SECONDS."""

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait as psycopg does, but not for ever."""
        try:
            return super().wait(_limited(gen), *args, **kwargs)
        except Unanswered:
            self.pgconn.finish()  # whatever comes now would be the answer to another question
            raise


class PatientAsyncConnection(psycopg.AsyncConnection[Any]):
    """The same for an event loop."""

    async def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait as psycopg does, but not for ever."""
        try:
            return await super().wait(_limited(gen), *args, **kwargs)
        except Unanswered:
            self.pgconn.finish()
            raise

"""The broker's transport, closed at the first try where Redis is away.

A worker that loses its broker closes the connection, and Celery 5.7 then closes it once more.
Kombu's own channel fails half-way the first time (it first reads what it was waiting for) and,
the second time, over what the first one took away; an AttributeError that ends the worker, and
its clock with it. The tasks it was working on are hints, or come back by themselves.
"""

import contextlib
from typing import Any

from celery import bootsteps
from kombu.transport import TRANSPORT_ALIASES, redis


class Channel(redis.Channel):
    """Kombu's, whose `close` closes."""

    def close(self) -> None:
        """Close, and give back what was not acknowledged if the broker can still be told."""
        for _ in range(2):  # the wait for a message, then the giving back, may find it away
            with contextlib.suppress(*self.connection_errors):
                super().close()  # type: ignore[no-untyped-call]
                return


class Transport(redis.Transport):
    """Kombu's, with our channel."""

    Channel = Channel


class Quiet(bootsteps.Step):  # type: ignore[misc]
    """Has a worker tell its broker nothing of itself, whatever its command line says.

    Its heartbeat, for monitors that we do not have, is sent by the loop that also hears SIGTERM, and
    sent again and again where Redis hangs: the worker would not end before Redis is back.
    """

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        parent.options.update(without_heartbeat=True, without_gossip=True, without_mingle=True)


def install(app: Any) -> None:
    """Make both part of a Celery app: the transport for `redis://` and `rediss://`, and the quiet."""
    app.steps["worker"].add(Quiet)
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"

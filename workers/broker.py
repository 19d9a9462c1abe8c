"""The broker's transport, closed at the first try where Redis is away.

A worker that loses its broker closes the connection, and Celery 5.7 then closes it once more.
Kombu's own channel fails half-way the first time (it first reads what it was waiting for) and,
the second time, over what the first one took away; an AttributeError that ends the worker, and
its clock with it. The tasks it was working on are hints, or come back by themselves.
"""

import contextlib

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


def install() -> None:
    """Use the transport for `redis://` and `rediss://` in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"

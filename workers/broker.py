"""The broker's connection: soon there again after Redis was away, and closed at the first try where it is.

A worker that loses its broker closes the connection, and Celery 5.7 then closes it once more.
Kombu's own channel fails half-way the first time (it first reads what it was waiting for) and,
the second time, over what the first one took away; an AttributeError that ends the worker, and
its clock with it. The tasks it was working on are hints, or come back by themselves.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.app.amqp import AMQP
from kombu import connection
from kombu.transport import TRANSPORT_ALIASES, redis, virtual

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # between two tries to reach the broker: Celery's own grow to 30
SAY_SECONDS = 30.0  # between two lines about it


class QoS(redis.QoS):
    """Kombu's, whose acknowledgements cannot be kept from being over.

    It counts a message as being worked on until Redis has taken its acknowledgement, and asks for no more
    of them than the pool can work on. So where as many could not be acknowledged, Redis hung or gone, a
    worker would sit there without a task, and not even look whether Redis is back.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; where the broker does not hear it, the task comes once more, hours later."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except self.channel.connection_errors as error:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            logger.info("A task could not be acknowledged.", extra={"error": type(error).__name__})


class Channel(redis.Channel):
    """Kombu's, whose `close` closes."""

    QoS = QoS

    def close(self) -> None:
        """Close, and give back what was not acknowledged if the broker can still be told."""
        for _ in range(2):  # the wait for a message, then the giving back, may find it away
            with contextlib.suppress(*self.connection_errors):
                super().close()  # type: ignore[no-untyped-call]
                return


class Transport(redis.Transport):
    """Kombu's, with our channel."""

    Channel = Channel


class Connection(connection.Connection):
    """Kombu's, whose tries do not grow rare: live within 2 s of Redis's return, however long it was away."""

    def ensure_connection(
        self, errback: Callable[[Exception, float], object] | None = None, max_retries: int | None = None,
        **more: Any,
    ) -> Any:  # fmt: skip
        """Connect, once a second until it is done; `errback` hears of it twice a minute."""
        said_at = -SAY_SECONDS

        def failed(error: Exception, interval: float) -> None:
            nonlocal said_at
            if errback is not None and time.monotonic() - said_at >= SAY_SECONDS:
                said_at = time.monotonic()
                errback(error, interval)

        more |= {"interval_start": RETRY_SECONDS, "interval_step": 0, "interval_max": RETRY_SECONDS}
        return super().ensure_connection(failed, max_retries, **more)  # type: ignore[no-untyped-call]


class Connections(AMQP):  # type: ignore[misc]
    """Celery's, with our connection."""

    Connection = Connection


class Quiet(bootsteps.Step):  # type: ignore[misc]
    """Has a worker tell its broker nothing of itself, whatever its command line says.

    Its heartbeat, for monitors that we do not have, is sent by the loop that also hears SIGTERM, and
    sent again and again where Redis hangs: the worker would not end before Redis is back.
    """

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        parent.options.update(without_heartbeat=True, without_gossip=True, without_mingle=True)


def install(app: Any) -> None:
    """Make them part of a Celery app; the transport is that of `redis://` and `rediss://`."""
    app.amqp_cls = Connections
    app.steps["worker"].add(Quiet)
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"

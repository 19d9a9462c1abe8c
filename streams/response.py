"""The response that streams.

Django keeps a thread and, through it, a database connection for as long as a request runs. So
an `EventStream` is not sent by the request: the handler (`streams.handler`) finishes that first, then
lets the response stream by itself.
"""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse

from streams import sse
from streams.connection import Connection
from streams.subscriber import Subscriber
from streams.takeover import TakenOver

logger = logging.getLogger(__name__)


class Outliving(ABC, StreamingHttpResponse):
    """A response that is written when its request has finished."""

    subscriber: Subscriber | None = None

    async def stream(self, connection: Connection) -> None:
        """Write the chunks until they end, the client leaves or it is cut off."""
        connection.cut = asyncio.current_task().cancel  # type: ignore[union-attr]
        if self.subscriber is not None:
            self.subscriber.on_end = connection.expect_end
            self.subscriber.silent = connection.silent
        leaving = asyncio.create_task(connection.hear())
        try:
            await self.deliver(connection)
        except asyncio.CancelledError:
            if not connection.over:
                raise  # the server's doing, not the client's
        except OSError:
            pass  # the client left while we wrote
        except Exception:
            logger.exception("A stream failed.")
            connection.settle()
            connection.abort()  # Daphne would keep it open for ever, and its client waiting
        finally:
            connection.settle()
            leaving.cancel()

    @abstractmethod
    async def deliver(self, connection: Connection) -> None:
        """Write it."""

    async def start(self, connection: Connection) -> None:
        """Write status and headers."""
        headers = [(name.lower().encode(), value.encode()) for name, value in self.items()]
        headers += [(b"set-cookie", cookie.OutputString().encode()) for cookie in self.cookies.values()]
        await connection({"type": "http.response.start", "status": self.status_code, "headers": headers})


class EventStream(Outliving):
    """A `text/event-stream` of the chunks that an asynchronous generator makes.

    The generator runs, and is closed, outside the request; one that never began needs no closing.
    """

    def __init__(self, chunks: AsyncGenerator[bytes], *, subscriber: Subscriber | None = None) -> None:
        super().__init__(
            chunks,
            content_type=sse.CONTENT_TYPE,
            # X-Accel-Buffering: nginx holds a proxied response back without it.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._chunks = chunks
        self._place: tuple[str | None] | None = None  # of a subscriber's own chunks, from where on they are
        self.subscriber = subscriber

    @classmethod
    def ended(cls, reason: str) -> "EventStream":
        """Say why there is no stream now, and end: any status but 200 makes EventSource give up."""

        async def chunks() -> AsyncGenerator[bytes]:
            yield sse.ending(reason, settings.STREAMS_RETRY_SECONDS)

        return cls(chunks())

    @classmethod
    def of(cls, subscriber: Subscriber, last_event_id: str | None) -> "EventStream":
        """Return a subscriber's stream; it goes straight to the connection where that can be taken over."""
        stream = cls(subscriber.chunks(last_event_id), subscriber=subscriber)
        stream._place = (last_event_id,)
        return stream

    def through(self, change: Callable[[AsyncGenerator[bytes]], AsyncGenerator[bytes]]) -> None:
        """Have the chunks go through another generator, which closes theirs."""
        self._chunks = change(self._chunks)
        self._place = None

    async def stream(self, connection: Connection) -> None:
        """Write the chunks, over ASGI or straight to the connection."""
        link = connection.link if connection.http_version == "1.1" and settings.STREAMS_TAKE_OVER else None
        if self._place is None or self.subscriber is None or link is None:
            await super().stream(connection)
            return
        await self.start(connection)
        taken = TakenOver(self.subscriber)
        if sink := link.take_over(taken):  # else the client has left
            await taken.begin(sink, *self._place)

    async def deliver(self, connection: Connection) -> None:
        """Write the chunks as they come."""
        async with contextlib.aclosing(self._chunks) as chunks:
            await self.start(connection)
            async for chunk in chunks:
                for begin in range(0, len(chunk), settings.STREAMS_WRITE_BYTES):
                    await connection.write(chunk[begin : begin + settings.STREAMS_WRITE_BYTES])
            await connection({"type": "http.response.body", "body": b"", "more_body": False})


class Later(Outliving):
    """A response that is yet to be made, status and all, by waiting as a stream does."""

    def __init__(self, make: Callable[[], Awaitable[HttpResponse]], *, subscriber: Subscriber) -> None:
        super().__init__()
        self._make = make
        self.subscriber = subscriber

    async def deliver(self, connection: Connection) -> None:
        """Write the response when there is one, with the headers that this one was given meanwhile."""
        made = await self._make()
        self.status_code = made.status_code
        for name, value in made.items():
            self[name] = value
        self["Content-Length"] = str(len(made.content))
        await self.start(connection)
        for begin in range(0, len(made.content), settings.STREAMS_WRITE_BYTES):
            await connection.write(made.content[begin : begin + settings.STREAMS_WRITE_BYTES])
        await connection({"type": "http.response.body", "body": b"", "more_body": False})

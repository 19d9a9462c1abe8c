"""A stream without its server: taken over from it once the head is written, and parked while it idles.

Of the server's and the framework's objects nothing is left then, nor a task: what the hub pushes goes
straight to the socket. A task begins again only for what may have to wait: a reader that is slow, a
replay, the end. What is said, and in which order, is the subscriber's doing here as it is over ASGI.
"""

import asyncio
import logging

from django.conf import settings

from streams import sse
from streams.connection import Line, Sink, StallWatch
from streams.subscriber import Subscriber

logger = logging.getLogger(__name__)


class TakenOver(Line):
    """One stream on a connection of its own, from its opening to its end."""

    __slots__ = ("_subscriber", "_task", "sink")

    sink: Sink  # given by whoever has the connection taken over for this

    def __init__(self, subscriber: Subscriber) -> None:
        super().__init__(None)
        self._subscriber = subscriber
        self._task: asyncio.Task[None] | None = None
        subscriber.on_end, subscriber.silent, subscriber.on_stir = self.expect_end, self.silent, self._go_on

    async def begin(self, sink: Sink, last_event_id: str | None) -> None:
        """Open the stream; return when it is parked, or over."""
        self.sink = self._link = sink
        self.cut = self._cut
        if self.over:
            return  # the client left meanwhile
        await self._work(last_event_id, opening=True)

    # --- the connection's side -----------------------------------------------------------------------

    def full(self) -> None:
        """Stop what goes straight out: the reader does not take it as fast."""
        self._subscriber.stir()

    def lost(self) -> None:
        """End with the connection."""
        self.end()

    # --- the stream's side ---------------------------------------------------------------------------

    def _go_on(self) -> None:
        if not self.over:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def _cut(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._leave()  # also where the task has not begun, and so never will

    def _leave(self) -> None:
        self.settle()
        subscriber = self._subscriber
        subscriber.leave()
        subscriber.on_end, subscriber.silent, subscriber.on_stir = None, bool, None  # they refer back

    async def _work(self, last_event_id: str | None = None, *, opening: bool = False) -> None:
        """Write what there is to write, until the stream is parked, or over."""
        self._task = asyncio.current_task()
        subscriber = self._subscriber
        parked = False
        try:
            await self._write(await subscriber.enter(last_event_id) if opening else b"")
            # Over it may be without a word: what waits for a connection of the pool may lose a cancellation.
            while not (self.over or subscriber.over):
                if parked := subscriber.park(self.sink):
                    return
                await self._write(await subscriber.turn())
            if not self.over:
                await self._write(subscriber.ending())
                self.sink.write(sse.LAST_CHUNK)
                self.sink.close()
        except asyncio.CancelledError:
            if not self.over:
                self.sink.abort()
                raise  # the server's doing, not the client's
        except Exception:
            logger.exception("A stream failed.")
            self.sink.abort()
        finally:
            self._task = None
            if not parked:
                self._leave()

    async def _write(self, chunk: bytes) -> None:
        """Write a piece as fast as the reader takes it; cut off one that takes nothing for the set time."""
        for begin in range(0, len(chunk) or 1, settings.STREAMS_WRITE_BYTES):
            if chunk:
                self.sink.write(sse.chunked(chunk[begin : begin + settings.STREAMS_WRITE_BYTES]))
            if self.sink.is_full:
                watch = StallWatch(self.sink, self.abort)
                try:
                    await self.sink.drained()
                finally:
                    watch.stop()

"""One connection as a stream sees it: it is written to, is left by its client, or is cut off."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings

if TYPE_CHECKING:
    from streams.response import Outliving

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

# For how long a reader that is behind may go on reading what was written before the end: what it
# may no longer have, or whom a stopping process waits for, is cut off.
LAST_SECONDS = {"revoked": 0.4, "drain": 2.0}


class Link(Protocol):
    """What our server entry tells of a connection, as `scope["extensions"]["tickertape"]`."""

    def outstanding(self) -> int:
        """Return the bytes written that the peer has not acknowledged."""

    def silent(self) -> bool:
        """Tell whether the peer seems to be lost: it acknowledges nothing of what it is sent."""

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""

    def take_over(self, owner: "Owner") -> "Sink | None":
        """Take the connection from the server for good, where that can be done.

        Call when the head of a response was given that is chunked (none of HTTP/1.0 is), and nothing of its
        body, which is written to the sink; the application returns, and the server forgets the connection.
        """


class Owner(Protocol):
    """Who writes to a connection that was taken over."""

    def full(self) -> None:
        """Hear that the kernel did not take all: wait for `drained` before more is sent."""

    def lost(self) -> None:
        """Hear that the connection is gone."""


class Sink(Protocol):
    """A connection that was taken over from its server.

    While it is not full, `fd` may be written to past it, and only what the kernel did not take, or a fault,
    be left to `write`. It is -1 without a socket, and without a connection: the number may be another's.
    """

    fd: int
    is_full: bool  # some of what was sent waits for the kernel

    def write(self, data: bytes, /) -> None:
        """Send what is in the chunked coding, at once where the kernel has room; in any case in order."""

    async def drained(self) -> None:
        """Wait until the kernel took all that was sent."""

    def close(self) -> None:
        """End the connection once all was sent."""

    def outstanding(self) -> int:
        """Return the bytes sent that the peer has not acknowledged."""

    def silent(self) -> bool:
        """Tell whether the peer seems to be lost."""

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""


class Line:
    """What ends a stream from the connection's side: its client left, or is cut off."""

    __slots__ = ("_last", "_link", "cut", "over")

    def __init__(self, link: "Link | Sink | None") -> None:
        self._link = link
        self._last: asyncio.TimerHandle | None = None
        self.cut: Callable[[], object] | None = None  # ends the stream, while there is one
        self.over = False  # the client left, or was cut off

    def end(self) -> None:
        """End the stream: there is nobody to write to."""
        self.over = True
        if self.cut is not None:
            self.cut()

    def expect_end(self, reason: str) -> None:
        """Cut the connection off unless the stream, which was told to end, does so soon."""
        if self._last is None and reason in LAST_SECONDS:
            self._last = asyncio.get_running_loop().call_later(LAST_SECONDS[reason], self.abort)

    def silent(self) -> bool:
        """Tell whether the peer seems to be lost, though the connection is not."""
        return self._link is not None and self._link.silent()

    def settle(self) -> None:
        """Note that the stream has ended: nothing is left to cut off."""
        self.cut = None
        if self._last is not None:
            self._last.cancel()

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""
        if self._link is not None:
            self._link.abort()
        self.end()


class Connection(Line):
    """One ASGI connection, callable as its `send`.

    Remembers that the client left, and cuts off a reader that takes nothing for the set time.
    """

    __slots__ = ("_receive", "_room", "_send", "http_version", "link", "response")

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.link: Link | None = scope.get("extensions", {}).get("tickertape")
        super().__init__(self.link)
        self.http_version = scope.get("http_version", "")
        self._receive = receive
        self._send = send
        # For the body: Django would keep all of it, and only then refuse it for its size.
        self._room: float = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or float("inf")
        self.response: Outliving | None = None

    async def __call__(self, message: Any) -> None:
        """Send as the server does."""
        await self._send(message)

    async def receive(self) -> Any:
        """Receive, and note a disconnect: it is said only once, and the request may hear it first.

        Of a body that is too large the piece that makes it so is the last one; the rest is dropped.
        """
        message = await self._receive()
        while self._room < 0 and message["type"] == "http.request":
            message = await self._receive()
        if message["type"] == "http.disconnect":
            self.end()
            return message
        self._room -= len(message.get("body", b""))
        return {**message, "more_body": False} if self._room < 0 else message

    async def hear(self) -> None:
        """Listen for the client's leaving."""
        while not self.over:
            await self.receive()

    async def write(self, chunk: bytes) -> None:
        """Write a piece of the body, as soon as the reader's speed allows."""
        await self.pass_on({"type": "http.response.body", "body": chunk, "more_body": True})

    async def pass_on(self, message: Any) -> None:
        """Send as the server does, and cut off a reader that takes nothing meanwhile."""
        watch = StallWatch(self.link, self.abort)
        try:
            await self._send(message)
        finally:
            watch.stop()


class StallWatch:
    """Looks, while a write waits, whether the peer takes anything; cuts it off where not."""

    __slots__ = ("_cut", "_least", "_link", "_since", "_timer")

    def __init__(self, link: Link | Sink | None, cut: Callable[[], None]) -> None:
        self._link = link
        self._cut = cut
        self._least: int | None = None
        self._since = 0.0
        self._again()

    def stop(self) -> None:
        """Stop looking: the write is done."""
        self._timer.cancel()

    def _again(self) -> None:
        wait = settings.STREAMS_STALL_SECONDS / 4
        self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        outstanding = self._link.outstanding() if self._link else 0
        if self._least is None or outstanding < self._least:
            self._least = outstanding
            self._since = now
        elif now - self._since >= settings.STREAMS_STALL_SECONDS * 3 / 4:
            logger.info("A reader that took nothing was cut off.", extra={"outstanding": outstanding})
            self._cut()
            return
        self._again()

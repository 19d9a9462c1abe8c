"""Serve by uvicorn: its flow control is good, its shutdown is ours."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import uvicorn
from django.conf import settings
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from project.link import silent, unacknowledged, with_link

if TYPE_CHECKING:
    from project.serve import Entry
    from streams.connection import Owner

MESSAGES_WAITING = 4  # of a WebSocket's client, before nothing more is read of it
PIECE_BYTES = 512  # of what came: 85 messages more, if they are the smallest


class AsyncioLink:
    """A connection of an asyncio transport."""

    __slots__ = ("_cycle", "_transport")

    def __init__(self, transport: Any, cycle: Any = None) -> None:
        self._transport = transport
        self._cycle = cycle  # uvicorn's: a request and its response

    def outstanding(self) -> int:
        """Return the bytes written that the peer has not acknowledged."""
        connection = self._transport.get_extra_info("socket")
        return int(self._transport.get_write_buffer_size()) + unacknowledged(connection.fileno())

    def silent(self) -> bool:
        """Tell whether the peer seems to be lost."""
        return silent(self._transport.get_extra_info("socket"))

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def take_over(self, owner: "Owner") -> "AsyncioSink | None":
        """Put a sink in the place of uvicorn's protocol, of which nothing is left."""
        transport, cycle, protocol = self._transport, self._cycle, self._transport.get_protocol()
        cycle.response_complete = True  # the application returns, and that is no fault
        if transport.is_closing():
            return None
        sink = AsyncioSink(transport, owner)
        transport.set_protocol(sink)
        transport.set_write_buffer_limits(high=0)  # paused is: the kernel did not take all
        transport.resume_reading()  # or nobody would hear of its end
        protocol.connections.discard(protocol)
        protocol.cycle = protocol.parser = None  # which refer back
        return sink


class AsyncioSink(AsyncioLink, asyncio.Protocol):
    """A connection without uvicorn."""

    __slots__ = ("_owner", "_paused", "_room", "fd", "write")

    def __init__(self, transport: Any, owner: "Owner") -> None:
        super().__init__(transport)
        self._owner: Owner | None = owner
        self.write: Callable[[bytes], None] = (
            transport.write
        )  # at once: nothing may wait, so what does pauses
        # Of the loop's own, which closes it only once it has said that it is lost.
        plain = transport.get_extra_info("ssl_object") is None
        self.fd = transport.get_extra_info("socket").fileno() if plain else -1
        # What waits now may have been said before; that it waits no more is said in any case.
        self._paused = bool(transport.get_write_buffer_size())
        self._room: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Tell whether some of it waits."""
        return self._paused or bool(self._transport.get_write_buffer_size())

    async def drained(self) -> None:
        """Wait until nothing does."""
        while self.is_full:
            if self._paused:
                self._room = asyncio.get_running_loop().create_future()
                await self._room
            else:
                await asyncio.sleep(0)

    def close(self) -> None:
        """End the connection once all was sent."""
        self._transport.close()

    def pause_writing(self) -> None:
        """Hear that the kernel did not take all."""
        self._paused = True
        if self._owner is not None:
            self._owner.full()

    def resume_writing(self) -> None:
        """Hear that it did."""
        self._paused = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Hear that the connection is gone."""
        self.fd = -1
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lost()


class WebSocket(WebSocketsSansIOProtocol):
    """Uvicorn's, which would keep all that a client sends at once, and write a message in one piece."""

    _unread = b""  # came, and waits: reading is paused while there is any

    def data_received(self, data: bytes) -> None:
        """Take what came, as far as somebody takes it from here."""
        self._unread += data
        self._read()

    async def receive(self) -> Any:
        """Return the next message."""
        message = await super().receive()
        self._read()
        return message

    def _read(self) -> None:
        """Make messages of what came; of the smallest there would be thousands in what is read at once."""
        while self._unread and (self.queue.qsize() < MESSAGES_WAITING or self.close_sent):
            if self.transport.is_closing():
                self._unread = b""
                return
            piece, self._unread = self._unread[:PIECE_BYTES], self._unread[PIECE_BYTES:]
            super().data_received(piece)

    async def send(self, message: Any) -> None:
        """Send as uvicorn does, or in pieces as large as the transport's buffer should ever be.

        Raises ClientDisconnected, an OSError, also where one side has said that it closes: who writes may
        not have heard of it, as what the client said before comes first.
        """
        most = settings.STREAMS_WRITE_BYTES
        text = message["text"].encode() if message["type"] == "websocket.send" else b""
        for begin in range(0, len(text) if len(text) > most else 0, most):
            await self.writable.wait()
            if not self._is_open():
                raise ClientDisconnected
            piece, last = text[begin : begin + most], begin + most >= len(text)
            if begin:
                self.conn.send_continuation(piece, fin=last)
            else:
                self.conn.send_text(piece, fin=last)
            self.transport.write(b"".join(self.conn.data_to_send()))
        if len(text) <= most:
            await self.writable.wait()
            if self.handshake_complete and not self._is_open():
                raise ClientDisconnected
            await super().send(message)
            self._read()  # after a close only its answer is waited for

    def _is_open(self) -> bool:
        return not self.disconnected and not self.close_sent and self.conn.state is State.OPEN


def run(entry: "Entry", listener: socket.socket) -> None:
    """Serve by uvicorn until a signal has drained it."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        cycle = getattr(send, "__self__", None)
        transport = getattr(cycle, "transport", None)
        if transport is not None:
            # One write of a stream, not the usual three: it waits in the loop as long as its reader likes.
            transport.set_write_buffer_limits(high=settings.STREAMS_WRITE_BYTES)
            scope = with_link(scope, AsyncioLink(transport, cycle))
        await entry(scope, receive, send)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            await entry.begin()

        def handle_exit(self, sig: int, frame: Any) -> None:
            loop.call_soon_threadsafe(entry.leave, self._stop)

        def _stop(self) -> None:
            self.should_exit = True

    config = uvicorn.Config(
        application,
        lifespan="off",
        ws=WebSocket,
        ws_max_size=settings.STREAMS_MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a compressor is memory, for each connection
        ws_ping_interval=None,  # a reader that is slow is slow to answer a ping, too
        log_config=None,
        access_log=False,  # a query may hold a token
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,  # longer than the proxy in front keeps its side
        timeout_graceful_shutdown=1,  # the drain has been
    )
    loop = config.get_loop_factory()()  # type: ignore[misc]
    asyncio.set_event_loop(loop)
    with contextlib.closing(loop):
        loop.run_until_complete(Server(config).serve(sockets=[listener]))

"""Serve by Daphne, with the flow control that its `send` lacks and a shutdown of ours."""

import asyncio
import io
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

from daphne import http_protocol, ws_protocol
from daphne.server import Server as DaphneServer
from django.conf import settings
from twisted.internet import reactor
from twisted.internet.interfaces import IPushProducer
from twisted.web import http
from zope.interface import implementer

from project.link import silent, unacknowledged, with_link

if TYPE_CHECKING:
    from project.serve import Entry
    from streams.connection import Owner

CLOSE_SECONDS = 5  # an application may take after its client left
NEVER = 10**9  # seconds
OVER = 1000  # RFC 6455, 7.4.1
MESSAGES_WAITING = 4  # of a WebSocket's client, before nothing more is read of it


@implementer(IPushProducer)
class Gate:
    """Opens and closes with the transport's buffer; also the connection's link."""

    __slots__ = ("_open", "_protocol", "_unread")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._unread = 0
        self._open = asyncio.Event()
        self._open.set()

    @property
    def full(self) -> bool:
        """Tell whether nobody takes the client's messages: no more are read of it, nor of what it sent."""
        return self._unread >= MESSAGES_WAITING

    def came(self) -> None:
        """Count a message in."""
        self._unread += 1
        transport = self._transport()
        if self.full and transport is not None:
            transport.pauseProducing()

    def taken(self) -> None:
        """Count a message out."""
        self._unread -= 1
        transport = self._transport()
        if self._unread == MESSAGES_WAITING - 1 and transport is not None:
            transport.resumeProducing()
            self._protocol.consumeData()

    def pauseProducing(self) -> None:  # noqa: N802 (Twisted's name)
        """Hold writers back: the transport's buffer is full."""
        self._open.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        """Let writers go on."""
        self._open.set()

    def stopProducing(self) -> None:  # noqa: N802
        """Let writers go on: there is nobody to write to any more."""
        self._open.set()

    async def passable(self) -> None:
        """Wait until the transport takes more."""
        await self._open.wait()

    def outstanding(self) -> int:
        """Return the bytes written that the peer has not acknowledged."""
        transport = self._transport()
        if transport is None:
            return 0
        return waiting(transport) + unacknowledged(transport.fileno())

    def silent(self) -> bool:
        """Tell whether the peer seems to be lost."""
        transport = self._transport()
        return silent(getattr(transport, "socket", None))  # which a transport that is lost has no more

    def abort(self) -> None:
        """Cut the connection."""
        transport = self._transport()
        if transport is not None:
            transport.abortConnection()

    def take_over(self, owner: "Owner") -> "Sink | None":
        """Put a sink in the place of Twisted's channel, and Daphne's request, of which nothing is left."""
        request, channel = self._protocol, getattr(self._protocol, "channel", None)
        if channel is None or not channel.transport.connected or channel.transport.disconnecting:
            return None
        http.Request.write(request, b"")  # type: ignore[no-untyped-call]  # the head
        transport = channel.transport
        channel.setTimeout(None)
        channel.requests.clear()
        channel.transport = request.channel = request.transport = None
        request.server.connections.pop(request, None)
        return Sink(transport, owner)

    def _transport(self) -> Any:
        if isinstance(self._protocol, ws_protocol.WebSocketProtocol):
            return self._protocol.transport
        channel = getattr(self._protocol, "channel", None)  # Twisted takes it from a request that is over
        return None if channel is None else channel.transport


@implementer(IPushProducer)
class Sink:
    """A connection without Daphne: written to past Twisted, which is asked where the kernel has no room."""

    __slots__ = ("_owner", "_room", "fd", "is_full", "transport")

    def __init__(self, transport: Any, owner: "Owner") -> None:
        self._owner: Owner | None = owner
        self._room: asyncio.Future[None] | None = None
        self.fd = transport.fileno()
        self.is_full = waiting(transport) > 0
        transport.unregisterProducer()
        transport.bufferSize = 0  # paused is: the kernel did not take all
        transport.registerProducer(self, True)
        transport.producerPaused = self.is_full
        transport.protocol = self
        self.transport = transport
        transport.resumeProducing()  # or nobody would hear of its end

    def write(self, data: bytes) -> None:
        """Send something, at once where the kernel has room."""
        if not self.is_full:
            try:
                data = data[os.write(self.fd, data) :]
            except BlockingIOError:
                pass
            except OSError:
                self.abort()  # the client left: Twisted says so soon
                return
        if data:
            self.transport.write(data)

    async def drained(self) -> None:
        """Wait until nothing waits."""
        while self.is_full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def close(self) -> None:
        """End the connection once all was sent."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def outstanding(self) -> int:
        """Return the bytes written that the peer has not acknowledged."""
        return waiting(self.transport) + unacknowledged(self.fd)

    def silent(self) -> bool:
        """Tell whether the peer seems to be lost."""
        return silent(getattr(self.transport, "socket", None))

    def abort(self) -> None:
        """Cut the connection."""
        self.transport.abortConnection()

    def pauseProducing(self) -> None:  # noqa: N802 (Twisted's name)
        """Hear that the kernel did not take all."""
        if not self.is_full:
            self.is_full = True
            if self._owner is not None:
                self._owner.full()

    def resumeProducing(self) -> None:  # noqa: N802
        """Hear that it did."""
        self.is_full = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def stopProducing(self) -> None:  # noqa: N802
        """Hear that there is nobody to write to any more: the connection's loss is told, too."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Hear what a client says that has nothing more to say."""

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """Hear that the connection is gone."""
        self.fd = -1  # the number may soon be another's
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lost()


def waiting(transport: Any) -> int:
    """Return the bytes that a transport of Twisted's has not handed to the kernel."""
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


class Body(io.BytesIO):
    """A request's body: of one that is too large only as much as shows it, in memory."""

    def write(self, data: Any) -> int:
        """Keep what there is room for."""
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        return super().write(data if most is None else data[: max(0, most + 1 - self.tell())])


class Request(http_protocol.WebRequest):  # type: ignore[misc]
    """Daphne's, which would put the body on the disk, whatever its size, and read forms out of it."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{**more, "parsePOSTFormSubmission": False})

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        """Begin the body."""
        self.content = Body()


class WebSocket(ws_protocol.WebSocketProtocol):  # type: ignore[misc]
    """Daphne's, which would keep all that a client sends, read or not."""

    def onConnect(self, request: Any) -> Any:  # noqa: N802
        """Begin; whoever breaks the protocol's rules is told by which code, as RFC 6455 has it."""
        self.failByDrop = False
        return super().onConnect(request)

    def processData(self) -> bool:  # noqa: N802
        """Take a frame of what was read, where there is room; of the smallest, one read holds thousands."""
        return not (self.state == self.STATE_OPEN and self.gate.full) and super().processData()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """Hand a message on."""
        if not self.muted:
            self.gate.came()
        super().onMessage(payload, isBinary)

    def onClose(self, *how: Any) -> None:  # noqa: N802
        """End; and let go who writes: nobody else does where the client closed in the middle of a message."""
        if hasattr(self, "gate"):
            self.gate.stopProducing()
        super().onClose(*how)

    def serverClose(self, code: int | None = None) -> None:  # noqa: N802
        """Close with any code: autobahn keeps those of servers, as 1001 and 1013, from its users."""
        self.sendCloseFrame(code=code or OVER)


class Server(DaphneServer):  # type: ignore[misc]
    """Daphne whose `send` waits for a transport that is full."""

    def create_application(self, protocol: Any, scope: Any) -> Any:
        """Give the application the connection's link."""
        protocol.gate = Gate(protocol)
        if scope["type"] == "websocket":
            protocol.transport.unregisterProducer()  # HTTP's, which went before
            protocol.transport.registerProducer(protocol.gate, True)
        return super().create_application(protocol, with_link(scope, protocol.gate))

    async def handle_reply(self, protocol: Any, message: Any) -> None:
        """Write as Daphne does; then wait until the transport takes more."""
        gate: Gate = protocol.gate
        if message["type"] == "websocket.send":
            await self._send_text(protocol, message["text"].encode())
            return
        streaming = message["type"] == "http.response.body"
        more = message.get("more_body", False)
        if streaming and more and protocol.producer is None and protocol.channel is not None:
            protocol.registerProducer(gate, True)
        elif streaming and not more and protocol.producer is not None:
            protocol.unregisterProducer()
        await super().handle_reply(protocol, message)
        if streaming and more:
            await gate.passable()

    async def _send_text(self, protocol: Any, text: bytes) -> None:
        """Send a message, in pieces as large as the transport's buffer should ever be."""
        protocol.beginMessage(isBinary=False)
        for begin in range(0, len(text), settings.STREAMS_WRITE_BYTES):
            protocol.sendMessageFrame(text[begin : begin + settings.STREAMS_WRITE_BYTES])
            await protocol.gate.passable()
        protocol.endMessage()

    def kill_all_applications(self) -> None:
        """Cancel what still runs; Daphne's own trips over connections whose application has ended."""
        for details in self.connections.values():
            running = details.get("application_instance")
            if running is not None and not running.done():
                running.cancel()


def run(entry: "Entry", listener: socket.socket) -> None:
    """Serve by Daphne until a signal has drained it."""
    # Daphne's factories know no other way to be given one.
    http_protocol.WebRequest = Request
    ws_protocol.WebSocketFactory.protocol = WebSocket

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def taking() -> Any:
            message = await receive()
            if message["type"] == "websocket.receive":
                scope["extensions"]["tickertape"].taken()
            return message

        await entry(scope, taking, send)

    server = Server(
        application,
        endpoints=[f"fd:fileno={listener.detach()}"],  # Twisted closes it
        signal_handlers=False,
        server_name="",
        application_close_timeout=CLOSE_SECONDS,
        # A stream ends by itself, and a reader that is slow is slow to answer a ping, too.
        websocket_timeout=-1,
        ping_interval=NEVER,
        websocket_max_message_size=settings.STREAMS_MAX_MESSAGE_BYTES,
        websocket_max_frame_size=settings.STREAMS_MAX_MESSAGE_BYTES,
    )
    loop = reactor._asyncioEventloop
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, entry.leave, server.stop)
    reactor.callWhenRunning(entry.start, server.stop)
    server.run()

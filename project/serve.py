"""Our server entry: Daphne (the default) or uvicorn, with what neither has.

Both get a listening socket whose connections hold little in the kernel and notice a peer that
vanished, a link by which a stream can see what its reader takes and cut it off, and a drain on
SIGTERM: streams are told to come back elsewhere, over a time, before the process ends. Daphne
gets the flow control that its `send` lacks.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import struct
import sys
import termios
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)

BACKLOG = 4096  # a storm of reconnects arrives within a second
REQUEST_SECONDS = 4.0  # after the streams: for requests that are still running


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket whose accepted connections inherit its bounds."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The kernel parks up to 4 MB for a peer that never reads, unless told otherwise.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.SERVE_SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A peer that vanished without a FIN: heartbeats stay unacknowledged for so long (RFC 5482).
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.SERVE_USER_TIMEOUT_SECONDS * 1000
        )
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def unacknowledged(fd: int) -> int:
    """Return the bytes in a socket's send queue (Linux and macOS; 0 elsewhere)."""
    with contextlib.suppress(OSError, AttributeError):
        (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))
        return int(size)
    return 0


class Entry:
    """The application as the server calls it: counts what runs, and drains."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._running = 0
        self._leaving: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or connection."""
        self._running += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._running -= 1

    async def begin(self) -> None:
        """Start the hub, so that the first stream finds it running."""
        from streams import switchboard

        await switchboard.hub()

    async def drain(self) -> None:
        """End the streams over the set time, then wait a little for requests; close the hub."""
        from streams import switchboard

        hub = await switchboard.hub()
        logger.info("Draining.", extra={"streams": hub.connections})
        await hub.drain(settings.STREAMS_DRAIN_SECONDS)
        deadline = time.monotonic() + REQUEST_SECONDS
        while self._running and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await hub.stop()

    def leave(self, stop: Any) -> None:
        """Drain once, whatever number of signals comes; then call `stop`."""

        async def leaving() -> None:
            try:
                await self.drain()
            finally:
                stop()

        if self._leaving is None:
            self._leaving = asyncio.ensure_future(leaving())


def with_link(scope: Any, link: Any) -> Any:
    """Return the scope with the connection's link in it."""
    return {**scope, "extensions": {**scope.get("extensions", {}), "tickertape": link}}


# --- uvicorn ------------------------------------------------------------------------------------


class AsyncioLink:
    """A connection of an asyncio transport."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def outstanding(self) -> int:
        """Return the bytes written that the peer has not acknowledged."""
        connection = self._transport.get_extra_info("socket")
        return int(self._transport.get_write_buffer_size()) + unacknowledged(connection.fileno())

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()


def run_uvicorn(entry: Entry, listener: socket.socket) -> None:
    """Serve by uvicorn until a signal has drained it."""
    import uvicorn

    async def application(scope: Any, receive: Any, send: Any) -> None:
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if scope["type"] == "http" and transport is not None:
            scope = with_link(scope, AsyncioLink(transport))
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
        ws="none",
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


# --- Daphne -------------------------------------------------------------------------------------


def run_daphne(entry: Entry, listener: socket.socket) -> None:
    """Serve by Daphne until a signal has drained it."""
    from daphne.server import Server as DaphneServer
    from twisted.internet import reactor
    from twisted.internet.interfaces import IPushProducer
    from zope.interface import implementer

    @implementer(IPushProducer)
    class Gate:
        """Opens and closes with the transport's buffer; also the connection's link."""

        def __init__(self, protocol: Any) -> None:
            self._protocol = protocol
            self._open = asyncio.Event()
            self._open.set()

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
            waiting = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
            return int(waiting) + unacknowledged(transport.fileno())

        def abort(self) -> None:
            """Cut the connection."""
            transport = self._transport()
            if transport is not None:
                transport.abortConnection()

        def _transport(self) -> Any:
            channel = self._protocol.channel
            return None if channel is None else channel.transport

    class Server(DaphneServer):  # type: ignore[misc]
        def create_application(self, protocol: Any, scope: Any) -> Any:
            if scope["type"] == "http":
                protocol.gate = Gate(protocol)
                scope = with_link(scope, protocol.gate)
            return super().create_application(protocol, scope)

        async def handle_reply(self, protocol: Any, message: Any) -> None:
            gate = getattr(protocol, "gate", None)
            if gate is None or message["type"] != "http.response.body":
                await super().handle_reply(protocol, message)
                return
            if message.get("more_body"):
                if protocol.producer is None and protocol.channel is not None:
                    protocol.registerProducer(gate, True)
            elif protocol.producer is not None:
                protocol.unregisterProducer()
            await super().handle_reply(protocol, message)
            if message.get("more_body"):
                await gate.passable()

        def kill_all_applications(self) -> Any:
            # Daphne's own trips over connections whose application has ended.
            for details in self.connections.values():
                running = details.get("application_instance")
                if running is not None and not running.done():
                    running.cancel()

    server = Server(
        entry,
        endpoints=[f"fd:fileno={listener.fileno()}"],
        signal_handlers=False,
        server_name="",
        application_close_timeout=5,
    )
    loop = reactor._asyncioEventloop
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, entry.leave, server.stop)
    reactor.callWhenRunning(lambda: asyncio.ensure_future(entry.begin()))
    server.run()


def main() -> int:
    """Serve on HOST and PORT by WEB_SERVER; return the process's exit status."""
    try:
        from project.asgi import application

        listener = listen(settings.HOST, settings.PORT)
    except ImproperlyConfigured as error:
        print(f"tickertape: {error}", file=sys.stderr)  # noqa: T201 (before there are logs)
        return 1
    except OSError as error:
        where = f"{settings.HOST}:{settings.PORT}"
        print(f"tickertape: cannot listen on {where}: {error.strerror}.", file=sys.stderr)  # noqa: T201
        return 1
    logger.info(
        "Serving.", extra={"server": settings.WEB_SERVER, "host": settings.HOST, "port": settings.PORT}
    )
    entry = Entry(application)
    if settings.WEB_SERVER == "uvicorn":
        run_uvicorn(entry, listener)
    else:
        run_daphne(entry, listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Our server entry: Daphne (the default) or uvicorn, with what neither has.

Both get a listening socket whose connections hold little in the kernel and notice a peer that
vanished, a link by which a stream can see what its reader takes and cut it off, and a drain on
SIGTERM: streams are told to come back elsewhere, over a time, before the process ends. Daphne
gets the flow control that its `send` lacks.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from importlib import import_module
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from project.startup import settle

logger = logging.getLogger("project.serve")  # also as __main__

BACKLOG = 4096  # a storm of reconnects arrives within a second
STOP_SECONDS = 1.0  # for closing what the hub holds
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


def pool_connections() -> None:
    """Keep the requests' database connections in a pool.

    Only here: workers fork, and a pool does not survive that. And only here somebody waits for an
    answer, so a database that gives none is given up.
    """
    from events.patience import PatientConnection

    settings.DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 1,
        "max_size": settings.DATABASE_POOL_SIZE,
        "timeout": settings.DATABASE_CONNECT_SECONDS,  # then 503
        "reconnect_timeout": 0,
        "connection_class": PatientConnection,
    }


class Entry:
    """The application as the server calls it: counts what runs, and drains."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._leaving: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self.failed = False  # to begin

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or connection."""
        self._running += 1
        self._idle.clear()
        try:
            await self._application(scope, receive, send)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def begin(self) -> None:
        """Load what requests need and start the hub, so that the first one finds it all there."""
        from streams import switchboard

        import_module(settings.ROOT_URLCONF)
        await switchboard.hub()
        settle()

    def start(self, stop: Any) -> None:
        """Begin, in the background; where that fails, say so and call `stop`: nobody would be served."""

        async def starting() -> None:
            try:
                await self.begin()
            except Exception:
                logger.exception("The process could not begin; it ends.")
                self.failed = True
                stop()

        self._starting = asyncio.ensure_future(starting())

    async def drain(self) -> None:
        """End the streams over the set time, then wait a little for requests; close the hub."""
        from streams import switchboard

        hub = await switchboard.hub()
        logger.info("Draining.", extra={"streams": hub.connections})
        await hub.drain(settings.STREAMS_DRAIN_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REQUEST_SECONDS):
                await hub.audience.gone.wait()
                await self._idle.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):  # a database that hangs does not keep us
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


def main() -> int:
    """Serve on HOST and PORT by WEB_SERVER; return the process's exit status."""
    try:
        pool_connections()
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
        from project import by_uvicorn as server
    else:
        from project import by_daphne as server  # type: ignore[no-redef]
    with listener:
        server.run(entry, listener)
    return int(entry.failed)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: Python would wait for threads that wait for a database that hangs.
    os._exit(status)

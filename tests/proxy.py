"""A network that can fail: a TCP proxy in front of a server, which cuts and refuses at will.

A browser's own "offline" switch leaves open streams alone; this does to a connection what a
lost network does.
"""

import contextlib
import socket
import threading
from typing import Self
from urllib.parse import urlsplit

from project.embedded import free_port

Pair = tuple[socket.socket, socket.socket]


class Proxy:
    """Forwards connections to a base URL's host and port; use as a context manager."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._lock = threading.Lock()
        self._pairs: set[Pair] = set()
        self._listener: socket.socket | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.restore()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut()

    @property
    def url(self) -> str:
        """Return the base URL to use in place of the server's."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """Return how many connections are open now."""
        with self._lock:
            return len(self._pairs)

    def restore(self) -> None:
        """Take connections, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Not any port: while it is cut, an outgoing connection could get it.
        listener.bind(("127.0.0.1", self._port or free_port()))
        listener.listen(128)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def lead(self, target: str) -> None:
        """Forward new connections to another base URL; those there are stay where they are."""
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)

    def cut(self) -> None:
        """Break every connection off, and refuse new ones until `restore`."""
        if self._listener is not None:
            # Closing alone does not wake the thread that accepts.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            _close(*pair)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
                cut = self._listener is not listener
            if cut:  # while this one was on its way in
                _close(*pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(source, sink, pair), daemon=True).start()

    def _passes(self, chunk: bytes, source: socket.socket, sink: socket.socket, pair: Pair) -> bool:
        """Tell whether to pass on a piece of what `source` sends to `sink`; raise OSError to cut them off."""
        return True

    def _pump(self, source: socket.socket, sink: socket.socket, pair: Pair) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if self._passes(chunk, source, sink, pair):
                    sink.sendall(chunk)
        _close(*pair)
        with self._lock:
            self._pairs.discard(pair)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()

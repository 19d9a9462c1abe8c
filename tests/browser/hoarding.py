"""A proxy of the kind that keeps an answer back until it is whole: a stream never is."""

import socket

from tests.proxy import Pair, Proxy

HELD = (b"GET /streams/?", b"GET /streams/me/")
REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Hoarder(Proxy):
    """Passes everything on but streams; WebSockets too, unless they are not to be."""

    def __init__(self, target: str, *, websockets: bool) -> None:
        super().__init__(target)
        self.websockets = websockets
        self._held: set[Pair] = set()

    def _passes(self, chunk: bytes, source: socket.socket, sink: socket.socket, pair: Pair) -> bool:
        if source is pair[1]:
            return pair not in self._held
        if chunk.startswith(HELD):
            self._held.add(pair)
        if not self.websockets and b"\r\nupgrade: websocket\r\n" in chunk.lower():
            source.sendall(REFUSED)
            raise OSError
        return True

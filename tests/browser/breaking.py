"""A proxy that breaks answers off in their middle, as one does that loses its server."""

import socket

from tests.proxy import Pair, Proxy


class Breaking(Proxy):
    """Breaks the first answers to some request off, a few bytes behind their head, until `left` is 0."""

    def __init__(self, target: str, request: bytes, *, left: int = 2) -> None:
        super().__init__(target)
        self.broken = 0
        self.left = left
        self._request = request  # part of a request's first line
        self._asking: set[Pair] = set()

    def _passes(self, chunk: bytes, source: socket.socket, sink: socket.socket, pair: Pair) -> bool:
        if source is pair[0]:
            first = chunk.partition(b"\r\n")[0]
            if first.endswith(b" HTTP/1.1"):  # else it is the rest of one: its body comes by itself
                (self._asking.add if self._request in first else self._asking.discard)(pair)
        elif pair in self._asking and self.left:
            self.left -= 1
            self.broken += 1
            head, found, _ = chunk.partition(b"\r\n\r\n")
            sink.sendall(head + found + b"{")
            raise OSError
        return True

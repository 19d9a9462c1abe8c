"""Who posts: a process of its own that keeps some connections busy, each with one request at a time."""

import selectors
import socket
import time
from dataclasses import dataclass

from bench.crowd import Told, serve

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Posted:
    """What was answered by 201, in how long."""

    requests: int
    seconds: float


class Poster(Told):
    """The parent's side; a context manager."""

    def __init__(self, address: tuple[str, int], *, core: int, connections: int) -> None:
        super().__init__(serve, core, _Work, (address, connections), {})

    def post(self, path: str, body: bytes, headers: dict[str, str], *, seconds: float) -> Posted:
        """Post the same again and again for so long."""
        posted: Posted = self.tell("post", path, body, headers, seconds)
        return posted


class _Work:
    """The child's side."""

    def __init__(self, address: tuple[str, int], connections: int) -> None:
        self._host = f"{address[0]}:{address[1]}"
        self._links = [socket.create_connection(address, timeout=30) for _ in range(connections)]
        self._ready = selectors.DefaultSelector()
        for link in self._links:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ready.register(link, selectors.EVENT_READ)

    def post(self, path: str, body: bytes, headers: dict[str, str], seconds: float) -> Posted:
        said = {"Host": self._host, "Content-Type": "application/json", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        head = f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        rest = dict.fromkeys(self._links, b"")
        began = time.monotonic()
        for link in self._links:
            link.sendall(request)
        done, busy, links = 0, len(self._links), {link.fileno(): link for link in self._links}
        while busy:
            for key, _ in self._ready.select(30):
                link = links[key.fd]
                got = link.recv(65536)
                if not got:
                    raise OSError("the server closed a connection")
                rest[link] += got
                if not _whole(rest[link]):
                    continue
                if not rest[link].startswith(b"HTTP/1.1 201"):
                    raise OSError(f"a post was refused: {rest[link][:300]!r}")
                rest[link] = b""
                done += 1
                if time.monotonic() - began < seconds:
                    link.sendall(request)
                else:
                    busy -= 1
        return Posted(done, time.monotonic() - began)


def _whole(answer: bytes) -> bool:
    """Tell whether an answer is there to its end."""
    head, end, body = answer.partition(HEAD_END)
    if not end:
        return False
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
    return body.endswith(b"0\r\n\r\n")  # in chunks

"""The HTTP around a stream: its request, its head, and the body out of its chunks, however it is split.

Chunks are RFC 9112's (7.1).
"""


def opening(address: tuple[str, int], path: str, *headers: str) -> bytes:
    """Return the request that opens a stream; a header that is empty is none."""
    host = f"Host: {address[0]}:{address[1]}"
    lines = [f"GET {path} HTTP/1.1", host, "Accept: text/event-stream", *filter(None, headers)]
    return "\r\n".join([*lines, "", ""]).encode()


def resuming(last_event_id: str) -> str:
    """Return the header of who comes back; none where there is nothing to come back to."""
    return f"Last-Event-ID: {last_event_id}" if last_event_id else ""


class Refused(Exception):
    """A stream was not opened; the text is the answer's first line."""


class Body:
    """Takes an answer apart. `need` is what is left of the present chunk; None: the body is not chunked."""

    __slots__ = ("begun", "need", "rest")

    def __init__(self) -> None:
        self.begun = False  # the head has come
        self.need: int | None = None
        self.rest = b""  # of the head, or of what stands between two chunks

    def feed(self, raw: bytes) -> bytes:
        """Return what a piece adds to the body. Raises Refused."""
        if self.begun and self.need is None:
            return raw
        data = self.rest + raw if self.rest else raw
        self.rest = b""
        if not self.begun:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.rest = head
                return b""
            if b" 200" not in head.partition(b"\r\n")[0]:
                raise Refused(head.partition(b"\r\n")[0].decode(errors="replace"))
            self.begun = True
            if b"transfer-encoding: chunked" not in head.lower():
                return data
            self.need = 0
        return self._pieces(data)

    def _pieces(self, data: bytes) -> bytes:
        need = self.need or 0
        if need >= len(data):
            self.need = need - len(data)
            return data
        if not need and data.endswith(b"\r\n") and data[:1] != b"\r":
            # Nearly always: one chunk, and all of it.
            end = data.index(b"\r\n")
            if len(data) == end + 4 + int(data[:end], 16):
                return data[end + 2 : -2]
        found = []
        place = 0
        while True:
            if need:
                piece = data[place : place + need]
                found.append(piece)
                place += len(piece)
                need -= len(piece)
            if place == len(data):
                break
            # Between two chunks: the end of the one, if it is not the first, and the size of the next.
            begin = place + 2 if data.startswith(b"\r\n", place) else place
            end = data.find(b"\r\n", begin)
            if end < 0 or data[place:] == b"\r":
                self.rest = data[place:]
                break
            need = int(data[begin:end], 16)
            place = end + 2
        self.need = need
        return found[0] if len(found) == 1 else b"".join(found)

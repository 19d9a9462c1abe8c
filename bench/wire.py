"""The HTTP around a stream: its request, its head, and the body out of its chunks, however it is split.

Chunks are RFC 9112's (7.1).
"""

LINE_END = b"\r\n"


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
    """Takes an answer apart. `need` is what is left of a chunk and its end; None: the body has no chunks."""

    __slots__ = ("begun", "need", "rest")

    def __init__(self) -> None:
        self.begun = False  # the head has come
        self.need: int | None = None
        self.rest = b""  # of the head, or of a chunk's size

    def feed(self, raw: bytes) -> bytes:
        """Return what a piece adds to the body. Raises Refused."""
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
            if b"transfer-encoding: chunked" in head.lower():
                self.need = 0
        parts = self.parts(data, len(data))
        if len(parts) == 1:
            return data[parts[0][0] : parts[0][1]]
        return b"".join([data[begin:end] for begin, end in parts])

    def parts(self, data: bytes | bytearray, size: int) -> list[tuple[int, int]]:
        """Return where the body begins and ends in a piece of so many bytes: past the head, nothing rests."""
        need = self.need
        if need is None:
            return [(0, size)]
        found = []
        place = 0
        while True:
            if need:
                end = place + need
                text = min(end - len(LINE_END), size)
                if text > place:
                    found.append((place, text))
                ends = max(place, end - len(LINE_END))
                if ends < size and not LINE_END.startswith(data[ends : min(end, size)], ends - end):
                    raise ValueError("a chunk is longer than it says")
                if end >= size:
                    self.need = end - size
                    return found
                place = end
            end = data.find(LINE_END, place, size)
            if end < 0:
                self.need, self.rest = 0, bytes(data[place:size])
                return found
            need = int(data[place:end], 16) + len(LINE_END)
            place = end + len(LINE_END)

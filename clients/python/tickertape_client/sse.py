"""Reading a `text/event-stream` as the standard has it (WHATWG HTML, 9.2.6). Pure.

httpx-sse opens our streams, but reads them otherwise than browsers do: it keeps a byte order mark, heeds
a charset other than UTF-8, takes `retry: -1` for a number, makes an event of a block without data, cannot
tell that from one whose data is empty, and holds back a block that ends with CR. So the bytes are read here.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile("\r\n|\n|\r")
_DIGITS = re.compile("[0-9]+")


@dataclass(frozen=True, slots=True)
class Block:
    """What a blank line ended. Without data (None) it is no event, but its id counts.

    `id` is the last one given, in this block or before it.
    """

    event: str
    data: str | None
    id: str


class Decoder:
    """One connection's bytes, in pieces of any size, to blocks."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: int | None = None  # milliseconds
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._after_cr = False
        self._rest: list[str] = []  # of a line whose end has not come
        self._event = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """Yield the blocks that end in a piece; take all of them before the next piece."""
        for line in self._lines(self._utf8.decode(chunk)):
            if line:
                self._field(line)
                continue
            self.last_id = self._id
            yield Block(self._event or "message", "\n".join(self._data) if self._data else None, self._id)
            self._event, self._data = "", []

    def _lines(self, text: str) -> list[str]:
        if not text:
            return []
        # A CR ends its line at once; an LF that comes in the next piece belongs to it.
        begin = 1 if self._after_cr and text[0] == "\n" else 0
        self._after_cr = text[-1] == "\r"
        first, *others = _LINE_END.split(text[begin:])
        self._rest.append(first)
        if not others:
            return []
        *whole, rest = others
        lines = ["".join(self._rest), *whole]
        self._rest = [rest]
        return lines

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if _DIGITS.fullmatch(value):
                self.retry = int(value)

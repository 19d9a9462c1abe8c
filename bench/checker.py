"""Whether a stream brought each event once and in order, by every byte of it, and how late.

Readers of one channel are to get the same bytes. So the first to come so far writes them on a `Tape`, where
each event's number must be one more than the last, and what all others read must equal it: one comparison
for whatever came, however it is split. A reader that differs is looked at block by block: what says nothing
of ours (a heartbeat) may differ, anything else is a fault, and from then on the reader is checked alone,
by the numbers that it reads.
"""

from bisect import bisect_left, bisect_right
from collections import Counter

from bench.payload import EVENT

END = b"\n\n"  # of a block


class Tape:
    """The bytes of a channel's events since the last mark, and where each of them ends."""

    def __init__(self, last: int | None = None) -> None:
        self.text = bytearray()
        self.last = last  # the number of the last event, of the mark before at first; None: any may come
        self.ends: list[int] = []
        self.stamps: list[int] = []

    def begin(self) -> None:
        """Mark: forget what came, but not where the numbers stand. Its readers must have read all."""
        self.text.clear()
        self.ends.clear()
        self.stamps.clear()

    def takes(self, block: bytes, number: int, stamp: int) -> bool:
        """Write the next event; refuse one that is not the next."""
        if self.last is not None and number != self.last + 1:
            return False
        self.last = number
        self.text += block
        self.ends.append(len(self.text))
        self.stamps.append(stamp)
        return True

    def count(self, offset: int) -> int:
        """Return how many events end at or before an offset."""
        return bisect_right(self.ends, offset)

    def boundary(self, offset: int) -> int:
        """Return where the event begins that an offset is in, or at the beginning of."""
        whole = self.count(offset)
        return self.ends[whole - 1] if whole else 0

    def number(self, offset: int) -> int | None:
        """Return the number of the last event that ends at or before an offset."""
        return None if self.last is None else self.last - len(self.ends) + self.count(offset)


class Alone:
    """One reader, checked by the numbers that it reads."""

    __slots__ = ("count", "faults", "last", "late", "missing", "rest")

    def __init__(self, faults: Counter[str], last: int | None = None) -> None:
        self.faults = faults
        self.last = last
        self.rest = b""
        self.count = 0
        self.missing: set[int] = set()
        self.late: list[int] = []  # each event's nanoseconds from its publisher to here

    def begin(self) -> None:
        """Mark: forget what was counted."""
        self.count = 0
        self.late.clear()

    def feed(self, body: bytes, now: int) -> None:
        """Take what was read at a moment."""
        data = self.rest + body if self.rest else body
        cut = data.rfind(END) + len(END)
        if cut < len(END):
            self.rest = data
            return
        self.rest = data[cut:]
        for number, stamp in EVENT.findall(data, 0, cut):
            self._take(int(number))
            self.late.append(now - int(stamp))

    def _take(self, number: int) -> None:
        self.count += 1
        last = self.last
        if last is None or number == last + 1:
            self.last = number
        elif number > last:
            self.faults["gap"] += number - last - 1
            self.missing.update(range(last + 1, number))
            self.last = number
        elif number in self.missing:
            self.faults["disorder"] += 1
            self.missing.discard(number)
        else:
            self.faults["duplicate"] += 1


class Follower:
    """One reader of many of a channel, checked against its tape."""

    __slots__ = ("alone", "faults", "marks", "offset", "rest", "tape")

    def __init__(self, tape: Tape, faults: Counter[str], *, sampled: bool = False) -> None:
        self.tape = tape
        self.faults = faults
        self.offset = 0  # readers come while nothing is published, or want all that the tape will have
        self.rest = b""
        self.alone: Alone | None = None
        self.marks: list[tuple[int, int]] | None = [] if sampled else None

    def begin(self) -> None:
        """Mark, after the tape."""
        self.offset = 0
        if self.alone is not None:
            self.alone.begin()
        if self.marks is not None:
            self.marks.clear()

    @property
    def last(self) -> int | None:
        """Return the number of the last event that was read whole."""
        return self.tape.number(self.offset) if self.alone is None else self.alone.last

    @property
    def count(self) -> int:
        """Return how many events were read since the mark."""
        return self.tape.count(self.offset) + (0 if self.alone is None else self.alone.count)

    @property
    def late(self) -> list[int]:
        """Return each event's nanoseconds from its publisher to here, if this reader is sampled."""
        found: list[int] = []
        whole = 0
        for offset, now in self.marks or ():
            upto = self.tape.count(offset)
            found += [now - stamp for stamp in self.tape.stamps[whole:upto]]
            whole = upto
        return found

    def feed(self, body: bytes | memoryview, now: int) -> None:
        """Take what was read at a moment."""
        if self.alone is not None:
            self.alone.feed(bytes(body), now)
        elif not self._follows(body):
            self._read(self.rest + body, now)

    def mark(self, now: int) -> None:
        """Note how far this reader is at a moment, if it is sampled: after whatever it was fed then."""
        if self.marks is not None and self.alone is None:
            self.marks.append((self.offset, now))

    def _follows(self, piece: bytes | memoryview) -> bool:
        """Take what the tape has next; tell whether it was that. No byte of it is copied."""
        text = self.tape.text
        if self.rest:
            if not text.startswith(self.rest, self.offset):
                return False
            self.offset += len(self.rest)  # another reader got the end of that block, and put it on the tape
            self.rest = b""
        if not text.startswith(piece, self.offset):
            return False
        self.offset += len(piece)
        return True

    def _read(self, data: bytes, now: int) -> None:
        """Take what is not on the tape as it stands: it may be longer than the tape, or differ."""
        text, known = self.tape.text, len(self.tape.text) - self.offset
        place = 0
        if known < len(data) and text.startswith(memoryview(data)[:known], self.offset):
            place, self.offset = known, len(text)
        else:
            begin = self.tape.boundary(self.offset)
            data = bytes(text[begin : self.offset]) + data
            self.offset = begin
        while (end := data.find(END, place) + len(END)) >= len(END):
            if not self._takes(data[place:end]):
                self._go_alone(data[place:], now)
                return
            place = end
        self.rest = data[place:]

    def _takes(self, block: bytes) -> bool:
        if self.tape.text.startswith(block, self.offset):
            self.offset += len(block)
            return True
        event = EVENT.search(block)
        if event is None:
            return True  # no event: it may differ
        if self.offset < len(self.tape.text) or not self.tape.takes(block, int(event[1]), int(event[2])):
            return False
        self.offset = len(self.tape.text)
        return True

    def _go_alone(self, data: bytes, now: int) -> None:
        self.rest = b""
        self.alone = Alone(self.faults, self.tape.number(self.offset))
        before = self.faults.total()
        self.alone.feed(data, now)
        if self.faults.total() == before and self._expected(data):
            self.faults["altered"] += 1  # the right number, and other bytes

    def _expected(self, data: bytes) -> bool:
        """Tell whether the tape has the event that begins the data, by its number and not by its bytes."""
        event = EVENT.search(data)
        on_tape = bisect_left(self.tape.ends, self.offset + 1) < len(self.tape.ends)
        return event is not None and on_tape

"""The ring: the newest events in memory, so that most replays read no table.

It holds every event in (`start`, `end`], all channels; bounded by count and by bytes. Which channels they are
of is noted when somebody asks: most that come on a busy day go again before anybody did.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice

from streams.batch import Published

OVERHEAD_BYTES = 300  # of one event besides its frame: tuple, channel names, a lane's slot


class Ring:
    """Recent frames by channel."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.clear(0)

    def clear(self, position: int) -> None:
        """Forget everything, and go on after `position`."""
        self.start = position
        self.end = position
        self.bytes = 0
        self._events: deque[Published] = deque()
        self._lanes: dict[str, deque[Published]] = {}
        self._unsorted = 0  # of the newest events: not in their lanes yet

    def __len__(self) -> int:
        return len(self._events)

    def extend(self, events: Sequence[Published], last: int) -> None:
        """Take the events that follow, up to and including position `last`."""
        self._events.extend(events)
        self._unsorted += len(events)
        self.bytes += sum([len(event.frame) for event in events]) + OVERHEAD_BYTES * len(events)
        self.end = last
        self._drop()

    def forget_below(self, oldest: int) -> None:
        """Drop what the log no longer keeps: everything below `oldest`."""
        self._drop(below=oldest)
        self.start = max(self.start, min(oldest - 1, self.end))

    def _drop(self, *, below: int = 0) -> None:
        """Drop the oldest events: those below a position, and what is too much."""
        events, lanes, size = self._events, self._lanes, self.bytes
        most, most_bytes = self.max_events, self.max_bytes
        while events and (len(events) > most or size > most_bytes or events[0].position < below):
            self.start, channels, frame = events.popleft()
            size -= len(frame) + OVERHEAD_BYTES
            if len(events) < self._unsorted:
                self._unsorted -= 1
                continue
            for channel in channels:
                lane = lanes[channel]
                lane.popleft()
                if not lane:
                    del lanes[channel]
        self.bytes = size

    def _sort(self) -> None:
        """Put what came since somebody asked last into its lanes."""
        newest = list(islice(reversed(self._events), self._unsorted))
        self._unsorted = 0
        for event in reversed(newest):
            for channel in event.channels:
                self._lanes.setdefault(channel, deque()).append(event)

    def after(self, channels: Iterable[str], position: int) -> list[Published]:
        """Return the events of the channels above a position (which must be in the ring), in order."""
        return list(self._after(channels, position))

    def page(self, channels: Iterable[str], position: int, *, max_bytes: int) -> tuple[list[bytes], int]:
        """Return frames above a position and the position up to which they are all there are."""
        frames: list[bytes] = []
        size = 0
        covered_to = position
        for event in self._after(channels, position):
            size += len(event.frame)
            if frames and size > max_bytes:
                return frames, covered_to
            frames.append(event.frame)
            covered_to = event.position
        return frames, max(self.end, position)

    def _after(self, channels: Iterable[str], position: int) -> Iterator[Published]:
        self._sort()
        found = [self._lanes[channel] for channel in channels if channel in self._lanes]
        lanes = [_above(lane, position) for lane in found if lane[-1].position > position]
        if len(lanes) == 1:
            yield from lanes[0]
            return
        for event in merge(*lanes, key=_position):
            # An event of several channels stands in several lanes: once is enough.
            if event.position > position:
                position = event.position
                yield event


def _above(lane: deque[Published], position: int) -> Iterator[Published]:
    # By halving and by number: a reader asks for a piece at a time, and a lane may be long.
    first = bisect_right(lane, position, key=_position)
    return (lane[at] for at in range(first, len(lane)))


def _position(event: Published) -> int:
    return event.position

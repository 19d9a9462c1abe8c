"""The ring: the newest events in memory, so that most replays read no table.

It holds every event in (`start`, `end`], all channels; bounded by count and by bytes.
"""

from collections import deque
from collections.abc import Iterable

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

    def __len__(self) -> int:
        return len(self._events)

    def extend(self, events: Iterable[Published], last: int) -> None:
        """Take the events that follow, up to and including position `last`."""
        for event in events:
            self._events.append(event)
            self.bytes += len(event.frame) + OVERHEAD_BYTES
            for channel in event.channels:
                self._lanes.setdefault(channel, deque()).append(event)
        self.end = last
        while len(self._events) > self.max_events or (self.bytes > self.max_bytes and self._events):
            self._drop_oldest()

    def forget_below(self, oldest: int) -> None:
        """Drop what the log no longer keeps: everything below `oldest`."""
        while self._events and self._events[0].position < oldest:
            self._drop_oldest()
        self.start = max(self.start, min(oldest - 1, self.end))

    def _drop_oldest(self) -> None:
        event = self._events.popleft()
        self.start = event.position
        self.bytes -= len(event.frame) + OVERHEAD_BYTES
        for channel in event.channels:
            lane = self._lanes[channel]
            lane.popleft()
            if not lane:
                del self._lanes[channel]

    def after(self, channels: Iterable[str], position: int) -> list[Published]:
        """Return the events of the channels above a position (which must be in the ring), in order."""
        found: list[Published] = []
        lanes = 0
        for channel in channels:
            newer = []
            for event in reversed(self._lanes.get(channel, ())):
                if event.position <= position:
                    break
                newer.append(event)
            if newer:
                lanes += 1
                newer.reverse()
                found += newer
        if lanes > 1:
            # An event of several channels stands in several lanes: once is enough.
            found = sorted({event.position: event for event in found}.values())
        return found

    def page(self, channels: Iterable[str], position: int, *, max_bytes: int) -> tuple[list[bytes], int]:
        """Return frames above a position and the position up to which they are all there are."""
        frames: list[bytes] = []
        size = 0
        covered_to = position
        for event in self.after(channels, position):
            size += len(event.frame)
            if frames and size > max_bytes:
                return frames, covered_to
            frames.append(event.frame)
            covered_to = event.position
        return frames, max(self.end, position)

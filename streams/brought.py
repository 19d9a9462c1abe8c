"""What one connection has brought, by channel: so an event of several comes once, whichever are read when.

A channel that is read has brought all of its events above some position; one that was dropped, those
between two. Of these no more than a fixed number is kept. What is forgotten lies at or below `floor`: from
there on, and not from further back, it is known what came and what did not.
"""

from collections.abc import Iterable

MOST = 200  # stretches that are kept of dropped channels: 30 kB of a connection


class Brought:
    """All positions are of one epoch: with another one it begins anew."""

    def __init__(self) -> None:
        self.begin((), 0)

    def begin(self, channels: Iterable[str], position: int, *, floor: int = 0) -> None:
        """Forget everything; what came is at or below `floor`. Above a position channels bring it all."""
        self.floor = floor
        self._above: dict[str, int] = dict.fromkeys(channels, position)
        self._dropped: dict[str, list[tuple[int, int]]] = {}  # above and up to where, rising

    def add(self, channels: Iterable[str], position: int) -> None:
        """Note that what some channels have above a position has come or will; twice is the lower of both."""
        for channel in channels:
            above = min(position, self._above.get(channel, position))
            stretches = self._dropped.pop(channel, [])
            while stretches and stretches[-1][1] >= above:
                above = min(above, stretches.pop()[0])
            if stretches:
                self._dropped[channel] = stretches
            self._above[channel] = above

    def drop(self, channels: Iterable[str], upto: int) -> None:
        """Note that what some channels have above a position will not come any more."""
        for channel in channels:
            above = self._above.pop(channel)
            if above < upto:
                self._dropped.setdefault(channel, []).append((above, upto))
        while sum(map(len, self._dropped.values())) > MOST:
            oldest = min(self._dropped, key=lambda channel: self._dropped[channel][0][1])
            stretches = self._dropped[oldest]
            self.floor = stretches.pop(0)[1]
            if not stretches:
                del self._dropped[oldest]

    def has(self, position: int, channels: Iterable[str]) -> bool:
        """Tell whether the event of a position above the floor, which is in some channels, came already."""
        return any(
            position > self._above.get(channel, position)
            or any(above < position <= upto for above, upto in self._dropped.get(channel, ()))
            for channel in channels
        )

"""The log, read for subscribers: a crowd costs the questions of one reader, whatever its size.

What a question brings is a stretch: all there is in some channels between two positions. Who
reads the same channels from anywhere within it is answered by it, so a reader keeps nothing
while it writes and asks again for what comes next. What is kept here has a bound in bytes. It
stays true because the log only grows; where it forgets, or begins a new epoch, all is forgotten.
"""

import asyncio
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from django.conf import settings

from events import log
from events.channels import Channel
from streams.batch import Batch, Published
from streams.rendering import Rendering

Channels = frozenset[Channel]
Ask = Callable[[Channels, int], Awaitable[log.Page]]

EVENT_BYTES = 300  # of one event besides its frame: tuple, channel names
STRETCH_BYTES = 1_000  # of a stretch besides its events


@dataclass(frozen=True, slots=True)
class Stretch:
    """All events of some channels above `after` up to and including `covered_to`.

    Where `oldest > after + 1`, something between was pruned: continuity is not proven.
    """

    epoch: str
    oldest: int
    after: int
    covered_to: int
    events: tuple[Published, ...]

    def above(self, position: int) -> tuple[Published, ...]:
        """Return the events above a position within the stretch."""
        return self.events[bisect_right(self.events, position, key=_position) :]

    @property
    def bytes(self) -> int:
        """Return the memory that the stretch takes."""
        return STRETCH_BYTES + sum(len(event.frame) + EVENT_BYTES for event in self.events)


class Replay:
    """Reads of the log, shared."""

    def __init__(self, ask: Ask, *, at_once: int) -> None:
        self.reads = 0
        self.bytes = 0
        self.rendering = Rendering()  # of what was read, and forgotten with it
        self._ask = ask
        self.turns = asyncio.Semaphore(at_once)  # to ask the log anything that the hub itself need not know
        self._under_way: dict[Channels, asyncio.Task[Stretch]] = {}
        self._kept: OrderedDict[tuple[Channels, int], Stretch] = OrderedDict()  # the longest unused first
        self._begins: dict[Channels, list[int]] = {}  # where the stretches of some channels begin

    async def read(self, channels: Channels, after: int) -> Stretch:
        """Return a stretch of some channels that goes on from a position; a new one at the log's end."""
        while True:
            known = self._find(channels, after)
            if known is not None:
                return known
            task = self._under_way.get(channels)
            if task is None:
                break
            await asyncio.shield(task)  # which fails for all who wait; or it is of use, or not
        task = asyncio.create_task(self._read(channels, after))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # heard, if by nobody else
        self._under_way[channels] = task
        # Whoever leaves meanwhile must not take along what others wait for.
        return await asyncio.shield(task)

    async def _read(self, channels: Channels, after: int) -> Stretch:
        under_way = asyncio.current_task()
        try:
            async with self.turns:
                self.reads += 1
                page = await self._ask(channels, after)
            stretch = Stretch(page.epoch, page.oldest, after, page.covered_to, Batch.of(page).events)
            if self._under_way.get(channels) is under_way:  # else it was forgotten meanwhile
                self._keep(channels, stretch)
            return stretch
        finally:
            # Here and not in a callback: whoever comes when it is done must not wait for it again.
            if self._under_way.get(channels) is under_way:
                del self._under_way[channels]

    def forget(self) -> None:
        """Keep nothing of what was read, nor of what is being read."""
        self.bytes = 0
        self._kept.clear()
        self._begins.clear()
        self._under_way.clear()
        self.rendering.forget()

    def _find(self, channels: Channels, after: int) -> Stretch | None:
        begins = self._begins.get(channels, ())
        at = bisect_right(begins, after)
        if not at:
            return None
        key = channels, begins[at - 1]
        stretch = self._kept[key]
        if stretch.covered_to <= after:
            return None
        self._kept.move_to_end(key)
        return stretch

    def _keep(self, channels: Channels, stretch: Stretch) -> None:
        if stretch.covered_to <= stretch.after:
            return  # the log's end, as it was
        key = channels, stretch.after
        if key in self._kept:
            self._drop(key)
        self._kept[key] = stretch
        self.bytes += stretch.bytes
        insort(self._begins.setdefault(channels, []), stretch.after)
        while self.bytes > settings.STREAMS_REPLAY_BYTES and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[Channels, int]) -> None:
        self.bytes -= self._kept.pop(key).bytes
        channels, after = key
        begins = self._begins[channels]
        begins.remove(after)
        if not begins:
            del self._begins[channels]


def _position(event: Published) -> int:
    return event.position

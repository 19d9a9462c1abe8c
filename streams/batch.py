"""The messages that tell hubs of new events: hints, complete in themselves or not used.

One Redis channel a log. A hub takes a batch only where `prev` meets its own position, so a
message that is lost, late, doubled or of another epoch costs a read of the log, never an event.
What is transient comes the same way, is for who listens at that moment, and costs nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import msgpack
from django.conf import settings

from events import log
from streams import sse

TRANSIENT = b"~"  # before a message that is no batch: those begin with msgpack's byte for an array


class Published(NamedTuple):
    """One event as hubs keep it: the frame is made once, for every process and subscriber."""

    position: int
    channels: tuple[str, ...]
    frame: bytes

    @property
    def data(self) -> bytes:
        """Return the payload's JSON."""
        return sse.data_of(self.frame)


# As `Published._make` does, in C.
_published = partial(tuple.__new__, Published)


def runs(events: Iterable[Published], *, max_bytes: int) -> list[list[Published]]:
    """Return events in their order as runs: of the same channels, of bounded size; one may exceed it."""
    found: list[list[Published]] = []
    before: tuple[str, ...] = ()
    size = 0
    for event in events:
        _, channels, frame = event
        size += len(frame)
        if found and channels == before and size <= max_bytes:
            found[-1].append(event)
        else:
            found.append([event])
            before, size = channels, len(frame)
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """All events above `prev` up to and including `last`."""

    epoch: str
    prev: int
    last: int
    events: tuple[Published, ...]

    def pack(self) -> bytes:
        """Return the message's bytes."""
        packed: bytes = msgpack.packb((self.epoch, self.prev, self.last, self.events))
        return packed

    @classmethod
    def unpack(cls, message: bytes) -> "Batch":
        """Read a message; raise ValueError for one that is none of ours."""
        try:
            epoch, prev, last, events = msgpack.unpackb(message, use_list=False)
            if {*map(len, events)} - {len(Published._fields)}:
                raise ValueError("an event of another form")
            return cls(epoch, prev, last, tuple(map(_published, events)))
        except (msgpack.UnpackException, TypeError, ValueError) as error:
            raise ValueError("not a batch") from error

    @classmethod
    def of(cls, page: log.Page) -> "Batch":
        """Make the batch of a page that covers every channel."""
        events = tuple(Published(e.position, e.channels, sse.event(e, page.epoch)) for e in page.entries)
        return cls(page.epoch, page.after, page.covered_to, events)


class Transient(NamedTuple):
    """A frame without an id, not in the log; of one channel's and key's the latest is all there is."""

    channel: str
    key: str
    frame: bytes

    def pack(self) -> bytes:
        """Return the message's bytes."""
        packed: bytes = msgpack.packb(tuple(self))
        return TRANSIENT + packed

    @classmethod
    def unpack(cls, message: bytes) -> "Transient":
        """Read a message that begins with `TRANSIENT`; raise ValueError for one that is none of ours."""
        try:
            channel, key, frame = msgpack.unpackb(message[len(TRANSIENT) :])
            # As text where Redis itself made the message, which knows no other strings.
            return cls(str(channel), str(key), frame.encode() if isinstance(frame, str) else bytes(frame))
        except (msgpack.UnpackException, TypeError, ValueError) as error:
            raise ValueError("not a transient frame") from error


def redis_channel() -> str:
    """Return the one Redis channel of this log."""
    return f"{settings.REDIS_PREFIX}:events"


def published_key(epoch: str) -> str:
    """Return the key that says up to where this epoch was published."""
    return f"{settings.REDIS_PREFIX}:published:{epoch}"


def mark_key() -> str:
    """Return the key that holds a mark of the log as it was seen last, for a restore to be noticed by."""
    return f"{settings.REDIS_PREFIX}:mark"

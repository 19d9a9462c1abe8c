"""What a subscriber missed: read from the ring where that reaches back far enough, else from the log.

A reader stands at its `position`, and at every pause here that is the truth: it has got all of its
channels at or below it. Nothing beyond a change of access that concerns it is handed over.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import psycopg_pool
from django.conf import settings

from events.access import read_change
from events.channels import ACCESS
from events.cursor import Cursor
from streams import places, sse

if TYPE_CHECKING:
    from streams.replay import Stretch
    from streams.subscriber import Subscriber

DATABASE_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg_pool.PoolTimeout, TimeoutError)
REREAD_SECONDS = 1.0  # between tries to read a log that is away


async def catch_up(reader: "Subscriber") -> bytes:
    """Return the next page of what a reader missed; turn it live once nothing lies between."""
    hub = reader.hub
    if reader.position >= hub.ring.start:
        # From here to `live` there is no await: no event can slip in between.
        frames, covered_to = hub.ring.page(
            reader.channels, reader.position, max_bytes=settings.STREAMS_WRITE_BYTES
        )
        reader.position = covered_to
        reader.live = covered_to >= hub.position
        return sse.join(hub.deliveries.heed(frames))
    epoch = hub.epoch
    try:
        stretch = await hub.read(reader.channels | {ACCESS}, reader.position)
    except DATABASE_AWAY:
        await reader.touched(REREAD_SECONDS)
        return b"" if reader.ended else sse.KEEPALIVE
    if stretch.epoch != epoch and not reader.is_reset:
        reader.reset("epoch")
        try:
            await hub.look()
        except DATABASE_AWAY:
            reader.end("database")  # nothing can be decided, later it can
    if reader.ended or reader.is_reset:
        return b""
    if stretch.oldest > reader.position + 1:
        reader.reset("pruned")
        hub.audience.recheck()  # a change of access may have been pruned unheard
        return b""
    if stretch.covered_to == reader.position:
        # The log lies behind what was seen of it, as after a restore: a look will begin its epoch.
        await reader.touched(REREAD_SECONDS)
        return b""
    return sse.join(hub.deliveries.heed(_permitted(reader, stretch)))


def _permitted(reader: "Subscriber", stretch: "Stretch") -> Iterator[bytes]:
    """Yield a piece of a stretch, up to where access changed: the log may be ahead of the hub."""
    size = 0
    for event in stretch.above(reader.position):
        unseen = stretch.epoch != reader.since.epoch or event.position > reader.since.position
        if unseen and ACCESS in event.channels:
            reader.heed(read_change(event.data))
            if reader.ended:
                return
        if not reader.channels.isdisjoint(event.channels):
            size += len(event.frame)
            if size > settings.STREAMS_WRITE_BYTES and size > len(event.frame):
                return  # the rest is asked for when this is written
            yield event.frame
        reader.position = event.position
    reader.position = stretch.covered_to


async def place_at(reader: "Subscriber", last_event_id: str) -> str | None:
    """Stand where a reader's client stood; or return why the log cannot prove continuity from there."""
    try:
        looked = partial(_heed_up_to, reader)
        reason, position = await places.find(reader.hub, last_event_id, looked=looked)
    except DATABASE_AWAY:
        reader.end("database")  # nothing can be decided, later it can
        return None
    if reason is None:
        reader.position = position
    return reason


async def _heed_up_to(reader: "Subscriber", cursor: Cursor) -> None:
    """Heed what changed access since a reader's check and below where its client says it stands.

    Neither the replay from there nor a hub that has not come so far would see it.
    """
    if not cursor.epoch == reader.hub.epoch == reader.since.epoch:
        return  # a new one is a reason to recheck anyway
    after = reader.since.position
    while after < cursor.position and not reader.ended:
        stretch = await reader.hub.read(frozenset([ACCESS]), after)
        for event in stretch.above(after):
            reader.heed(read_change(event.data))
        if stretch.covered_to <= after:
            return
        after = stretch.covered_to

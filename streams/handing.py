"""Handing out: what a batch brings goes to whom it concerns, run by run, in the order of the log.

A change of access is heeded before anything that was placed after it is handed to anybody. Of an event that
nobody here reads, next to nothing is done; what is rare is looked for once in a batch, not once an event.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.conf import settings

from events.access import read_change
from events.channels import ACCESS
from streams import sse
from streams.batch import Published, runs
from streams.deliveries import ALERT
from streams.reporter import WISH

if TYPE_CHECKING:
    from streams.hub import Hub


def hand_out(hub: "Hub", events: Sequence[Published]) -> None:
    """Push events to all who read their channels; what is parked is to be sent after it (`parked.send`)."""
    found = runs(events, max_bytes=settings.STREAMS_WRITE_BYTES)
    heads = b"".join([event.frame[: sse.HEAD_BYTES] for event in events])
    alerts = ALERT in heads
    of, hand = hub.audience.of, hub.parked.hand
    for run in found:
        first, channels, frames = run[0]
        last = first
        if len(run) > 1:  # joined once for every subscriber
            last, frames = run[-1].position, sse.join([event.frame for event in run])
        if ACCESS in channels:
            for event in run:
                hub.audience.heed(read_change(event.data))
        taken = 0
        for channel in channels:
            readers = of(channel)
            if len(found) == len(channels) == 1:
                taken += hand(readers, frames, first, last)
            else:
                for reader in readers:
                    taken += reader.push(frames, first, last)
        if alerts:
            hub.deliveries.heed((event.frame for event in run), taken)
    if WISH in heads:
        hub.presence.heed(events)

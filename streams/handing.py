"""Handing out: what a batch brings goes to whom it concerns, run by run, in the order of the log.

A change of access is heeded before anything that was placed after it is handed to anybody. Of an event that
nobody here reads, next to nothing is done; what is rare is looked for once in a batch, not once an event.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings

from events.access import read_change
from events.channels import ACCESS
from streams import sse
from streams.audience import Crowd
from streams.batch import Published, runs
from streams.deliveries import ALERT
from streams.reporter import WISH

if TYPE_CHECKING:
    from streams.hub import Hub

logger = logging.getLogger(__name__)


def hand_out(hub: "Hub", events: Sequence[Published]) -> None:
    """Push events to all who read their channels; what is parked is to be sent after it (`parked.send`).

    Who is parked keeps no account of what they were handed, and would be handed it again were this to fail in
    the middle: so what an event says besides may fail by itself.
    """
    found = runs(events, max_bytes=settings.STREAMS_WRITE_BYTES)
    readers_of = hub.audience.of
    heads = b"".join([event.frame[: sse.HEAD_BYTES] for event in events])
    alerts = ALERT in heads
    for run in found:
        _, channels, _ = run[0]
        if ACCESS in channels:
            for event in run:
                hub.audience.heed(read_change(event.data))
        crowds = [readers for channel in channels if (readers := readers_of(channel))]
        taken = _hand_to(hub, run, crowds, alone=len(found) == len(channels) == 1) if crowds else 0
        if alerts:
            _beside(partial(hub.deliveries.heed, [event.frame for event in run], taken))
    if WISH in heads:
        _beside(partial(hub.presence.heed, events))


def _hand_to(hub: "Hub", run: Sequence[Published], crowds: Sequence[Crowd], *, alone: bool) -> int:
    first, _, frames = run[0]
    last = first
    if len(run) > 1:  # joined once for every subscriber
        last, frames = run[-1].position, sse.join([event.frame for event in run])
    if alone:
        return hub.parked.hand(crowds[0], frames, first, last)
    taken = 0
    for readers in crowds:
        for reader in readers:
            taken += reader.push(frames, first, last)
    return taken


def _beside(work: Callable[[], object]) -> None:
    """Do what is no part of the tape, which goes on where it fails."""
    try:
        work()
    except Exception:
        logger.exception("What was handed out was not counted, or not heeded.")

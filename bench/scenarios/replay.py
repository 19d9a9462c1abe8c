"""Clients come back that missed something.

One missed 10,000 events: how fast it gets them, out of the ring in memory, and out of the log (of a process
that keeps no ring). Then a crowd comes at once of which each missed 200: what that costs besides opening as
many streams that missed nothing. nchan keeps what it replays in memory, and is asked for all that it
has.
"""

import time
from collections.abc import Iterator
from statistics import median

from bench.context import Context, Server
from bench.crowd import Crowd
from bench.figures import DAPHNE, NCHAN, UVICORN, Aim, Figure
from bench.publishing import Publisher
from bench.servers import Trouble

TITLE = "Replay"
SECONDS = (40, 70)
MISSED = 10_000
TIMES = 5
STORM = {True: 500, False: 5_000}
STORM_EVENTS = 200
CHANNEL = "item:1"
NO_RING = {"STREAMS_RING_EVENTS": "1"}

AIMS = [
    *(
        Aim("replay", subject, f"events a second to one client, out of {where}", 100_000)
        for subject in (UVICORN, DAPHNE)
        for where in ("memory", "the log")
    ),
    *(
        Aim("replay", subject, "CPU of a storm besides opening", 4.0, least=False, at=STORM[False])
        for subject in (UVICORN, DAPHNE)
    ),
]
PLOTS = ()


def run(context: Context) -> Iterator[Figure]:
    """Have clients of each subject come back."""
    for subject in context.pick(context.among(UVICORN, NCHAN), context.among(UVICORN, DAPHNE, NCHAN)):
        ours = subject != NCHAN
        with context.serving(subject) as server, context.crowd() as crowd, server.publisher() as publisher:
            yield from _to_one(context, server, crowd, publisher, "memory")
            yield from _storm(context, server, crowd, publisher)
        if ours:
            with (
                context.serving(subject, **NO_RING) as server,
                context.crowd() as crowd,
                server.publisher() as publisher,
            ):
                yield from _to_one(context, server, crowd, publisher, "the log")


def _to_one(
    context: Context, server: Server, crowd: Crowd, publisher: Publisher, where: str
) -> Iterator[Figure]:
    cursor, before, last = _published(context, server, crowd, publisher, MISSED)
    rates, costs = [], []
    for _ in range(TIMES):
        used = server.usage()
        crowd.open(server.address, [(server.opening(CHANNEL, last_event_id=cursor), CHANNEL, 1)], last=before)
        if not crowd.until({CHANNEL: last}):
            raise Trouble(f"a replay of {server.subject} did not end")
        heard = crowd.report()
        if heard.events != MISSED or heard.faults:
            raise Trouble(f"{server.subject} replayed {heard.events} events, with faults: {heard.faults}")
        rates.append(heard.events / heard.seconds)
        costs.append((server.usage() - used).cpu_seconds)
        crowd.close()
    yield Figure(
        "replay", server.subject, f"events a second to one client, out of {where}", "1/s", median(rates)
    )
    cost = 1e6 * sum(costs) / TIMES / MISSED
    yield Figure("replay", server.subject, f"CPU of an event, out of {where}", "µs", cost)


def _storm(context: Context, server: Server, crowd: Crowd, publisher: Publisher) -> Iterator[Figure]:
    number = STORM[context.quick]
    before = server.usage()
    crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, number)])
    opening = (server.usage() - before).cpu_seconds
    crowd.close()
    time.sleep(2.0)
    if server.subject == NCHAN:
        return  # it cannot be told from where on: all that it keeps would come
    cursor, first, last = _published(context, server, crowd, publisher, STORM_EVENTS)
    before = server.usage()
    began = time.monotonic()
    crowd.open(server.address, [(server.opening(CHANNEL, last_event_id=cursor), CHANNEL, number)], last=first)
    if not crowd.until({CHANNEL: last}, seconds=120):
        raise Trouble(f"a storm of {server.subject} did not end")
    heard = crowd.report()
    seconds = time.monotonic() - began
    if heard.events != number * STORM_EVENTS or heard.faults:
        raise Trouble(
            f"a storm of {server.subject} brought {heard.events} events, with faults: {heard.faults}"
        )
    cost = (server.usage() - before).cpu_seconds
    crowd.close()
    yield Figure("replay", server.subject, "CPU of a storm besides opening", "s", cost - opening, number)
    yield Figure("replay", server.subject, "a storm's duration", "s", seconds, number)


def _published(
    context: Context, server: Server, crowd: Crowd, publisher: Publisher, events: int
) -> tuple[str, int, int]:
    """Publish events that a reader hears live; return the cursor before them, and both ends' numbers."""
    crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, 1)])
    cursor = "earliest" if server.subject == NCHAN else context.deployment.head()
    sent = publisher.burst(CHANNEL, events)
    if not crowd.until(sent.last):
        raise Trouble(f"what {server.subject} was to replay did not come")
    crowd.close()
    last = sent.last[CHANNEL]
    return cursor, last - events, last

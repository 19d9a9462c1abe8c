"""Whatever else there is must cost nothing.

Ever more channels are open, with one subscriber each, and each time the same is done: events are published to
channels by turns, then 500 more streams are opened and leave, three times over. There are no heartbeats
meanwhile, and nobody is asked about anew, of which every stream has its share: `idle` and `scale` have them.
"""

import time
from collections.abc import Iterator

from bench.context import Context
from bench.figures import DAPHNE, NCHAN, UVICORN, Aim, Figure
from bench.plots import Plot
from bench.servers import Trouble
from bench.web import NEVER_LOOK, Web

TITLE = "Growth with channels and connections"
SECONDS = (50, 110)
STEPS = {True: (300, 1_000), False: (1_000, 3_000, 10_000)}
MORE = 500
TIMES = 3  # for it takes half a second, in which the garbage collector comes by or does not
RATE = 2_000.0
SETTLED_SECONDS = 1.5  # until it has told the others of who came or went, which it does once a second
NOTHING_ELSE = {"STREAMS_HEARTBEAT_SECONDS": "86400", "STREAMS_RECHECK_SECONDS": "86400"}
TIMES_MORE = "with the most channels, times that with the fewest"

AIMS = [
    Aim("growth", subject, f"{what} {TIMES_MORE}", 1.2, least=False)
    for subject in (UVICORN, DAPHNE)
    for what in ("opening", "an event", "leaving")
]
PLOTS = [
    Plot("cost", "What an event to one subscriber costs, whatever else is open", "growth", "CPU of an event",
         "open channels"),
    Plot("opening", "What opening one more stream costs, whatever else is open", "growth", "CPU of opening",
         "open channels"),
]  # fmt: skip


def run(context: Context) -> Iterator[Figure]:
    """Open ever more channels on each subject."""
    for subject in context.among(UVICORN, DAPHNE, *([NCHAN] if context.extras else [])):
        yield from _one(context, subject)


def _one(context: Context, subject: str) -> Iterator[Figure]:
    costs: dict[str, list[float]] = {"opening": [], "an event": [], "leaving": []}
    with (
        context.serving(subject, **NEVER_LOOK, **NOTHING_ELSE) as server,
        context.crowd() as crowd,
        server.by_valkey() if isinstance(server, Web) else server.publisher() as publisher,
    ):
        count = 0
        more = [f"item:{1_000_000 + number}" for number in range(MORE)]
        for step in STEPS[context.quick]:
            fresh = [f"item:{number}" for number in range(count + 1, step + 1)]
            crowd.open(server.address, [(server.opening(channel), channel, 1) for channel in fresh])
            count = step
            time.sleep(SETTLED_SECONDS)
            before = server.usage()
            channels = [f"item:{number}" for number in range(1, step + 1)]
            sent = publisher.steady(channels, rate=RATE, seconds=context.pick(1.5, 4.0))
            if not crowd.until(sent.last):
                raise Trouble(f"{subject}: not everything came with {step} channels")
            costs["an event"].append(1e6 * (server.usage() - before).cpu_seconds / sent.events)
            opening = leaving = 0.0
            for _ in range(TIMES):
                before = server.usage()
                crowd.open(server.address, [(server.opening(channel), channel, 1) for channel in more])
                time.sleep(SETTLED_SECONDS)
                opened = server.usage()
                crowd.leave(more)
                time.sleep(SETTLED_SECONDS)
                opening += (opened - before).cpu_seconds
                leaving += (server.usage() - opened).cpu_seconds
            costs["opening"].append(1e6 * opening / (TIMES * MORE))
            costs["leaving"].append(1e6 * leaving / (TIMES * MORE))
            for what, values in costs.items():
                yield Figure("growth", subject, f"CPU of {what}", "µs", values[-1], step)
    for what, values in costs.items():
        if values[0]:
            yield Figure("growth", subject, f"{what} {TIMES_MORE}", "", values[-1] / values[0])

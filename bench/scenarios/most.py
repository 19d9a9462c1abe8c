"""1,000 subscribers have one channel open, and events are published ever faster.

The rate rises until an event comes to somebody more than a second after it was due; here what waits may be
joined into one write. So of ours what is due within 50 ms is published together, in one transaction, and each
event goes the whole way (log, worker, Valkey, hub); its wait for the others is not in its latency, which is
25 ms more on average. It is written by COPY, as by an importer: who publishes shares a core with all that
comes after, and by INSERT would take more of it than the worker. nchan writes each event to each reader by
itself and would gain nothing by that: it is posted to each 4 ms, pipelined, which suits it, for it takes
several at once. The load generator naps for 5 ms before it reads what any of them wrote, so that each read
brings more and no write has to wake it, which suits nchan, too; latency is as much coarser.

What counts is the best rate at which every event came to everyone, once, in order and in time, and beside it
stands whose core was how busy: the server has one, and all else shares the other. The same is done once more
with batches handed to Valkey at once, which leaves out what places events: that is what a web process by
itself can do; and with nchan posted to one by one, as most programs do.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

from bench.context import Context, Server
from bench.figures import DAPHNE, NCHAN, UVICORN, Aim, Figure
from bench.peers.nchan import Nchan
from bench.plots import Plot
from bench.publishing import TICK_SECONDS, Publisher
from bench.scenarios.ramp import Found, its_own_limit, ramp, shares, wanting
from bench.web import NEVER_LOOK, Web

TITLE = "The highest rate to 1,000 subscribers"
SECONDS = (40, 140)
CHANNEL = "item:1"
CROWD = 1_000
LATE_MS = 1_000.0
TICKS = {UVICORN: 0.05, DAPHNE: 0.05}  # a twentieth of what an event may be late
NAP_SECONDS = 0.005
BEST = "deliveries a second"
LATENCY = "latency, p99"
ONE_BY_ONE = ", posted one by one"
AT_ONCE = ", batches handed to Valkey at once"
FIRST = {UVICORN: 800.0, DAPHNE: 800.0, NCHAN: 30.0}

AIMS = [
    Aim("most", UVICORN, BEST, 20, times=NCHAN),
    Aim("most", DAPHNE, BEST, 10, times=NCHAN),
    *its_own_limit("most", NCHAN),
]
ASKED = "deliveries a second that are asked for"
PLOTS = [
    Plot("latency", "Latency (p99) of one channel to 1,000", "most", LATENCY, ASKED, True, True, False),
    Plot("latency-at-once", "The same, batches handed to Valkey at once", "most", f"{LATENCY}{AT_ONCE}",
         ASKED, True, True, False),
]  # fmt: skip


def run(context: Context) -> Iterator[Figure]:
    """Raise the rate of each subject."""
    for subject in context.among(UVICORN, DAPHNE, NCHAN):
        yield from _one(context, subject, "")
    if context.extras:
        for subject in context.among(UVICORN, DAPHNE):
            yield from _one(context, subject, AT_ONCE)
        for subject in context.among(NCHAN):
            yield from _one(context, subject, ONE_BY_ONE)


def _publisher(server: Server, how: str) -> AbstractContextManager[Publisher]:
    if isinstance(server, Web):
        return server.by_valkey() if how == AT_ONCE else server.copying()
    if how == ONE_BY_ONE and isinstance(server, Nchan):
        return server.one_by_one()
    return server.publisher()


def _one(context: Context, subject: str, how: str) -> Iterator[Figure]:
    def figure(quantity: str, unit: str, value: float, at: float | None = None) -> Figure:
        return Figure("most", subject, f"{quantity}{how}", unit, value, at)

    environment = NEVER_LOOK if how == AT_ONCE else {}
    with context.serving(subject, **environment) as server, context.crowd() as crowd:
        crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, CROWD)])
        crowd.nap(NAP_SECONDS)
        found = Found()
        with _publisher(server, how) as publisher:
            crowd.until({CHANNEL: publisher.one(CHANNEL)})
            for step in ramp(
                server, crowd, publisher, [CHANNEL], first=FIRST[subject], factor=context.pick(4.0, 2.0),
                halvings=context.pick(1, 3), seconds=context.pick(1.0, 2.5),
                tick=TICKS.get(subject, TICK_SECONDS),
                in_time=lambda heard: heard.late_ms[100] < LATE_MS,
                behind=context.deployment.behind if isinstance(server, Web) else dict,
            ):  # fmt: skip
                if step.heard.late_ms:
                    yield figure(LATENCY, "ms", step.heard.late_ms[99], step.rate * CROWD)
                if not step.complete:
                    context.remark(f"most: {subject} at {step.rate:.0f} events/s{how} {wanting(step)}")
                found.add(step)
        if (best := found.best) is None:
            context.remark(f"most: {subject} did not deliver even the lowest rate{how}")
            return
        yield figure(BEST, "1/s", best.deliveries)
        yield figure("latency, p99, at that", "ms", best.heard.late_ms[99])
        yield figure("events a second at that", "1/s", best.published)
        yield figure("deliveries a CPU second at that", "1/s", best.heard.events / best.cpu_seconds)
        yield figure("megabytes a second at that", "MB/s", best.heard.bytes / best.heard.seconds / 1e6)
        yield from shares("most", subject, found, how)

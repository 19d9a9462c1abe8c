"""1,000 subscribers have one channel open, and events are published ever faster.

The rate rises until the last event comes to somebody more than a second late; here what waits may be joined
into one write. Of ours each event goes the whole way (log, worker, Valkey, hub), appended in one
transaction each 4 ms; peers are posted to. What counts is the best rate at which every event came to
everyone, once and in order. The same is done once more with batches handed to Valkey at once, which leaves
out what places events: that is what a web process by itself can do.
"""

from collections.abc import Iterator

from bench.context import Context
from bench.figures import DAPHNE, EVENTSTREAM, NCHAN, UVICORN, Aim, Figure
from bench.plots import Plot
from bench.scenarios.ramp import Step, ramp

TITLE = "The highest rate to 1,000 subscribers"
SECONDS = (30, 240)
CHANNEL = "item:1"
CROWD = 1_000
LATE_MS = 1_000.0
BEST = "deliveries a second"
FIRST = {UVICORN: 400.0, DAPHNE: 400.0, NCHAN: 25.0, EVENTSTREAM: 2.0}

AIMS = [
    Aim("most", UVICORN, BEST, 20, times=NCHAN),
    Aim("most", DAPHNE, BEST, 10, times=NCHAN),
]
PLOTS = [
    Plot("latency", "Latency (p99) at a rate of deliveries", "most", "latency, p99", "deliveries a second",
         log_x=True, log_y=True),
]  # fmt: skip


def run(context: Context) -> Iterator[Figure]:
    """Raise the rate of each subject."""
    for subject in context.among():
        yield from _one(context, subject)


def _one(context: Context, subject: str) -> Iterator[Figure]:
    def sustained(step: Step) -> bool:
        return step.heard.late_ms[100] < LATE_MS

    with context.serving(subject) as server, context.crowd() as crowd, server.publisher() as publisher:
        crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, CROWD)])
        number = publisher.one(CHANNEL)
        crowd.until({CHANNEL: number})
        best: Step | None = None
        for step in ramp(
            server, crowd, publisher, [CHANNEL], first=FIRST[subject], factor=context.pick(2.0, 1.5),
            seconds=context.pick(1.0, 4.0), sustained=sustained,
        ):  # fmt: skip
            heard = step.heard
            if heard.late_ms:
                yield Figure("most", subject, "latency, p99", "ms", heard.late_ms[99], step.rate * CROWD)
                yield Figure("most", subject, "latency, median", "ms", heard.late_ms[50], step.rate * CROWD)
            if heard.faults:
                context.remark(f"most: {subject} at {step.rate:.0f} events/s had faults: {heard.faults}")
            if step.complete and (best is None or step.deliveries > best.deliveries):
                best = step
        if best is None:
            context.remark(f"most: {subject} did not deliver even the lowest rate")
            return
        yield Figure("most", subject, BEST, "1/s", best.deliveries)
        yield Figure("most", subject, "events a second at that", "1/s", best.published)
        yield Figure(
            "most", subject, "deliveries a CPU second at that", "1/s", best.heard.events / best.cpu_seconds
        )
        yield Figure(
            "most", subject, "megabytes a second at that", "MB/s", best.heard.bytes / best.heard.seconds / 1e6
        )
        yield Figure("most", subject, "CPU of the server at that", "%", 100 * best.server_share)
        yield Figure("most", subject, "CPU of the load generator at that", "%", 100 * best.heard.cpu_share)
        yield Figure("most", subject, "CPU of the publisher at that", "%", 100 * best.sent.cpu_share)

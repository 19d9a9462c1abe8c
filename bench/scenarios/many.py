"""2,000 channels with one subscriber each get events by turns, ever faster.

The rate rises until more than one event in a hundred comes later than 50 ms after it was due. Ours are handed
to Valkey as batches, as the sequencer does after placing them (what placing costs is measured apart); nchan
is posted to over eight connections, pipelined.
"""

from collections.abc import Iterator

from bench.context import Context
from bench.figures import DAPHNE, NCHAN, UVICORN, Aim, Figure
from bench.plots import Plot
from bench.scenarios.ramp import Found, its_own_limit, ramp, shares, wanting
from bench.web import NEVER_LOOK, Web

TITLE = "2,000 channels with one subscriber each"
SECONDS = (25, 90)
CHANNELS = [f"item:{number}" for number in range(1, 2_001)]
LATE_MS = 50.0
BEST = "events a second (ours: of batches handed to Valkey)"
FIRST = 5_000.0

AIMS = [
    Aim("many", UVICORN, BEST, 2, times=NCHAN),
    *its_own_limit("many", NCHAN),
]
LATENCY = "latency, p99"
PLOTS = [
    Plot("many", "Latency (p99) of 2,000 channels", "many", LATENCY, "events a second that are asked for",
         log_x=True, log_y=True, in_table=False),
]  # fmt: skip


def run(context: Context) -> Iterator[Figure]:
    """Raise the rate of each subject."""
    for subject in context.among(UVICORN, NCHAN, *([DAPHNE] if context.extras else [])):
        yield from _one(context, subject)


def _one(context: Context, subject: str) -> Iterator[Figure]:
    with context.serving(subject, **NEVER_LOOK) as server, context.crowd() as crowd:
        crowd.open(server.address, [(server.opening(channel), channel, 1) for channel in CHANNELS])
        found = Found()
        publishing = server.by_valkey() if isinstance(server, Web) else server.publisher()
        with publishing as publisher:
            sent = publisher.steady(CHANNELS, rate=FIRST, seconds=0.5)  # warm
            crowd.until(sent.last)
            for step in ramp(
                server, crowd, publisher, CHANNELS, first=FIRST, factor=context.pick(4.0, 2.0),
                halvings=context.pick(1, 3), seconds=context.pick(1.0, 2.5),
                in_time=lambda heard: heard.late_ms[99] < LATE_MS,
            ):  # fmt: skip
                if step.heard.late_ms:
                    yield Figure("many", subject, LATENCY, "ms", step.heard.late_ms[99], step.rate)
                if not step.complete:
                    context.remark(f"many: {subject} at {step.rate:.0f}/s {wanting(step)}")
                found.add(step)
        if (best := found.best) is None:
            context.remark(f"many: {subject} did not keep to {LATE_MS:.0f} ms even at the lowest rate")
            return
        yield Figure("many", subject, BEST, "1/s", best.deliveries)
        yield Figure("many", subject, "latency, p99, at that", "ms", best.heard.late_ms[99])
        each = best.heard.events / best.cpu_seconds
        yield Figure("many", subject, "events a CPU second at that", "1/s", each)
        yield from shares("many", subject, found)

"""Streams are opened in steps, and nothing is published.

Memory is what the server's processes hold resident above what they held before the first, divided by the
streams; that of one more is of the last step alone, so that a cost that grows with the crowd shows. The
kernel's own memory of a socket is not in it. CPU is what holding them costs, heartbeats included.
"""

import time
from collections.abc import Iterator

from bench.context import Context
from bench.figures import DAPHNE, NCHAN, UVICORN, Aim, Figure
from bench.generator import allowed_files
from bench.plots import Plot

TITLE = "Idle streams"
SECONDS = (30, 85)
STEPS = {True: (500, 1_500), False: (1_000, 4_000, 10_000, 18_000)}
SPARE_FILES = 500  # that a server or the load generator has open besides
SETTLE_SECONDS = 2.0
WATCH_SECONDS = 10.0
CHANNEL = "item:1"
WARM = 10  # few: what they leave free, the next ones take

AIMS = [
    *(Aim("idle", UVICORN, "memory of a stream", 8, least=False, at=number) for number in (1_000, 18_000)),
    *(Aim("idle", DAPHNE, "memory of a stream", 16, least=False, at=number) for number in (1_000, 18_000)),
    Aim("idle", UVICORN, "memory at the most streams, times that at the fewest", 1.1, least=False),
    Aim("idle", DAPHNE, "memory at the most streams, times that at the fewest", 1.1, least=False),
]
PLOTS = [
    Plot("memory", "Memory of an idle stream", "idle", "memory of a stream", "open streams"),
]


def run(context: Context) -> Iterator[Figure]:
    """Open ever more streams on each subject."""
    steps = [step for step in STEPS[context.quick] if step + SPARE_FILES <= allowed_files()]
    if len(steps) < len(STEPS[context.quick]):
        context.remark(f"idle: {allowed_files():,} files may be open; more streams than that were not tried.")
    for subject in context.among(UVICORN, DAPHNE, *([NCHAN] if context.quick or context.extras else [])):
        yield from _one(context, subject, steps)


def _one(context: Context, subject: str, steps: list[int]) -> Iterator[Figure]:
    with context.serving(subject) as server, context.crowd() as crowd:
        crowd.open(
            server.address, [(server.opening(CHANNEL), CHANNEL, WARM)]
        )  # what only the first ones cost
        crowd.close()
        time.sleep(context.pick(0.5, SETTLE_SECONDS))
        base = server.usage()
        count, earlier = 0, base
        each: dict[int, float] = {}
        for step in steps:
            crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, step - count)])
            time.sleep(context.pick(0.5, SETTLE_SECONDS))
            now = server.usage()
            each[step] = (now - base).resident_bytes / step / 1000
            yield Figure("idle", subject, "memory of a stream", "kB", each[step], step)
            last = (now - earlier).resident_bytes / (step - count) / 1000
            yield Figure("idle", subject, "memory of one more stream", "kB", last, step)
            count, earlier = step, now
        if not context.quick:  # of so few streams it would say how large the allocator's pieces are
            flat = each[steps[-1]] / each[steps[0]]
            yield Figure("idle", subject, "memory at the most streams, times that at the fewest", "", flat)
        yield Figure("idle", subject, "threads at the most streams", "", server.usage().threads)
        before = server.usage()
        time.sleep(context.pick(3.0, WATCH_SECONDS))
        cpu = (server.usage() - before).cpu_seconds / context.pick(3.0, WATCH_SECONDS)
        yield Figure("idle", subject, "CPU to hold 1,000 of them", "ms/s", cpu * 1000 / count * 1000)

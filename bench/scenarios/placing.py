"""One worker process places what was committed, and tells Valkey of it, as fast as it can.

The log is filled beforehand, and no other worker is there. Counted are events a second, and the CPU time of
the process together with that of its session of PostgreSQL.
"""

from collections.abc import Iterator
from statistics import median

from bench.apart import apart
from bench.context import Context
from bench.figures import Aim, Figure
from bench.inside import Inside

TITLE = "Placing and publishing"
SECONDS = (15, 25)
SUBJECT = "one worker process"
BOTH = "placed and published a second"
TIMES = 3

AIMS = [Aim("placing", SUBJECT, BOTH, 20_000)]
PLOTS = ()


def run(context: Context) -> Iterator[Figure]:
    """Place, then place and publish, several times over: the medians count."""
    events = context.pick(20_000, 40_000)
    with apart(context.deployment, "bench_placing") as own, Inside(own) as inside:
        inside.sequence()  # the first one connects
        placed, both = [], []
        for _ in range(TIMES):
            inside.seed(events)
            placed.append(inside.place())
            inside.seed(events)
            both.append(inside.sequence())
    for what, found in (("placed a second", placed), (BOTH, both)):
        yield Figure("placing", SUBJECT, what, "1/s", median(timed.rate for timed in found))
        cost = median(timed.cost for timed in found)
        yield Figure("placing", SUBJECT, f"CPU of an event, {what.removesuffix(' a second')}", "µs", cost)

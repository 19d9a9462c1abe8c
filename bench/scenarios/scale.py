"""What one unit of work costs each part, and where each part is full: what more machines are planned by.

Of PostgreSQL, Valkey, web processes (1, 2 and 4) and workers (1, 2 and 4), all of them the real ones: CPU
time for a unit of work, such as an event that a web process reads and that concerns none of its readers,
and memory and disk. As they share two cores here, that says where each would be full; besides, each is
driven alone until its own core is. Only uvicorn serves here. `python -m bench.capacity` reckons with it.
"""

from collections.abc import Iterator

from bench.apart import apart
from bench.context import Context
from bench.figures import UVICORN, Aim, Figure
from bench.plots import Plot
from bench.scaling import appends, fanout, fleet, hubs, streams, workers
from bench.scaling.units import KEYS

TITLE = "What a unit of work costs each part"
SECONDS = (90, 180)
AIMS: list[Aim] = []
PLOTS: list[Plot] = []


def run(context: Context) -> Iterator[Figure]:
    """Measure part by part."""
    if not context.among(UVICORN):
        return
    costs: dict[str, float] = {}
    for figure in _parts(context):
        if key := KEYS.get((figure.subject, figure.quantity)):
            costs[key] = figure.value
        yield figure
    yield from fleet.measure(context, costs)


def _parts(context: Context) -> Iterator[Figure]:
    yield from fanout.measure(context)
    yield from hubs.measure(context)
    yield from streams.measure(context)
    with apart(context.deployment, "bench_scale") as own:
        yield from appends.measure(context, own)
    with apart(context.deployment, "bench_scale") as own:
        yield from workers.measure(context, own)

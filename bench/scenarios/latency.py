"""From a commit to a client, at ever higher rates: the whole way of an event.

Events are appended one or a few a transaction, as they are due; a worker is woken, places and publishes; the
hub hands them to one reader. Latency is from just before the append, so the commit is in it.
"""

from collections.abc import Iterator

from bench.context import Context
from bench.figures import DAPHNE, UVICORN, Aim, Figure
from bench.plots import Plot
from bench.servers import Trouble

TITLE = "From commit to client"
SECONDS = (30, 120)
CHANNEL = "item:1"
RATES = {True: (50, 500, 2_000), False: (20, 100, 500, 1_000, 2_000, 5_000, 10_000)}
MEDIAN, LATE = "commit to client, median", "commit to client, p99"

AIMS = [
    aim
    for subject in (UVICORN, DAPHNE)
    for aim in (
        Aim("latency", subject, MEDIAN, 8.0, least=False, at=500),
        Aim("latency", subject, LATE, 40.0, least=False, at=500),
    )
]
PLOTS = [
    Plot("latency", "From commit to client", "latency", MEDIAN, "events a second", log_x=True),
    Plot("latency-p99", "From commit to client, the slowest of a hundred", "latency", LATE,
         "events a second", log_x=True),
]  # fmt: skip


def run(context: Context) -> Iterator[Figure]:
    """Publish ever faster to one reader of each server."""
    for subject in context.among(UVICORN, DAPHNE):
        with context.serving(subject) as server, context.crowd() as crowd, server.publisher() as publisher:
            crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, 1)])
            publisher.steady([CHANNEL], rate=50, seconds=1.0)  # warm
            for rate in RATES[context.quick]:
                crowd.mark()
                behind, before = context.deployment.behind(), server.usage()
                sent = publisher.steady([CHANNEL], rate=rate, seconds=context.pick(3.0, 8.0))
                if not crowd.until(sent.last):
                    raise Trouble(f"not everything came from {subject} at {rate} a second")
                heard = crowd.report()
                if heard.faults:
                    raise Trouble(f"{subject} had faults: {heard.faults}")
                yield Figure("latency", subject, MEDIAN, "ms", heard.late_ms[50], rate)
                yield Figure("latency", subject, LATE, "ms", heard.late_ms[99], rate)
                yield Figure("latency", subject, "published", "1/s", sent.events / sent.seconds, rate)
                spent = context.deployment.behind()
                parts = {part: (spent[part] - behind[part]).cpu_seconds for part in spent}
                parts["web"] = (server.usage() - before).cpu_seconds
                for part, seconds in parts.items():
                    share = 100 * seconds / sent.seconds
                    yield Figure("latency", subject, f"CPU of {part}", "% of a core", share, rate)

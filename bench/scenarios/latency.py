"""From a commit to a client, at ever higher rates: the whole way of an event.

Events are due each 4 ms at the most, and appended when they are, one or a few a transaction; a worker is
woken, places and publishes; the hub hands them to one reader. Latency is from when an event was due, so the
commit is in it, and whatever held up who appends. A rate that they could not keep to ends it, and has no
latency. A knee is a rate at which events come late, or cannot be appended in time, though neither core is
used up: then something waits, for a lock, the disk or another's answer. What the host took from a core is
no use of it, and has a figure of its own.
"""

import time
from collections.abc import Iterator
from typing import Self

from bench.context import Context, Server
from bench.figures import DAPHNE, UVICORN, Aim, Figure
from bench.plots import Plot
from bench.servers import Trouble
from bench.usage import busy, stolen

TITLE = "From commit to client"
SECONDS = (30, 70)
CHANNEL = "item:1"
RATES = {True: (50, 500, 2_000), False: (50, 500, 1_000, 2_000, 5_000, 10_000)}
MEDIAN, LATE = "commit to client, median", "commit to client, p99"
LATE_MS = 40.0
USED_UP = 90.0  # % of a core
OTHERS = 15.0  # % of a core, of who has no part in it: then what is used up says nothing of us
FIRST, SECOND = "the web process' core, all together", "the other core, all together"
STOLEN = "the host's, of both cores"
KNEES = f"rates later (p99) than {LATE_MS:.0f} ms, or not kept up with, though no core was used up"

AIMS = [
    aim
    for subject in (UVICORN, DAPHNE)
    for aim in (
        Aim("latency", subject, MEDIAN, 8.0, least=False, at=500),
        Aim("latency", subject, LATE, LATE_MS, least=False, at=500),
        Aim("latency", subject, KNEES, 0, least=False),
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
            knees = 0
            for rate in RATES[context.quick]:
                crowd.mark()
                with _Used(context, server) as used:
                    sent = publisher.steady([CHANNEL], rate=rate, seconds=context.pick(3.0, 5.0))
                if not crowd.until(sent.last):
                    raise Trouble(f"not everything came from {subject} at {rate} a second")
                heard = crowd.report()
                if heard.faults:
                    raise Trouble(f"{subject} had faults: {heard.faults}")
                late = not sent.kept_up or heard.late_ms[99] > LATE_MS
                knees += late and max(used.cores) < USED_UP
                others = sum(used.cores) - used.ours - 100 * (sent.cpu_share + heard.cpu_share)
                if late and max(used.cores) >= USED_UP and others > OTHERS:
                    context.remark(
                        f"latency: {subject} was late at {rate:,} events a second while others used"
                        f" {others:.0f} % of a core: whether there is a knee cannot be told."
                    )
                yield Figure("latency", subject, "appended late, p99", "ms", sent.late_ms, rate)
                parts = {
                    **used.parts,
                    "the publisher": 100 * sent.cpu_share,
                    "the load generator": 100 * heard.cpu_share,
                }
                for part, share in parts.items():
                    yield Figure("latency", subject, f"CPU of {part}", "% of a core", share, rate)
                if not sent.kept_up:
                    context.remark(f"latency: {rate:,} events a second could not be appended at {subject}.")
                    break
                yield Figure("latency", subject, MEDIAN, "ms", heard.late_ms[50], rate)
                yield Figure("latency", subject, LATE, "ms", heard.late_ms[99], rate)
            yield Figure("latency", subject, KNEES, "", knees)


class _Used:
    """What was used while the context was entered, in % of a core: by part, and of both cores by anybody."""

    def __init__(self, context: Context, server: Server) -> None:
        self._context = context
        self._server = server
        self.parts: dict[str, float] = {}

    @property
    def cores(self) -> list[float]:
        """Return how busy each core was."""
        return [self.parts[name] for name in (FIRST, SECOND)]

    @property
    def ours(self) -> float:
        """Return what all parts used together."""
        return sum(share for part, share in self.parts.items() if part not in (FIRST, SECOND, STOLEN))

    def __enter__(self) -> Self:
        self._began, self._before = time.monotonic(), self._now()
        return self

    def __exit__(self, *exc: object) -> None:
        passed = time.monotonic() - self._began
        self.parts = {
            part: 100 * (seconds - self._before[part]) / passed for part, seconds in self._now().items()
        }

    def _now(self) -> dict[str, float]:
        cores = self._context.cores
        return {
            **{part: used.cpu_seconds for part, used in self._context.deployment.behind().items()},
            "web": self._server.usage().cpu_seconds,
            FIRST: busy(cores.server),
            SECOND: busy(cores.rest),
            STOLEN: sum(map(stolen, {cores.server, cores.rest})),
        }

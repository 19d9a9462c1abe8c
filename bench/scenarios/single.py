"""One event at a time to everyone who has its channel open.

The next event is published when the last one has come to all, so nothing can be joined: this is what one
delivery costs. Of ours the event goes the whole way (log, worker, Valkey, hub); counted is the CPU of the
web process, and apart from it that of all behind it. Latency is from before the append, or the post, to
each client, to 0.4 ms: so long the load generator naps before it reads, or else a server would pay for waking
it with each write that it makes slower than that reads.
"""

from collections.abc import Iterator

from bench.context import Context
from bench.crowd import Crowd
from bench.figures import DAPHNE, EVENTSTREAM, NCHAN, UVICORN, Aim, Figure
from bench.publishing import Publisher
from bench.servers import Trouble
from bench.usage import spent

TITLE = "Single events to many subscribers"
SECONDS = (30, 70)
CHANNEL = "item:1"
CROWDS = {True: (1_000,), False: (1_000, 5_000)}
EVENTS = {1_000: 300, 5_000: 80}
QUICK_EVENTS = 100  # fewer, and a median would mean little
SLOWER = 5  # django-eventstream takes so much longer, and is measured as long by fewer
NAP_SECONDS = 0.0004
RATE = "deliveries a CPU second"
GENERATOR = "CPU of the load generator"  # more would be its limit, not the server's

AIMS = [
    *(Aim("single", UVICORN, RATE, 1.2, times=NCHAN, at=crowd) for crowd in CROWDS[False]),
    *(Aim("single", DAPHNE, RATE, 4.0, times=EVENTSTREAM, at=crowd) for crowd in CROWDS[False]),
    *(Aim("single", NCHAN, GENERATOR, 90, least=False, at=crowd) for crowd in CROWDS[False]),
]
PLOTS = ()


def run(context: Context) -> Iterator[Figure]:
    """Publish one event after the other to each subject."""
    for number in CROWDS[context.quick]:
        for subject in context.among():
            yield from _one(context, subject, number)


def _one(context: Context, subject: str, number: int) -> Iterator[Figure]:
    with context.serving(subject) as server, context.crowd() as crowd, server.publisher() as publisher:
        crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, number)])
        crowd.nap(NAP_SECONDS)
        for _ in range(10):  # warm
            _through(crowd, publisher)
        crowd.mark()
        behind = context.deployment.behind()
        before = server.usage()
        events = QUICK_EVENTS if context.quick else EVENTS[number]
        for _ in range(events // (SLOWER if subject == EVENTSTREAM else 1)):
            _through(crowd, publisher)
        cost = spent(server, before)
        heard = crowd.report()
        if heard.faults:
            raise Trouble(f"{subject} had faults: {heard.faults}")
        yield Figure("single", subject, RATE, "1/s", heard.events / cost, number)
        yield Figure("single", subject, "latency, median", "ms", heard.late_ms[50], number)
        yield Figure("single", subject, "latency, p99", "ms", heard.late_ms[99], number)
        yield Figure("single", subject, GENERATOR, "%", 100 * heard.cpu_share, number)
        if subject in (UVICORN, DAPHNE):
            used = context.deployment.behind()
            rest = sum((used[part] - behind[part]).cpu_seconds for part in used)
            published = heard.events / number
            yield Figure(
                "single",
                subject,
                "CPU behind the web process, an event",
                "ms",
                1000 * rest / published,
                number,
            )


def _through(crowd: Crowd, publisher: Publisher) -> None:
    number = publisher.one(CHANNEL)
    if not crowd.until({CHANNEL: number}):
        raise Trouble(f"event {number} did not come to all")

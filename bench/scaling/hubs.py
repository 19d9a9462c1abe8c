"""A web process by itself: what each event costs that concerns nobody here, and each write to a reader.

Batches are handed to Valkey as the sequencer makes them, of one size and at one rate; the hub believes
them, because it does not ask the log meanwhile. So no database has a part in it.
"""

import time
from collections.abc import Iterator

from bench.context import Context, Server
from bench.crowd import Crowd, serve
from bench.deployment import Deployment
from bench.figures import UVICORN, Figure
from bench.payload import BYTES
from bench.publishing import ByBatch, Publisher, Sent
from bench.scaling.units import SCENARIO, unit
from bench.scenarios.ramp import ramp
from bench.servers import Trouble
from bench.usage import spent
from bench.web import NEVER_LOOK

HEARD = "item:1"  # somebody reads it
UNHEARD = [f"item:{number}" for number in range(10_001, 11_001)]
READERS = 1_000
DELIVERIES, DELIVERIES_CPU = "deliveries a second, of those asked for", "CPU at those"
MANY = [f"item:{number}" for number in range(2, 1_002)]
LARGE = 2_000  # bytes
FEW = 10  # events of a message: of a worker's usual turn, a hundred times a second
FRAME_BYTES = 49  # of an event besides its payload: id, event, data
LATE_MS = 1_000.0


class Batches(Publisher):
    """The parent's side of who hands batches of one size to Valkey."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(serve, deployment.cores.rest, _Batches, (), deployment.environment)

    def batches(
        self, channels: list[str], *, of: int, a_second: float, seconds: float, size: int = BYTES
    ) -> Sent:
        """Publish so many batches a second, each of so many events to channels by turns."""
        sent: Sent = self.tell("batches", channels, of, a_second, seconds, size)
        return sent


class _Batches(ByBatch):
    """The child's side."""

    _size = BYTES

    def batches(self, channels: list[str], of: int, a_second: float, seconds: float, size: int) -> Sent:
        """Publish at a rate, not in bursts."""
        self._most, self._size, most = of, size, self._most
        began, cpu = time.monotonic(), time.process_time()
        sent = 0
        while (passed := time.monotonic() - began) < seconds:
            if sent > passed * a_second:
                time.sleep(sent / a_second - passed)
            first = sent * of
            some = [channels[(first + n) % len(channels)] for n in range(of)]
            self.send(self._next(some, [time.monotonic_ns()] * of))
            sent += 1
        self._most, self._size = most, BYTES
        return self._sent(channels, sent * of, began, cpu, due=sent * of, late=[0])

    def _next(self, channels: list[str], stamps: list[int]) -> list[tuple[str, str]]:
        pad = "x" * (self._size - BYTES)
        events = super()._next(channels, stamps)
        return [(channel, f'{data[:-2]}{pad}"}}') for channel, data in events] if pad else events


def measure(context: Context) -> Iterator[Figure]:
    """Have a web process read what concerns nobody, then write to its readers, then as much as it can."""
    with (
        context.serving(UVICORN, **NEVER_LOOK) as server,
        context.crowd() as crowd,
        Batches(context.deployment) as publisher,
    ):
        crowd.open(server.address, [(server.opening(HEARD), HEARD, 1)])
        yield from _reading(context, server, crowd, publisher)
        crowd.open(server.address, [(server.opening(HEARD), HEARD, READERS - 1)], last=None)
        yield from _writing(context, server, crowd, publisher)
        crowd.close()
        crowd.open(server.address, [(server.opening(channel), channel, 1) for channel in MANY])
        yield from _most(context, server, crowd, publisher)


def _reading(context: Context, server: Server, crowd: Crowd, publisher: Batches) -> Iterator[Figure]:
    seconds = context.pick(1.0, 2.5)

    def cost(of: int, a_second: float, size: int = BYTES) -> float:
        _through(crowd, publisher)
        before = server.usage()
        sent = publisher.batches(UNHEARD, of=of, a_second=a_second, seconds=seconds, size=size)
        _through(crowd, publisher)
        return 1e6 * spent(server, before) / sent.events

    cost(100, 50)  # warm
    few, batched, large = cost(FEW, 110), cost(100, 120), cost(100, 60, LARGE)
    kilobyte = (large - batched) / ((LARGE - BYTES) / 1000)
    message = (few - batched) / (1 / FEW - 1 / 100)
    yield unit("web.message", message)
    yield unit("web.event_kb", kilobyte)
    yield unit("web.event", batched - message / 100 - kilobyte * (BYTES + FRAME_BYTES) / 1000)
    before, began = server.usage(), time.monotonic()
    sent = publisher.batches(UNHEARD, of=500, a_second=1e6, seconds=seconds)
    _through(crowd, publisher)
    took = time.monotonic() - began
    yield _full("events of nobody a second where it is full", "1/s", sent.events / took, 1)
    yield _full("CPU at those of nobody", "% of a core", 100 * spent(server, before) / took, 1)


def _writing(context: Context, server: Server, crowd: Crowd, publisher: Batches) -> Iterator[Figure]:
    seconds = context.pick(1.0, 3.0)
    costs = {}
    for events, a_second in ((1, 30.0), (50, 12.0)):
        _through(crowd, publisher)
        crowd.mark()
        before = server.usage()
        sent = publisher.batches([HEARD], of=events, a_second=a_second, seconds=seconds)
        if not crowd.until(sent.last):
            raise Trouble("not everything came to the readers")
        heard = crowd.report()
        if heard.faults:
            raise Trouble(f"the readers had faults: {heard.faults}")
        costs[events] = 1e6 * spent(server, before) * events / heard.events
    kilobyte = (costs[50] - costs[1]) / (49 * (BYTES + FRAME_BYTES) / 1000)
    yield unit("web.write_kb", kilobyte)
    yield unit("web.write", costs[1] - kilobyte * (BYTES + FRAME_BYTES) / 1000)


def _most(context: Context, server: Server, crowd: Crowd, publisher: Batches) -> Iterator[Figure]:
    _until(crowd, publisher.steady(MANY, rate=5_000, seconds=0.5))
    steps = ramp(
        server, crowd, publisher, MANY, first=25_000, factor=context.pick(4.0, 2.0),
        seconds=context.pick(0.7, 1.2), in_time=lambda heard: heard.late_ms[99] < LATE_MS,
    )  # fmt: skip
    for step in steps:
        yield _full(DELIVERIES, "1/s", step.deliveries, step.rate)
        yield _full(DELIVERIES_CPU, "% of a core", 100 * step.server_share, step.rate)


def _full(what: str, unit: str, value: float, at: float | None = None) -> Figure:
    return Figure(SCENARIO, "web process", what, unit, value, at)


def _through(crowd: Crowd, publisher: Publisher) -> None:
    """Wait until the hub has read all that was published."""
    if not crowd.until({HEARD: publisher.one(HEARD)}):
        raise Trouble("not everything came to the reader")


def _until(crowd: Crowd, sent: Sent) -> None:
    if not crowd.until(sent.last):
        raise Trouble("not everything came to the readers")

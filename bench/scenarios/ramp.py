"""How much a server sustains: the rate is raised until it is more than that."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.context import Server
from bench.crowd import Crowd
from bench.generator import Heard
from bench.publishing import Publisher, Sent
from bench.usage import spent

PATIENCE_SECONDS = 20.0  # for what was published faster than it is delivered


@dataclass(frozen=True, slots=True)
class Step:
    """One rate, and what came of it."""

    rate: float
    sent: Sent
    heard: Heard
    complete: bool  # everything came to everyone, once and in order
    cpu_seconds: float  # of the server

    @property
    def server_share(self) -> float:
        """Return how much of a core the server took."""
        return self.cpu_seconds / self.heard.seconds if self.heard.seconds else 0.0

    @property
    def deliveries(self) -> float:
        """Return deliveries a second, from the first publishing to the last arrival."""
        return self.heard.events / self.heard.seconds if self.heard.seconds else 0.0

    @property
    def published(self) -> float:
        """Return events a second, as fast as the publisher could or should."""
        return self.sent.events / self.heard.seconds if self.heard.seconds else 0.0


def ramp(
    server: Server,
    crowd: Crowd,
    publisher: Publisher,
    channels: Sequence[str],
    *,
    first: float,
    factor: float,
    seconds: float,
    sustained: Callable[[Step], bool],
    most: float = 400_000.0,
) -> Iterator[Step]:
    """Yield ever faster steps up to and including the first that is not sustained."""
    rate = first
    while rate <= most:
        crowd.mark()
        before = server.usage()
        sent = publisher.steady(channels, rate=rate, seconds=seconds)
        came = crowd.until(sent.last, seconds=PATIENCE_SECONDS)
        heard = crowd.report()
        cost = spent(server, before)
        step = Step(rate, sent, heard, came and not heard.faults, cost)
        yield step
        if not step.complete or not sustained(step) or sent.events < 0.9 * rate * seconds:
            return
        rate *= factor

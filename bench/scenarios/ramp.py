"""How much a server sustains: the rate is raised until it is more than that, then halved towards it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

from bench.context import Server
from bench.crowd import Crowd
from bench.figures import Aim, Figure
from bench.generator import Heard
from bench.publishing import TICK_SECONDS, Publisher, Sent
from bench.usage import Usage, spent

AT, BEYOND = "at that", "at the first rate that is too much"
LOWEST = 100  # of the first rate's parts: what does not sustain that sustains nothing
PATIENCE_SECONDS = 20.0  # for what was published faster than it is delivered


@dataclass(frozen=True, slots=True)
class Step:
    """One rate, and what came of it."""

    rate: float
    sent: Sent
    heard: Heard
    complete: bool  # all of it came to everyone, once and in order
    sustained: bool  # that, and it was published so fast, and came in time
    cpu_seconds: float  # of the server
    behind: Mapping[str, float] = field(default_factory=dict)  # CPU seconds of each part behind it

    @property
    def server_share(self) -> float:
        """Return how much of a core the server took."""
        return self._a_second(self.cpu_seconds)

    @property
    def shares(self) -> dict[str, float]:
        """Return percents of a core, by whose: which of them was the limit."""
        return {
            "server": 100 * self.server_share,
            "load generator": 100 * self.heard.cpu_share,
            "publisher": 100 * self.sent.cpu_share,
            **{part: 100 * self._a_second(seconds) for part, seconds in self.behind.items()},
        }

    @property
    def deliveries(self) -> float:
        """Return deliveries a second, from the first publishing to the last arrival."""
        return self._a_second(self.heard.events)

    @property
    def published(self) -> float:
        """Return events a second, as fast as the publisher could or should."""
        return self._a_second(self.sent.events)

    def _a_second(self, much: float) -> float:
        return much / self.heard.seconds if self.heard.seconds else 0.0


class Found:
    """What came of all steps: the best that was sustained, and the slowest that was not."""

    def __init__(self) -> None:
        self.best: Step | None = None
        self.beyond: Step | None = None

    def add(self, step: Step) -> None:
        """Take a step."""
        if step.sustained:
            if self.best is None or step.deliveries > self.best.deliveries:
                self.best = step
        elif self.beyond is None or step.rate < self.beyond.rate:
            self.beyond = step


def ramp(
    server: Server,
    crowd: Crowd,
    publisher: Publisher,
    channels: Sequence[str],
    *,
    first: float,
    factor: float,
    halvings: int = 0,
    seconds: float,
    in_time: Callable[[Heard], bool],
    most: float = 400_000.0,
    tick: float = TICK_SECONDS,
    behind: Callable[[], Mapping[str, Usage]] = dict,
) -> Iterator[Step]:
    """Yield ever faster steps up to the first that is not sustained, then so many nearer to the limit.

    Each of these halves what is between, by ratio; where the first is too much, they get slower instead. It
    ends where something did not come, too: that may still be on its way, and be counted with what is next.
    `behind` says what the parts behind the server cost so far, if it has any.
    """
    rate, good, bad = first, 0.0, 0.0
    while first / LOWEST <= rate <= most:
        crowd.mark()
        before, stood = server.usage(), behind()
        sent = publisher.steady(channels, rate=rate, seconds=seconds, tick=tick)
        came = crowd.until(sent.last, seconds=PATIENCE_SECONDS)
        cost = spent(server, before)
        parts = {part: (used - stood[part]).cpu_seconds for part, used in behind().items()}
        heard = crowd.report()
        complete = came and not heard.faults
        sustained = complete and sent.kept_up and in_time(heard)
        yield Step(rate, sent, heard, complete, sustained, cost, parts)
        if not complete:
            return
        good, bad = (rate, bad) if sustained else (good, rate)
        if not bad:
            rate *= factor
        elif not good:
            rate /= factor
        elif halvings:
            rate, halvings = sqrt(good * bad), halvings - 1
        else:
            return


def wanting(step: Step) -> str:
    """Return what to remark of a step that was not complete, and that was so the last."""
    why = f"had faults: {step.heard.faults}" if step.heard.faults else "did not bring everything"
    return f"{why}; its limit was not looked for more closely than by the last factor"


def shares(scenario: str, subject: str, found: Found, how: str = "") -> Iterator[Figure]:
    """Yield whose core was how busy, at the best step and at the first beyond it."""
    for where, step in ((AT, found.best), (BEYOND, found.beyond)):
        for who, share in step.shares.items() if step else ():
            yield Figure(scenario, subject, f"CPU of the {who} {where}{how}", "%", share)


def its_own_limit(scenario: str, subject: str) -> list[Aim]:
    """Return the aims that show that a limit is the server's own, and not the load generator's."""
    return [
        Aim(scenario, subject, f"CPU of the server {BEYOND}", 90),
        *(Aim(scenario, subject, f"CPU of the load generator {at}", 90, least=False) for at in (AT, BEYOND)),
    ]

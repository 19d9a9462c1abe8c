"""What is asked of the service: the calculator's inputs, each checked where it comes in."""

import math
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any

MAX_AGE_SECONDS = 3_600  # STREAMS_MAX_AGE_SECONDS: every stream comes back so often, at the least


class Nonsense(ValueError):
    """An input that means nothing; the text names it."""


AUDIENCE = 20  # by default, where there are so many
MOST = 1e9  # streams, or events a second: more than there are people


def _input(default: Any, about: str, *, least: float = 0.0, most: float = MOST) -> Any:
    return field(default=default, metadata={"about": about, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A load at its busiest, what is kept of it, and what things cost."""

    connections: float = _input(100_000, "streams that are open", least=1)
    events: float = _input(1_000, "events a second, notifications that reactions raise included")
    audience: float = _input(AUDIENCE, "readers of an event, in the mean")
    bytes: float = _input(200, "JSON of an event, in the mean", least=2, most=1_000_000)
    overhead: float = _input(
        # TCP and IP 40 to 52, a record of TLS 1.3 22, framing of the chunk 8
        85,
        "bytes of a write to a reader besides what is written: TCP, IP, TLS, HTTP",
        most=1_000_000,
    )
    joined: float = _input(
        1, "events of one write to a reader: more than 1 where they come in bursts", least=1, most=1e6
    )
    per_transaction: float = _input(1, "events that one transaction appends", least=1, most=1e6)
    reacted: float = _input(0, "share of events that tell somebody by a reaction", most=1)
    opens: float | None = _input(None, "streams opened a second; by default each comes back once an hour")
    sessions: float = _input(
        1, "share of streams with a session of ours; the others have another's token", most=1
    )
    replay: float = _input(0.1, "share of those that come back and read the log, not the ring", most=1)
    missed: float = _input(10, "events that one of these reads there")
    retention: float = _input(30, "days that events are kept", most=36_500)
    mean: float = _input(0.5, "mean load of a month, as a share of this one: for disk and traffic", most=1)
    headroom: float = _input(0.6, "share of a core that is to be used", least=0.05, most=0.95)
    streams: float = _input(50_000, "streams of a web process (STREAMS_MAX_CONNECTIONS)", least=1)
    database_cores: float = _input(
        32, "cores of the largest database machine that can be had", least=1, most=1e6
    )
    database_sessions: float = _input(500, "sessions of it (max_connections, or a pooler's)", least=1)
    core: float = _input(25, "price of a core a month", most=1e6)
    memory: float = _input(3, "price of a GB of memory a month", most=1e6)
    disk: float = _input(0.1, "price of a GB of disk a month", most=1e6)
    egress: float = _input(0.07, "price of a GB that leaves", most=1e6)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None:
                continue
            least, most = each.metadata["least"], each.metadata["most"]
            name = "--" + each.name.replace("_", "-")
            if not math.isfinite(value):
                raise Nonsense(f"{name} is not a number")
            if value < least:
                raise Nonsense(f"{name} is {value:g}, and must be at least {least:g}")
            if value > most:
                raise Nonsense(f"{name} is {value:g}, and must be at most {most:g}")
        if self.audience > self.connections:
            raise Nonsense(
                "--audience is more than --connections: an event has no more readers than there are"
            )

    @classmethod
    def asked(cls, **inputs: float | None) -> "Load":
        """Return the load of the inputs that are given; of None, the default, as far as that can be."""
        given = {name: value for name, value in inputs.items() if value is not None}
        load = cls(**given | {"audience": given.get("audience", 0.0)})
        if "audience" in given:
            return load
        return replace(load, audience=min(AUDIENCE, load.connections))

    @property
    def opened(self) -> float:
        """Return how many streams are opened a second."""
        return self.connections / MAX_AGE_SECONDS if self.opens is None else self.opens

    @property
    def deliveries(self) -> float:
        """Return how many events come to a reader in a second."""
        return self.events * self.audience

    def times(self, factor: float) -> "Load":
        """Return a load of so many times the streams and events, and each event's readers as they are.

        Where there are fewer streams than an event has readers, all of them are its readers. It may be more
        than anybody may ask for: a limit may be there.
        """
        opens = None if self.opens is None else self.opens * factor
        connections = max(1.0, self.connections * factor)
        grown = copy(self)
        for name, value in {
            "connections": connections,
            "events": self.events * factor,
            "audience": min(self.audience, connections),
            "opens": opens,
        }.items():
            object.__setattr__(grown, name, value)
        return grown

"""Recoveries: the time from a fault's end until a fresh event is with everybody."""

import logging
import threading
import time
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Probe:
    """A fresh event after the end of a fault, and who has still to get it."""

    kind: str
    ended: float
    waiting: set[str]


class Recovery:
    """How long from a fault's end until an event appended after it is with every steady subscriber."""

    def __init__(self) -> None:
        self.slowest: dict[str, float] = {}
        self._lock = threading.Lock()
        self._probes: dict[int, Probe] = {}

    def expect(self, token: int, kind: str, ended: float, subscribers: set[str]) -> None:
        """Wait for a probe to arrive. Call before it can have."""
        with self._lock:
            self._probes[token] = Probe(kind, ended, set(subscribers))

    def heard(self, client: str, token: int) -> None:
        """Note that an event arrived."""
        probe = self._probes.get(token)
        if probe is None:
            return
        with self._lock:
            probe.waiting.discard(client)
            if not probe.waiting and self._probes.pop(token, None):
                seconds = time.monotonic() - probe.ended
                self.slowest[probe.kind] = max(self.slowest.get(probe.kind, 0.0), seconds)
                logger.info("recovered after %.2f s: %s; last was %s", seconds, probe.kind, client)

    def forget(self, token: int) -> None:
        """Wait no more for a probe whose append failed."""
        with self._lock:
            self._probes.pop(token, None)

    def late(self, seconds: float = 0.0) -> dict[str, set[str]]:
        """Return who has waited so long for a probe, by the kind of fault that it is of."""
        now = time.monotonic()
        found: dict[str, set[str]] = {}
        with self._lock:
            for probe in self._probes.values():
                if now - probe.ended > seconds:
                    found.setdefault(probe.kind, set()).update(probe.waiting)
        return found

    @property
    def open(self) -> int:
        """Return how many probes have not arrived everywhere."""
        return len(self._probes)

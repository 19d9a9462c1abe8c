"""How each fault of the schedule is done: how it begins, and how it is mended."""

import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.chaos import points
from tests.chaos.deployment import Deployment
from tests.chaos.ledger import Outcome, Record
from tests.chaos.schedule import Fault
from tests.chaos.tape import word
from tests.faults.wire import append

logger = logging.getLogger(__name__)

BURST_EVENTS = 120  # of one transaction: several batches of placing, and of publishing
POINTS = {
    "worker dies while placing": points.PLACING,
    "worker dies before publishing": points.PLACED,
    "worker dies in a batch": points.BATCH,
    "worker dies before acknowledging": points.DONE,
}
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, redis.RedisError, OSError)


class NotYetError(Exception):
    """It cannot be done now: the one whom it is about is away; try again soon."""


@dataclass(slots=True)
class Held:
    """A transaction with an append that is not committed yet."""

    connection: psycopg.Connection
    tokens: list[int]


class Breaker:
    """Does to a deployment what the schedule says. Each method is quick: it begins, and does not wait."""

    def __init__(
        self, deployment: Deployment, record: Record, channels: list[str], *, probed: str, seed: int
    ) -> None:
        self._deployment = deployment
        self._probed = probed
        self._record = record
        self._channels = channels
        self._random = random.Random(seed)
        self._held: dict[int, Held] = {}
        self._frozen: set[str] = set()
        self._dying: dict[int, int] = {}  # by a fault's number: the process id of who came by its point
        self.fell: dict[int, str] = {}  # by that id: who died so

    def begin(self, fault: Fault) -> None:
        """Break; raise NotYetError where it cannot be broken now."""
        verb, _, target = fault.kind.name.partition(" ")
        deployment = self._deployment
        if fault.kind.target in ("postgres", "point", "append") and "postgres" in self._frozen:
            raise NotYetError(fault.kind.name)  # who would thaw it while we wait for it?
        try:
            match verb:
                case "kill":
                    deployment.kill(target)
                case "freeze":
                    deployment.freeze(target)
                    self._frozen.add(target)
                case "network":
                    self._hurt_network(fault, target)
                case "worker":
                    self._arm(fault)
                case "hold":
                    self._hold(fault)
                case _:
                    self._others[fault.kind.name]()
        except AWAY as error:
            raise NotYetError(fault.kind.name) from error

    def mend(self, fault: Fault) -> None:
        """Take the cause away; raise NotYetError where that cannot be done now."""
        verb, _, target = fault.kind.name.partition(" ")
        match verb:
            case "kill" | "restart":
                self._deployment.revive(target.split()[0])
            case "freeze":
                self._deployment.thaw(target)
                self._frozen.discard(target)
            case "worker":
                # Nobody, where another fault killed it first: that one revives it.
                if name := self.fell.get(self._dying[fault.number]):
                    self._deployment.revive(name)
            case "hold":
                self._let_go(fault)

    @property
    def _others(self) -> Mapping[str, Callable[[], object]]:
        return {
            "flush valkey": lambda: self._valkey("FLUSHALL"),
            "restart valkey empty": lambda: self._deployment.kill("valkey"),
            "cut subscriptions": lambda: self._valkey("CLIENT", "KILL", "TYPE", "pubsub"),
            "restart postgres at once": self._deployment.end_postgres_at_once,
            "terminate all backends": lambda: self._terminate("true"),
            "terminate the hubs' backends": lambda: self._terminate("application_name = 'tickertape hub'"),
        }

    def _valkey(self, *words: str) -> None:
        # Only what Redis answers in time was done: one that is frozen may do it later, which is as good.
        with redis.Redis.from_url(self._deployment.valkey.url, socket_timeout=2) as control:
            control.execute_command(*words)

    def _terminate(self, whom: str) -> None:
        with self._deployment.backend() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = current_database() AND pid <> pg_backend_pid() AND {whom}"
            )

    def _hurt_network(self, fault: Fault, how: str) -> None:
        network = self._deployment.network
        match how:
            case "reset":
                network.do("reset", part=fault.amount)
            case "half-open":
                network.do("halfopen", part=fault.amount, **{"for": fault.seconds})
            case "stall":
                network.do("stall", seconds=fault.seconds)
            case "delay":
                network.do("delay", ms=fault.amount, seconds=fault.seconds)
            case "throttle":
                network.do("throttle", bytes=int(fault.amount), seconds=fault.seconds)

    # --- a worker that dies at a point -----------------------------------------------------------

    def _arm(self, fault: Fault) -> None:
        """Arm a point in the moment in which there is much to do for whoever comes by."""
        channels = [self._random.choice(self._channels) for _ in range(BURST_EVENTS)]
        try:
            self._append_all(channels, "burst", before=self._point(fault).touch)
        except AWAY:
            if self.disarm(fault):
                raise
            # A worker came by before, so somebody dies: it is begun.

    def reached(self, fault: Fault) -> int | None:
        """Return the process id of the worker that came by the point of a fault: it is dead, or soon."""
        if fault.number not in self._dying:
            point = self._point(fault)
            pids = points.told(point.parent, point.name) - set(self._dying.values())
            if pids:
                self._dying[fault.number] = min(pids)
        return self._dying.get(fault.number)

    def disarm(self, fault: Fault) -> bool:
        """Take a point back; return whether nobody came by."""
        self._point(fault).unlink(missing_ok=True)
        return self.reached(fault) is None

    def _point(self, fault: Fault) -> Path:
        return self._deployment.points / POINTS[fault.kind.name]

    # --- appends of the kit's own ----------------------------------------------------------------

    def probe(self, expect: Callable[[int], object]) -> None:
        """Append an event that every steady subscriber watches; `expect` is told its token before."""
        if "postgres" in self._frozen:
            raise NotYetError("probe")
        try:
            self._append_all([self._probed], "probe", expect=expect)
        except AWAY as error:
            raise NotYetError("probe") from error

    def _append_all(
        self,
        channels: Sequence[str],
        publisher: str,
        *,
        expect: Callable[[int], object] = lambda token: None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Append in one transaction; `before` is called before its commit, `expect` with each token."""
        tokens = []
        with self._deployment.backend(autocommit=False) as connection:
            for channel in channels:
                tokens.append(self._append(connection, channel, publisher))
                expect(tokens[-1])
            before()
        for token in tokens:
            self._record.know(token, Outcome.ACKNOWLEDGED)

    def _append(self, connection: psycopg.Connection, channel: str, publisher: str) -> int:
        token = self._record.intend(publisher, [channel])
        append(connection, channel, data={"token": word(token)})
        return token

    def _hold(self, fault: Fault) -> None:
        connection = self._deployment.backend(autocommit=False)
        channels = self._random.sample(self._channels, 3)
        tokens = [self._append(connection, channel, f"held {fault.number}") for channel in channels]
        self._held[fault.number] = Held(connection, tokens)

    def _let_go(self, fault: Fault) -> None:
        if "postgres" in self._frozen:
            raise NotYetError(fault.kind.name)
        held = self._held.pop(fault.number)
        with contextlib.closing(held.connection):
            try:
                held.connection.commit()
            except AWAY:
                logger.info("A transaction that was held open is lost with its connection.")
                return
        for token in held.tokens:
            self._record.know(token, Outcome.ACKNOWLEDGED)

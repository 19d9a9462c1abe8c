"""One run: begin everything, break it by the schedule, let it heal, and judge."""

import heapq
import itertools
import logging
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.chaos import ledger, points, publishers
from tests.chaos.clients import Program
from tests.chaos.crowd import Crowd, Place, gather
from tests.chaos.deployment import WEB, Deployment
from tests.chaos.faults import AWAY, POINTS, Breaker, NotYetError
from tests.chaos.ledger import Comment, Outcome, Record, Row, Verdict
from tests.chaos.recovery import Recovery
from tests.chaos.schedule import Fault
from tests.chaos.tape import Tape, token_of

logger = logging.getLogger(__name__)

ITEMS, USERS = 20, 10
TICK_SECONDS = 0.05
AGAIN_SECONDS = 0.3
GIVE_UP_SECONDS = 60  # a fault that could not be begun, or whose point nobody came by
OPEN_SECONDS = 120  # for the crowd to be there
PLACE_SECONDS = 60  # for the workers to have done what there is to do: nobody publishes any more
SETTLE_SECONDS = 240  # for everyone to have caught up, those who read 1 kB/s too
PROBE_SECONDS = 60  # for the last probes: nobody publishes or breaks anything any more
STILL_SECONDS = 30  # without a single delivery: nothing more will come; longer than any client's wait
PROGRESS_SECONDS = 10
SHOWN_LATE = 20
REVIVE_SECONDS = 1.0  # of what ended without being told to

# What the workers have still to do: to place, to react to, to try again.
_LEFT = """
SELECT (SELECT count(*) FROM events_event WHERE position IS NULL)
    + (SELECT l.head - c.position FROM events_logstate l, workers_checkpoint c WHERE c.name = 'reactions')
    + (SELECT count(*) FROM workers_delivery WHERE parked_at IS NULL)
"""
_COMMENTS = """
SELECT position, data::json->>'item_id', data::json->>'author_id' FROM events_event
WHERE type = 'CommentAdded' AND position IS NOT NULL ORDER BY position
"""
_TOLD = """
SELECT cause.position, told.data::json->>'user_id', count(*)
FROM events_event told JOIN events_event cause ON cause.id = told.caused_by
WHERE told.type = 'NotificationRaised' AND cause.type = 'CommentAdded' GROUP BY 1, 2
"""


@dataclass(slots=True)
class Result:
    """What a run found."""

    seed: int
    seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)  # faults that could not be done
    slowest: dict[str, float] = field(default_factory=dict)
    fell: Counter[str] = field(default_factory=Counter)  # processes that ended without being told to
    subscribers: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    ends: Counter[str] = field(default_factory=Counter)  # of streams, by the reason that they gave
    acknowledged: int = 0
    unknown: int = 0
    events: int = 0
    notifications: int = 0
    rows: int = 0  # of the read models
    deliveries: int = 0
    verdict: Verdict = field(default_factory=Verdict)


class Run:
    """A run on a deployment; `go` does it. Everything is begun and mended from the one thread that calls."""

    def __init__(
        self,
        deployment: Deployment,
        schedule: Sequence[Fault],
        programs: Sequence[Program],
        *,
        seed: int,
        seconds: float,
        rate: float,
        say: Callable[[str], None],
    ) -> None:
        self._deployment = deployment
        self._schedule = schedule
        self._programs = programs
        self._seconds = seconds
        self._rate = rate
        self._say = say
        self._record = Record()
        self._recovery = Recovery()
        self._result = Result(seed, seconds)
        self._random = random.Random(f"{seed} run")
        self._todo: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._begun = 0.0
        self._blamed: list[str] = []  # what is wrong, and seen before the end

    def go(self) -> Result:
        """Run from beginning to end."""
        seed, deployment = self._result.seed, self._deployment
        items = self._make_items()
        with deployment.connect() as connection:
            [epoch] = connection.execute("SELECT epoch FROM events_logstate").fetchone()
        probed, *items = items
        channels = [f"item:{item}" for item in items] + [f"user:{id_}" for id_ in deployment.user_ids]
        place = Place(
            bases=[deployment.balanced, *(deployment.base(name) for name in WEB)],
            items=items,
            probed=f"item:{probed}",
            users=[(id_, self._cookie(number)) for number, id_ in enumerate(deployment.user_ids)],
        )
        self._breaker = Breaker(deployment, self._record, channels, probed=f"item:{probed}", seed=seed)
        hired = publishers.hire(deployment, self._record, items, channels, rate=self._rate, seed=seed)
        crowd = gather(self._programs, place, seed=seed)
        for program, clients in crowd.items():
            self._result.subscribers[program.name] = len(clients)
        with Crowd(crowd, deployment.folder, epoch, self._recovery.heard) as self._crowd:
            self._await("everyone is connected", self._all_open, OPEN_SECONDS)
            for publisher in hired:
                publisher.start()
            self._break()
            self._say("no more faults; publishers stop, everything is there, everyone catches up")
            for publisher in hired:
                publisher.stop()
            for publisher in hired:
                publisher.join(60)
                if publisher.failure is not None:
                    raise publisher.failure
            rows = self._settle()
        self._judge(rows, hired)
        return self._result

    # --- the beginning -----------------------------------------------------------------------------

    def _make_items(self) -> list[str]:
        made = []
        for number in range(ITEMS + 1):
            client = self._deployment.person(number % USERS)
            answer = client.post("/api/items", json={"title": f"Item {number}"})
            assert answer.status_code == 201, answer.text
            made.append(str(answer.json()["id"]))
        return made

    def _cookie(self, number: int) -> str:
        client = self._deployment.person(number)
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items() if name == "sessionid")

    def _all_open(self) -> bool:
        return all(tape.opened for tape in self._crowd.tapes.values())

    def _await(self, what: str, check: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is so, or nothing happens any more; say where it is not in time."""
        began = moved = time.monotonic()
        deliveries = -1
        while not check():
            self._turn()
            now = time.monotonic()
            if self._crowd.deliveries != deliveries:
                deliveries, moved = self._crowd.deliveries, now
            if now - began > seconds or (self._begun and now - moved > STILL_SECONDS):
                self._say(f"not so after {now - began:.0f} s: {what}")
                return False
            time.sleep(0.2)
        return True

    # --- breaking ----------------------------------------------------------------------------------

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._todo, (when, next(self._numbers), action))

    def _break(self) -> None:
        """Do what the schedule says, each at its time; return when all is mended."""
        self._begun = time.monotonic()
        for fault in self._schedule:
            self._at(self._begun + fault.at, lambda fault=fault: self._begin(fault, since=time.monotonic()))
        self._at(self._begun + PROGRESS_SECONDS, self._progress)
        end = self._begun + self._seconds
        self._working = len(self._schedule)
        while self._working or time.monotonic() < end:
            self._turn()
            time.sleep(TICK_SECONDS)

    def _turn(self) -> None:
        """Do what is due, and what nobody asked for."""
        while self._todo and self._todo[0][0] <= time.monotonic():
            heapq.heappop(self._todo)[2]()
        self._crowd.check()
        self._tend()

    def _begin(self, fault: Fault, *, since: float) -> None:
        now = time.monotonic()
        try:
            self._breaker.begin(fault)
        except NotYetError:
            if now - since > GIVE_UP_SECONDS:
                self._miss(fault)
            else:
                self._at(now + AGAIN_SECONDS, lambda: self._begin(fault, since=since))
            return
        logger.info("%7.2f begun: %s", now - self._begun, fault)
        if fault.kind.name in POINTS:
            self._watch(fault, since=now)
        else:
            self._at(now + fault.seconds, lambda: self._mend(fault))

    def _watch(self, fault: Fault, *, since: float) -> None:
        """Wait until a worker died at a fault's point."""
        now = time.monotonic()
        dying = self._breaker.reached(fault)
        if dying is not None and not self._deployment.runs(dying):
            self._at(now + fault.seconds, lambda: self._mend(fault))
        elif dying is None and now - since > GIVE_UP_SECONDS and self._breaker.disarm(fault):
            self._miss(fault)
        else:
            self._at(now + TICK_SECONDS, lambda: self._watch(fault, since=since))

    def _miss(self, fault: Fault) -> None:
        self._result.missed[fault.kind.name] += 1
        self._working -= 1
        logger.info("%7.2f missed: %s", time.monotonic() - self._begun, fault)

    def _mend(self, fault: Fault) -> None:
        try:
            self._breaker.mend(fault)
        except NotYetError:
            self._at(time.monotonic() + AGAIN_SECONDS, lambda: self._mend(fault))
            return
        ended = time.monotonic()
        logger.info("%7.2f ended: %s", ended - self._begun, fault)
        self._result.faults[fault.kind.name] += 1
        self._probe(fault, ended)

    def _probe(self, fault: Fault, ended: float) -> None:
        """Append a fresh event as soon as that can be done, for all who listen since before."""
        tapes = self._crowd.tapes
        steady = {name for name in self._crowd.steady if tapes[name].opened}
        tokens = []

        def expect(token: int) -> None:
            tokens.append(token)
            self._recovery.expect(token, fault.kind.name, ended, steady)

        try:
            self._breaker.probe(expect)
        except NotYetError:
            for token in tokens:
                self._recovery.forget(token)
            self._at(time.monotonic() + AGAIN_SECONDS, lambda: self._probe(fault, ended))
        else:
            self._working -= 1

    def _tend(self) -> None:
        """Start again what ended without being told to, as a supervisor would; it is wrong all the same."""
        for each in self._deployment.fallen():
            if each.pid in points.told(self._deployment.points):
                self._breaker.fell[each.pid] = each.name
                continue
            self._result.fell[each.name] += 1
            words = f"{each.name} ended with {each.status} without being told to"
            self._blamed.append(words)
            self._say(f"{words}; it is started again")
            self._at(time.monotonic() + REVIVE_SECONDS, lambda name=each.name: self._deployment.revive(name))

    def _progress(self) -> None:
        now = time.monotonic()
        done = sum(self._result.faults.values())
        self._say(
            f"{now - self._begun:5.0f} s: {done} faults done, {len(self._record):,} events,"
            f" {self._crowd.deliveries:,} deliveries, {self._recovery.open} probes under way"
        )
        if late := sorted(set().union(*self._recovery.late(PROGRESS_SECONDS).values())):
            logger.info("%7.2f late: %d, %s", now - self._begun, len(late), ", ".join(late[:SHOWN_LATE]))
            for name in late[:2]:
                logger.info("        %s: %s", name, self._crowd.tapes[name].tail(12))
        self._at(now + PROGRESS_SECONDS, self._progress)

    # --- the end -------------------------------------------------------------------------------------

    def _settle(self) -> list[Row]:
        """Have everything placed and everyone caught up; return the log."""
        self._deployment.network.do("mend")
        what = "everything is placed and reacted to"
        if not self._await(what, self._all_done, PLACE_SECONDS):
            self._blamed.append(f"not so at the end: {what}")
        self._await("every probe has arrived", lambda: not self._recovery.open, PROBE_SECONDS)
        self._crowd.tell("settle")
        rows = self._read_log()
        last: dict[str, int] = {}
        for row in rows:
            for channel in row.channels:
                last[channel] = row.position

        def behind() -> list[Tape]:
            return [
                tape
                for tape in self._crowd.tapes.values()
                if tape.reached < max((last.get(channel, 0) for channel in tape.channels), default=0)
            ]

        began = time.monotonic()
        if self._await("everyone has caught up", lambda: not behind(), SETTLE_SECONDS):
            self._say(f"everyone has caught up after {time.monotonic() - began:.1f} s")
        else:
            self._say(f"still behind: {', '.join(sorted(tape.name for tape in behind())[:20])}")
        return rows

    def _rebuild(self) -> None:
        """Fold every read model from the log anew; nothing may come of it."""
        names = self._deployment.manage("rebuild").split()
        assert names, "there are no read models"
        try:
            printed = self._deployment.manage("rebuild", *names)
        except subprocess.CalledProcessError as failed:
            printed = failed.stdout or ""  # of those before it; the others are blamed
        self._result.rows = ledger.judge_rebuilds(names, printed, self._result.verdict)

    def _all_done(self) -> bool:
        try:
            with self._deployment.backend() as connection:
                [left] = connection.execute(_LEFT).fetchone()
        except AWAY:
            return False
        return bool(left == 0)

    def _read_log(self) -> list[Row]:
        with self._deployment.backend() as connection:
            found = connection.execute(
                "SELECT position, channels, CASE type WHEN 'CommentAdded' THEN data::json->>'text'"
                " WHEN 'Noted' THEN data::json->>'token' END"
                " FROM events_event WHERE position IS NOT NULL ORDER BY position"
            )
            return [Row(position, tuple(channels), token_of(text)) for position, channels, text in found]

    def _judge_reactions(self) -> None:
        with self._deployment.backend() as connection:
            owners = connection.execute("SELECT id::text, owner_id::text FROM events_item").fetchall()
            comments = [Comment(*row) for row in connection.execute(_COMMENTS)]
            told = {(position, user): times for position, user, times in connection.execute(_TOLD)}
        self._result.notifications = sum(told.values())
        ledger.judge_reactions(dict(owners), comments, told, self._result.verdict)

    def _judge(self, rows: list[Row], hired: Sequence[publishers.Publisher]) -> None:
        result = self._result
        tapes = self._crowd.tapes.values()
        result.verdict = ledger.judge(self._record, rows, tapes)
        self._judge_reactions()
        self._rebuild()
        ledger.judge_faults(result.faults, result.missed, self._recovery.late(), result.verdict)
        for words in (*self._blamed, *(words for each in hired for words in each.refused)):
            result.verdict.blame(Verdict.STRANGE, words)
        result.slowest = self._recovery.slowest
        result.acknowledged = self._record.count(Outcome.ACKNOWLEDGED)
        result.unknown = self._record.count(Outcome.UNKNOWN)
        result.events = len(rows)
        result.deliveries = self._crowd.deliveries
        result.connections = sum(tape.connections for tape in tapes)
        for tape in tapes:
            result.ends.update(tape.ends)

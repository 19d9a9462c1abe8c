"""The promises of streams under whatever may happen, in whatever order: hubs and subscribers on the real log.

Hypothesis writes the story: what is appended, placed, published, lost, doubled, reordered or late,
who reads, stalls, leaves and comes back from where, and when PostgreSQL answers. A `Witness` of
each connection judges every byte; at any moment the story may stop, and then everyone must get all
of it within the time that the README promises.

The stories of a run are the same ones every time; HYPOTHESIS_PROFILE=long tells others, and more.
"""

import asyncio
import logging
import os
import sys
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.test import override_settings
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from events import log
from events.access import AccessChanged
from events.channels import ACCESS, LOG, Channel
from events.cursor import Cursor
from streams.batch import Batch
from streams.connection import LAST_SECONDS
from streams.parked import ROUND_SECONDS
from streams.reader import Reader
from streams.subscriber import Subscriber
from tests.streams.conftest import StreamTested
from tests.streams.ledger import Ledger, Witness
from tests.streams.straight import Pipe, begin
from tests.streams.timeless import Bench, Process

_SAME = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "phases": (Phase.generate, Phase.shrink),
    "report_multiple_bugs": False,
    "suppress_health_check": list(HealthCheck),
}
PROFILES = {
    "short": settings(max_examples=140, stateful_step_count=50, derandomize=True, **_SAME),
    "long": settings(max_examples=4_000, stateful_step_count=70, **_SAME),
}
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")

CHANNELS = ("item:1", "item:2", "item:3", "item:9")  # nobody reads the last one
READERS = (
    ("7", frozenset({"item:1"})),
    ("8", frozenset({"item:1", "item:2"})),
    ("7", frozenset({"item:2", "item:3"})),
)
DISASTERS = ("drain", "restart", "command", "timeline", "head")  # the last three: ways of a restore
MEANWHILE = (
    "posted",
    "posted",
    "revoked",
    "revoked unheard",
    "pruned",
    "restored",
    "away",
    "another left",
)
HAPPENINGS = (
    *("a batch was taken", "a batch overlapped", "a batch left a gap", "a hub jumped"),
    *("a live reader fell back", "event", "heartbeat", "open: live", "open: resumed", "open: reset"),
    *("open: malformed", "open: epoch", "open: ahead", "open: pruned", "go on: epoch", "go on: pruned"),
    *("end: drain", "end: revoked", "end: database"),
)
GARBAGE = ("garbage", "-", "ffff-", "ffff-01", "0123456789-1", "x" * 300)
HEARTBEAT_SECONDS = 3.0
RECHECK_SECONDS = 5.0
MOST_CHUNKS = 500  # that a story of this length can hold for one reader

_LIMITS = {
    "STREAMS_BUFFER_BYTES": (150, 400, 4000),
    "STREAMS_PAGE_EVENTS": (1, 3, 20),
    "STREAMS_PAGE_BYTES": (1, 200, 4000),
    "STREAMS_WRITE_BYTES": (1, 150, 4000),
    "STREAMS_REPLAY_BYTES": (1, 5000, 100_000),
    "STREAMS_RING_EVENTS": (3, 8, 100),
    "STREAMS_RING_BYTES": (1500, 100_000),
    "WORKERS_PUBLISH_BATCH": (1, 3, 50),
}

A_CLIENT = st.integers(0, len(READERS) - 1)
A_HUB = st.integers(0, 1)
SOME_CHANNELS = st.sets(st.sampled_from(CHANNELS), min_size=1, max_size=3)
A_ROOM = st.sampled_from((0, 1, 3, 100))  # pieces in the kernel of a connection taken over; 0: over ASGI
A_PLACE = st.sampled_from(("last", "last", "seen", "near", "near", "ahead", "now", "earliest", "garbage"))


class Client:
    """Somebody with a page open: remembers every id, has a connection or none."""

    def __init__(self, user_id: str, channels: frozenset[str]) -> None:
        self.user_id = user_id
        self.channels = channels
        self.ids: list[str] = []
        self.last: str | None = None
        self.hub: Process | None = None
        self.subscriber: Subscriber | None = None
        self.witness: Witness | None = None
        self.chunks: Any = None
        self.asking: asyncio.Task[tuple[bytes, Cursor, int]] | None = None
        self.pipe: Pipe | None = None
        self.working: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self.witness is not None and self.witness.ended is None

    def connect(self, hub: Process, ledger: Ledger, last_event_id: str | None, room: int) -> None:
        """Be authorised; the stream begins with the first reading."""
        self.hub = hub
        self.witness = Witness(ledger, self.channels, self.user_id, last_event_id, hub.cursor)
        names = frozenset(Channel(name) for name in self.channels)
        self.subscriber = Subscriber(hub, names, Reader(self.user_id), since=hub.cursor)
        self.beginning = None
        if room:
            self.pipe, self.beginning = begin(self.subscriber, last_event_id, room=room)
        else:
            self.chunks = self.subscriber.chunks(last_event_id)

    def ask(self) -> None:
        """Be ready for the next chunk, as a writer is when the one before is written."""

        async def one() -> tuple[bytes, Cursor, int]:
            return await anext(self.chunks), self.hub.cursor, self.hub.ring.start

        if self.pipe is not None:
            if self.beginning is not None:
                self.working, self.beginning = self.hub.bench.loop.create_task(self.beginning), None
        elif self.asking is None and self.connected:
            self.asking = self.hub.bench.loop.create_task(one())

    def take(self) -> bool:
        """Take what was written, if anything was."""
        if self.pipe is not None:
            return self._take_out()
        if self.asking is None or not self.asking.done():
            return False
        asking, self.asking = self.asking, None
        self._hear(*asking.result())
        return True

    def _take_out(self) -> bool:
        """Read what is in the kernel; nobody asks for it, so it may have come since."""
        if not (self.pipe.sent or self.pipe.is_full):
            return False
        for written in self.pipe.take():
            self._hear(*written)
        if self.pipe.aborted and self.connected:
            # Who did not take in time that it ended was cut off: there has to be a reason, as if it had.
            self.witness.ended, _ = self.subscriber._ended
            assert self.witness.ended in LAST_SECONDS
            self.judge_end(self.witness.ended)
        return True

    def _hear(self, chunk: bytes, upto: Cursor, above: int) -> None:
        self.witness.hear(chunk, upto, above)
        if self.witness.ids:
            self.last = self.witness.ids[-1]
            self.ids += (id_ for id_ in self.witness.ids if id_ not in self.ids)
        if self.witness.ended:
            self.judge_end(self.witness.ended)

    def judge_end(self, reason: str) -> None:
        """Hold that the stream was ended for a reason that there was."""
        held = {
            "drain": self.hub.draining,
            "database": self.hub.was_away,
            "revoked": self.witness.may_be_revoked() or self.witness.since.position < self.hub.ring.start,
        }
        assert held.get(reason), f"ended without a reason: {reason}"

    async def leave(self) -> None:
        """Close the connection, at whatever it was."""
        if self.asking is not None:
            self.asking.cancel()
            await asyncio.gather(self.asking, return_exceptions=True)
        if self.chunks is not None:
            await self.chunks.aclose()
        if self.pipe is not None:
            if self.beginning is not None:
                self.beginning.close()
            self.pipe.owner.lost()
            await asyncio.gather(*filter(None, [self.working]), return_exceptions=False)
        if self.hub is not None:
            assert self.subscriber not in set(self.hub.audience)
        self.hub = self.subscriber = self.witness = self.chunks = self.asking = self.pipe = self.working = (
            None
        )


class Story(RuleBasedStateMachine):
    """One log, two processes, three clients."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.limits = override_settings()
        self.ledger = Ledger(_empty_log(), bench.happened)
        self.synced = bench.asked  # the questions after which the ledger knew of the epoch
        self.published = 0  # "up to N", as Redis keeps it
        self.lost: set[tuple[str, frozenset[str]]] = set()  # who may not read on, until they ask again
        self.clients = [Client(*reader) for reader in READERS]
        self.hubs: list[Process] = []

    @initialize(
        limits=st.fixed_dictionaries({name: st.sampled_from(v) for name, v in _LIMITS.items()}),
        crowd=st.sampled_from((True, True, False)),
    )
    def begin(self, limits: dict[str, int], crowd: bool) -> None:
        self.limits = override_settings(
            **limits,
            STREAMS_HEARTBEAT_SECONDS=HEARTBEAT_SECONDS,
            STREAMS_RECHECK_SECONDS=RECHECK_SECONDS,
        )
        self.limits.enable()
        self.hubs = [self._process(), self._process()]
        self._settle()
        for who in range(len(self.clients) if crowd else 0):
            self.connect_and_read(who, who, "now", 0, who)  # one of them over ASGI

    # --- the log --------------------------------------------------------------------------------

    @rule(channels=SOME_CHANNELS, count=st.integers(1, 4), size=st.sampled_from((0, 90, 600)))
    def append(self, channels: set[str], count: int, size: int) -> None:
        """Change something, in one transaction: nobody knows yet."""
        with transaction.atomic():
            for _ in range(count):
                fact = self.ledger.record(channels)
                log.append(
                    StreamTested(n=fact.n, text="x" * size), channels=[Channel(c) for c in sorted(channels)]
                )

    @rule(batch=st.integers(1, 8))
    def place(self, batch: int) -> None:
        placed = log.place(batch)
        self.ledger.begin(placed.epoch)
        assert (placed.count, placed.head) == (self.ledger.place(batch), self.ledger.head)

    @rule(back=st.sampled_from((0, 0, 0, 0, 1, 3, -1)))
    def publish(self, back: int) -> None:
        """Tell Redis what was placed above N; or above another position, as after a flush."""
        after = min(max(self.published - back, self.ledger.oldest - 1, 0), self.ledger.head)
        page = log.read(after, limit=django_settings.WORKERS_PUBLISH_BATCH)
        self._sync()
        self.published = max(self.published, page.covered_to)
        message = Batch.of(page).pack()
        for hub in self.hubs:
            if hub.subscribed:
                hub.wire.append(message)

    @rule(
        channels=SOME_CHANNELS,
        count=st.integers(1, 4),
        size=st.sampled_from((0, 90, 600)),
        again=st.sampled_from((0, 0, 1, 3)),
    )
    def post(self, channels: set[str], count: int, size: int, again: int = 0) -> None:
        """What happens when all is well, but for some that Redis is told again."""
        self.append(channels, count, size)
        self._hear_of_it(again)

    @rule(channels=SOME_CHANNELS, count=st.integers(1, 4), size=st.sampled_from((0, 90, 600)))
    def post_unheard(self, channels: set[str], count: int, size: int) -> None:
        """What happens when Redis is away."""
        self.append(channels, count, size)
        self.place(50)

    @rule(far=st.integers(0, 8))
    def prune(self, far: int) -> None:
        """Let the log forget the oldest events."""
        upto = min(self.ledger.oldest + far, self.ledger.head)
        removed = log.prune(upto)
        assert removed == max(0, upto + 1 - self.ledger.oldest)
        if removed:
            self.ledger.oldest += removed
            self.ledger.record([LOG])

    @rule(
        user=st.sampled_from((None, "7", "8")),
        channel=st.sampled_from((None, "item:1", "item:3")),
        at_once=st.booleans(),
    )
    def take_away(self, user: str | None, channel: str | None, at_once: bool) -> None:
        """End somebody's permission; it is given again when they ask again."""
        fact = self.ledger.record([ACCESS], (user, channel))
        # Each for themselves: that one of them asks again gives nothing to the others.
        self.lost |= {reader for reader in READERS if fact.concerns(*reader)}
        with transaction.atomic():
            log.append(AccessChanged(user_id=user, channel=channel, reason="test"), channels=[ACCESS])
        if at_once:
            self.place(50)

    @rule(hub=A_HUB, back=st.integers(0, 6), what=st.sampled_from(DISASTERS))
    def disaster(self, hub: int, back: int, what: str) -> None:
        """Let one of the rarer things happen: one rule, so that stories are not full of them."""
        if what == "drain":
            self.bench.run(self.hubs[hub].drain(0))
            self._settle()
        elif what == "restart":
            self._restart(hub)
        else:
            self._restore(back, what)

    def _restore(self, back: int, how: str) -> None:
        """Lose the log's end, as a restore or a fail-over does, found in one of three ways."""
        position = max(self.ledger.head - back, self.ledger.oldest - 1)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = 'replica'")  # past the guards
            cursor.execute("DELETE FROM events_channelposition WHERE position > %s", [position])
            cursor.execute("DELETE FROM events_event WHERE position > %s", [position])
            cursor.execute("UPDATE events_logstate SET head = %s", [position])
            if how == "timeline":  # whoever looks or places next sees it
                cursor.execute("UPDATE events_logstate SET timeline = 'before'")
        self.ledger.undo(position)
        self.published = min(self.published, position)
        ahead = [h for h in self.hubs if h.position > position and h.epoch == self.ledger.epoch]
        if how == "head" and ahead:
            with connection.cursor() as cursor:
                cursor.execute("SELECT tickertape_look(%s, %s)", [ahead[0].epoch, ahead[0].position])
        elif how != "timeline":
            log.new_epoch()
        self._sync()

    # --- Redis, and time ----------------------------------------------------------------------------

    @rule(hub=A_HUB, which=st.integers(0, 4), twice=st.booleans())
    def deliver(self, hub: int, which: int, twice: bool) -> None:
        """Let a message arrive: in its turn, before it, late, again."""
        process = self.hubs[hub]
        if process.wire:
            which %= len(process.wire)
            message = process.wire[which] if twice else process.wire.pop(which)
            process.deliver(message)
            self._settle()
            batch = Batch.unpack(message)
            if not (process.hold or process.held or process.away) and batch.epoch == self.ledger.epoch:
                assert process.position >= min(batch.last, self.ledger.head), "a gap that is not read"

    @rule(hub=A_HUB, which=st.integers(0, 4))
    def lose(self, hub: int, which: int) -> None:
        wire = self.hubs[hub].wire
        if wire:
            wire.pop(which % len(wire))

    @rule(hub=A_HUB)
    def cut(self, hub: int) -> None:
        """Lose the connection to Redis; it is back when time passes."""
        self.hubs[hub].cut()
        self._settle()

    @rule(seconds=st.sampled_from((0.2, 1.0, 1.0, HEARTBEAT_SECONDS, RECHECK_SECONDS)))
    def wait(self, seconds: float) -> None:
        self.bench.pass_time(seconds)
        self._sync()
        self._take()

    # --- PostgreSQL, as a process sees it ------------------------------------------------------------

    @rule(hub=A_HUB, stage=st.sampled_from(("asked", "answered")))
    def hold(self, hub: int, stage: str) -> None:
        """Let the log be slow for a process: its questions, or their answers, stay on the way."""
        self.hubs[hub].hold = stage

    @rule(hub=A_HUB, which=st.integers(0, 3), all_of_them=st.booleans())
    def release(self, hub: int, which: int, all_of_them: bool) -> None:
        """Let a question or an answer arrive; or all, and be fast again."""
        process = self.hubs[hub]
        if all_of_them:
            self._release(process)
        elif process.held:
            process.held[which % len(process.held)].set_result(None)
        self._settle()

    @rule(hub=A_HUB, away=st.booleans())
    def lose_the_log(self, hub: int, away: bool) -> None:
        process = self.hubs[hub]
        process.away = away
        process.was_away = process.was_away or away

    @rule(hub=A_HUB)
    def look(self, hub: int) -> None:
        """Ask where the log stands, as a health check does."""
        self.hubs[hub].look_aside()
        self._settle()

    # --- clients -------------------------------------------------------------------------------------

    @rule(who=A_CLIENT, hub=A_HUB, place=A_PLACE, back=st.integers(0, 9), room=A_ROOM)
    def connect(self, who: int, hub: int, place: str, back: int, room: int = 0) -> None:
        """Come, or come back, to either process, from any place on the tape that there is or is not."""
        client = self.clients[who]
        self.bench.run(client.leave())
        self._settle()
        # Whoever comes is authorised, so what was taken from them was given again.
        self.lost.discard((client.user_id, client.channels))
        client.connect(self.hubs[hub % 2], self.ledger, self._place(client, place, back), room)

    @rule(who=A_CLIENT, hub=A_HUB, place=A_PLACE, back=st.integers(0, 9), room=A_ROOM)
    def connect_and_read(self, who: int, hub: int, place: str, back: int, room: int = 0) -> None:
        self.connect(who, hub, place, back, room)
        self.read(who, 2)

    @rule(who=A_CLIENT, chunks=st.integers(1, 2))
    def read(self, who: int, chunks: int) -> None:
        """Take some chunks, and be ready for the next where there was none."""
        client = self.clients[who]
        for _ in range(chunks):
            client.ask()
            if not self._settle(client):
                return

    @rule(
        who=A_CLIENT,
        hub=A_HUB,
        stage=st.sampled_from(("asked", "answered")),
        what=st.sampled_from(MEANWHILE),
        size=st.sampled_from((0, 90, 600)),
        room=A_ROOM,
    )
    def meanwhile_in_a_replay(self, who: int, hub: int, stage: str, what: str, size: int, room: int) -> None:
        """Let something happen while the first page of a long replay is on its way."""
        self.meanwhile(who, hub, "earliest", 0, stage, False, what, size, room)

    @rule(
        who=A_CLIENT,
        hub=A_HUB,
        place=A_PLACE,
        back=st.integers(0, 9),
        stage=st.sampled_from(("", "asked", "answered")),
        begun=st.booleans(),
        what=st.sampled_from(MEANWHILE),
        size=st.sampled_from((0, 90, 600)),
        room=A_ROOM,
    )
    def meanwhile(
        self,
        who: int,
        hub: int,
        place: str,
        back: int,
        stage: str,
        begun: bool,
        what: str,
        size: int,
        room: int,
    ) -> None:
        """Let something happen between two steps of a reader: its check, its question, the answer."""
        client, process = self.clients[who], self.hubs[hub]
        if not (client.hub is process and begun):
            self.connect(who, hub, place, back, room)
        process.hold = stage
        if stage:
            self.read(who, 2)
        self._happen(what, client, process, size)
        self._release(process)
        self._settle()
        self._read_on(client)
        process.away = False

    def _happen(self, what: str, client: Client, process: Process, size: int) -> None:
        if what == "revoked":
            self.take_away(client.user_id, None, at_once=False)
            self._hear_of_it()
        elif what == "pruned":
            self.prune(4)
        elif what == "restored":
            self._restore(2, "timeline")
        elif what == "revoked unheard":
            self.take_away(client.user_id, None, at_once=True)
            self.post_unheard(client.channels, 2, size)
        elif what == "away":
            process.away = process.was_away = True
        elif what == "another left":
            self.post_unheard(client.channels, 3, size)
            others = [number for number, other in enumerate(self.clients) if other is not client]
            for other in others:
                self.connect_and_read(other, self.hubs.index(process), "near", 0)
            self.release(self.hubs.index(process), 0, all_of_them=False)
            self.leave(others[0])
        if what in {"posted", "revoked", "restored"}:
            self.post(client.channels, 3, size)

    def _hear_of_it(self, again: int = 0) -> None:
        """Place and publish all there is, with what was before it, and let it arrive everywhere."""
        self.place(50)
        self.publish(again)
        while self.published < self.ledger.head:
            self.publish(0)
        for number, hub in enumerate(self.hubs):
            while hub.wire:
                self.deliver(number, 0, twice=False)

    @rule(who=A_CLIENT)
    def read_on(self, who: int) -> None:
        """Take all there is, and wait for more."""
        self._read_on(self.clients[who])

    @rule(who=A_CLIENT)
    def leave(self, who: int) -> None:
        self.bench.run(self.clients[who].leave())
        self._settle()

    def _restart(self, hub: int) -> None:
        """End a process and begin another; who was connected to it was cut off."""
        old = self.hubs[hub]
        old.cease()
        for client in self.clients:
            if client.hub is old:
                self.bench.run(client.leave())
        self.bench.run(old.stop())
        self.hubs[hub] = self._process()
        self._settle()

    # --- what has to be true ---------------------------------------------------------------------------

    def memory_is_bounded(self) -> None:
        for client in self.clients:
            if client.subscriber is not None:
                frames = client.subscriber.buffer
                size = sum(len(frame) for frame in frames)
                assert client.subscriber._buffered == size
                assert len(frames) <= 1 or size <= client.subscriber._limit
            if client.pipe is not None:
                assert len(client.pipe.sent) <= client.pipe.room, "sent to who does not take it"
        for hub in self.hubs:
            assert len(hub.ring) <= hub.ring.max_events
            assert hub.ring.bytes <= hub.ring.max_bytes

    @invariant()
    def hubs_stand_where_the_log_was(self) -> None:
        for hub in self.hubs:
            if not hub.epoch:
                continue
            assert hub.stood.get(hub.epoch, 0) <= hub.position, "a hub went back"
            hub.stood[hub.epoch] = hub.position
            assert hub.ring.end == hub.position <= len(self.ledger.tapes[hub.epoch])
            for channel in CHANNELS:
                kept = [event.position for event in hub.ring.after([channel], hub.ring.start)]
                assert kept == self.ledger.of(
                    hub.epoch, frozenset({channel}), hub.ring.start, hub.position
                ), "the ring has a hole"

    @rule()
    def everything_arrives(self) -> None:
        """Let faults end, and Redis stay silent: everyone gets everything, at most 2 s later."""
        for number, hub in enumerate(self.hubs):
            hub.away = False
            self._release(hub)
            if hub.draining:
                self._restart(number)
        self.place(1000)
        for seconds in (0.0, 1.0, 0.2, 0.8):
            self.wait(seconds)
            for client in self.clients:
                self._read_on(client)
        for hub in self.hubs:
            assert hub.cursor == Cursor(self.ledger.epoch, self.ledger.head), "a hub is behind"
        self._everyone_has_it()
        self.wait(HEARTBEAT_SECONDS + ROUND_SECONDS)
        for client in self.clients:
            if client.connected:
                self._read_on(client)
                assert client.last == str(Cursor(self.ledger.epoch, self.ledger.head)), "the cursor stays"

    def _everyone_has_it(self) -> None:
        """Hold that nobody misses anything, who was cut off after coming back."""
        for number, client in enumerate(self.clients):
            if client.witness is None and client.last is None:
                continue  # never came
            if not client.connected:
                self.connect(number, number, "last", 0)
                self._read_on(client)
            assert client.connected
            assert client.witness.complete(), "something is missing"

    def teardown(self) -> None:
        try:
            if self.hubs and sys.exc_info()[0] is None:
                self.everything_arrives()
        finally:
            self.bench.run(self._end())
            self.bench.complaints.clear()
            if self.hubs:
                self.limits.disable()

    # --- how ---------------------------------------------------------------------------------------

    def _process(self) -> Process:
        async def permitted(reader: Reader, channels: frozenset[Channel]) -> Reader | None:
            return None if (reader.user_id, channels) in self.lost else reader

        process = Process(self.bench, permitted=permitted)
        self.bench.run(process.start())
        return process

    async def _end(self) -> None:
        for hub in self.hubs:
            hub.cease()
        for client in self.clients:
            await client.leave()
        for hub in self.hubs:
            await hub.stop()

    def _release(self, process: Process) -> None:
        process.hold = ""
        for gate in process.held:
            if not gate.done():
                gate.set_result(None)

    def _sync(self) -> None:
        self.synced = self.bench.asked
        with connection.cursor() as cursor:
            cursor.execute("SELECT epoch, head, oldest FROM events_logstate")
            epoch, head, oldest = cursor.fetchone()
        self.ledger.begin(epoch)
        assert (head, oldest) == (self.ledger.head, self.ledger.oldest)

    def _settle(self, reading: Client | None = None) -> bool:
        """Let everything run that can, and every client take what was written; say whether one did."""
        self.bench.settle()
        if self.bench.asked != self.synced:  # only a look begins an epoch
            self._sync()
        return reading in self._take()

    def _take(self) -> list[Client]:
        self.memory_is_bounded()
        for client in self.clients:
            if client.connected and client.witness.opened and not client.witness.replaying:
                self.bench.happened["a live reader fell back"] += not client.subscriber.live
        return [client for client in self.clients if client.take()]

    def _read_on(self, client: Client) -> None:
        """Read until there is nothing to read."""
        for _ in range(MOST_CHUNKS):
            client.ask()
            if not self._settle(client):
                return
        pytest.fail("a stream never comes to rest")

    def _place(self, client: Client, place: str, back: int) -> str | None:
        if place == "garbage":
            return GARBAGE[back % len(GARBAGE)]
        if place == "near":  # a cursor that some client could have
            return str(Cursor(self.ledger.epoch, max(self.ledger.head - back, 0)))
        if place == "ahead":
            return str(Cursor(self.ledger.epoch, self.ledger.head + 1 + back % 2))
        if place == "seen" and client.ids:
            return client.ids[back % len(client.ids)]
        if place == "last":
            return client.last
        return "earliest" if place == "earliest" else None


def _empty_log() -> str:
    """Empty the log and return its new epoch."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = 'replica'")  # past the guards
        cursor.execute("TRUNCATE events_event, events_channelposition RESTART IDENTITY CASCADE")
        cursor.execute("UPDATE events_logstate SET head = 0, oldest = 1, settled_to = 0, taken_to = 0")
    return log.new_epoch()


@pytest.fixture
def bench(database, monkeypatch):
    monkeypatch.setattr(log, "_announce", lambda: None)  # no worker listens: the story places
    logging.getLogger("streams").setLevel(logging.ERROR)  # its warnings are the story's faults
    bench = Bench()
    yield bench
    bench.close()
    logging.getLogger("streams").setLevel(logging.NOTSET)
    _empty_log()


@pytest.mark.timeout(0 if PROFILE == "long" else 600)  # a failure takes its time to be made short
def test_whatever_happens_every_client_gets_exactly_its_events(bench):
    run_state_machine_as_test(lambda: Story(bench), settings=PROFILES[PROFILE])
    assert set(HAPPENINGS) <= set(+bench.happened), "stories in which nothing happens prove nothing"


@pytest.mark.parametrize("before", range(36, 44))
def test_who_does_not_take_that_it_is_over_is_cut_off_for_the_same_reason(bench, before):
    """A story with a kernel that is full at the end; how much was said before decides of what."""
    story = Story(bench)
    story.begin(limits={name: values[0] for name, values in _LIMITS.items()}, crowd=True)
    try:
        for _ in range(before):
            story.everything_arrives()
        story.take_away(user=None, channel=None, at_once=False)
        story.everything_arrives()
    finally:
        story.teardown()

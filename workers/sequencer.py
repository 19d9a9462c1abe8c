"""The sequencer: place what was committed, tell Redis, and wake the reactions where one answers it.

`run` is idempotent and may run anywhere at any time, also many at once: placing takes turns in
the database, publishing moves "published up to N" and the message in one atomic step of Redis,
so whoever finds N behind goes on from there, also after one that died or froze in the middle.

It is a witness too. It keeps a mark of the log as it saw it last, also in Redis for those that
start later: where the log does not hold that any more, an older state of it was restored.
"""

import logging
import re
import threading
import time
from collections.abc import Callable

from django.conf import settings

from events import log
from events.cursor import Cursor
from streams.batch import Batch, mark_key, published_key, redis_channel
from workers import reactions, wake
from workers.talk import Talk

logger = logging.getLogger(__name__)

REDIS_SECONDS = 0.25  # of connecting, and of one answer: placing must not wait long for a hint
PAUSE_SECONDS = 0.5  # without a try after Redis failed
OURS_SECONDS = 0.05  # for which an N that we moved is most often still that
LOOK_SECONDS = 1.0  # between two looks whether the log is the one that was seen
KEEP_SECONDS = 7 * 24 * 3600  # of an epoch's N: it must outlive quiet times, not epochs

_NUMBER = re.compile(rb"[0-9]{1,18}")
_MARK = re.compile(rb"[0-9a-f-]{1,100}")

# Publishes and moves N together, or does neither and says where N stands.
# KEYS: N.  ARGV: the N expected ("" for none), the new N, its life, the channel, the message.
PUBLISH = """
local n = redis.call('GET', KEYS[1])
if (n or '') ~= ARGV[1] then return {0, n or ''} end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return {1, ARGV[2]}
"""


class Publisher:
    """Tells Redis of placed events. Never raises for Redis' sake: hubs read the log without it."""

    def __init__(self) -> None:
        self._redis = Talk(wake.connect(answer_seconds=REDIS_SECONDS, connect_seconds=REDIS_SECONDS))
        self._paused_until = 0.0
        self._up = True
        self._moved: tuple[str, bytes, float] = ("", b"", 0.0)  # the N that we left, its key, and when
        self._marks: list[str] = []  # of the log as it was seen last: our own, at first Redis'
        self._recalled = False
        self._look_at = 0.0

    def publish(self, placed: log.Placed) -> bool:
        """Publish everything up to the head that `placed` names, or further; return whether it is."""
        return self._try(lambda: self._publish(placed))

    def _try(self, work: Callable[[], object]) -> bool:
        """Do something with Redis; return whether it could be done."""
        if time.monotonic() < self._paused_until:
            return False
        try:
            work()
        except wake.AWAY as error:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            if self._up:
                logger.warning(
                    "Redis is away; events are placed, hubs read the log.",
                    extra={"error": type(error).__name__},
                )
            self._up = False
            return False
        if not self._up:
            logger.info("Redis is back.")
        self._up = True
        return True

    def look(self) -> None:
        """Have a new epoch begin where the log lacks what was seen last, here or by those before us."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        if not self._recalled:
            self._recalled = self._try(self._recall)
        self._marks = [log.look(marks=self._marks)]
        if self._recalled:
            self._try(lambda: self._redis.ask("SET", mark_key(), self._marks[0]))

    def _recall(self) -> None:
        kept = self._redis.ask("GET", mark_key())
        if isinstance(kept, bytes) and _MARK.fullmatch(kept):
            self._marks.append(kept.decode())

    def _publish(self, placed: log.Placed) -> None:
        key = published_key(placed.epoch)
        known = self._left(key) if placed.count else None
        if known is None:
            known = self._redis.ask("GET", key) or b""
        while True:
            # Absent after a flush: begin at our own batch. Hubs that lack more see it by `prev`.
            position = int(known) if _NUMBER.fullmatch(known) else placed.head - placed.count
            if placed.head - position > settings.STREAMS_RING_EVENTS:
                # After a long time without Redis: hubs have read all that, or will.
                position = placed.head - placed.count
            if position == placed.head and known:
                return
            if position > placed.head:
                # Another sequencer is further. Where none is, a history was undone that reached up to N: a
                # new epoch begins, which the next run publishes.
                log.look(seen=Cursor(placed.epoch, position))
                return
            if position == placed.head:
                known = self._move(key, known, placed.head, b"")
                continue
            page = _page(placed, position)
            if page.epoch != placed.epoch:
                return  # the next run publishes the new epoch
            if page.oldest > position + 1:
                # Pruned before it was published: let the hubs see the gap, and find out for themselves.
                known = self._move(key, known, page.oldest - 1, b"")
                continue
            known = self._move(key, known, page.covered_to, Batch.of(page).pack())
            if not reactions.types().isdisjoint(entry.type for entry in page.entries):
                wake.waker().wake(wake.REACT)

    def _left(self, key: str) -> bytes | None:
        """Return the N that we left just now. Where another moved it since, Redis says so as it refuses."""
        ours, known, at = self._moved
        return known if ours == key and time.monotonic() < at + OURS_SECONDS else None

    def _move(self, key: str, known: bytes, to: int, message: bytes) -> bytes:
        # By its text: by its name Redis, started anew or failed over, would have to be told it first.
        moved, known = self._redis.ask(
            "EVAL", PUBLISH, 1, key, known, to, KEEP_SECONDS, redis_channel(), message
        )
        if not moved:
            logger.debug("Another sequencer published first.", extra={"position": to})
        self._moved = (key, known, time.monotonic())
        return known


def _page(placed: log.Placed, after: int) -> log.Page:
    """Return what comes above a position: most often just what the placing handed back."""
    if placed.page and placed.page.after == after:
        return placed.page
    return log.read(after, limit=settings.WORKERS_PUBLISH_BATCH, max_bytes=settings.WORKERS_PUBLISH_BYTES)


_here = threading.local()  # a Redis connection must not be shared between threads


def run() -> int:
    """Place and publish all there is; return how many events were placed."""
    publisher = getattr(_here, "publisher", None)
    if publisher is None:
        publisher = _here.publisher = Publisher()
    total = 0
    while True:
        placed = log.place(read=True)
        total += placed.count
        publisher.publish(placed)
        publisher.look()  # last: what it may wait for Redis must not delay the placing
        if placed.count < settings.WORKERS_PLACE_BATCH:
            return total

"""Deliveries: to how many connections each broadcast was handed, counted by the hubs and kept in Redis.

One number a broadcast, and nothing of any reader. It is a lower bound: what Redis loses, or did not
confirm, is not counted again. A connection counts once, live or by replay; who comes later and asks for
what is active instead is not counted.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from streams import sse

REPORT_SECONDS = 1.0  # between two reports of one process
KEEP_SECONDS = 90 * 24 * 3600  # after the last count: nobody looks at the figures of long ago
ANSWER_SECONDS = 0.2  # longest that a reader waits for Redis, to connect and to answer each
PAUSE_SECONDS = 1.0  # no reader asks a Redis that did not answer a moment ago
ALERT = b"\nevent: SystemAlert\n"  # in the head of a frame that counts


def key(broadcast_id: UUID | str) -> str:
    """Return the key of a broadcast's number."""
    return f"{settings.REDIS_PREFIX}:delivered:{broadcast_id}"


class Deliveries:
    """What one hub handed out of broadcasts and has not reported yet."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._some = asyncio.Event()

    def heed(self, frames: Iterable[bytes], connections: int = 1) -> list[bytes]:
        """Return frames that so many connections are handed; those that tell of a broadcast are counted."""
        handed = list(frames)
        for frame in handed:
            if connections and frame.find(ALERT, 0, sse.HEAD_BYTES) >= 0:
                self._counts[json.loads(sse.data_of(frame))["broadcast_id"]] += connections
                self._some.set()
        return handed

    async def report(self) -> None:
        """Report for ever what there is, at most once a second."""
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL,
            socket_connect_timeout=REPORT_SECONDS,
            socket_timeout=REPORT_SECONDS,
            retry=AsyncRetry(NoBackoff(), 0),
        )
        try:
            while True:
                await self._some.wait()
                await self._report(client)
                await asyncio.sleep(REPORT_SECONDS)
        finally:
            await client.aclose()

    async def _report(self, client: Any) -> None:
        try:
            await client.ping()  # one that does not answer this was told nothing, and is told all later
        except (RedisError, OSError, TimeoutError):
            return
        counts, self._counts = self._counts, Counter()
        self._some.clear()
        try:
            async with client.pipeline(transaction=False) as pipeline:
                for broadcast_id, number in counts.items():
                    pipeline.incrby(key(broadcast_id), number)
                    pipeline.expire(key(broadcast_id), KEEP_SECONDS)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError):
            pass  # it may have counted all the same: not twice


# --- Readers, in a thread: of requests and of Django's admin ------------------------------------------

_paused_until = 0.0


def delivered(broadcast_ids: Collection[UUID]) -> Mapping[UUID, int] | None:
    """Return the numbers of some broadcasts; None while Redis does not answer, after 0.5 s at most."""
    global _paused_until
    if not broadcast_ids:
        return {}
    if time.monotonic() < _paused_until:
        return None
    try:
        found = _client().mget([key(broadcast_id) for broadcast_id in broadcast_ids])
    except (RedisError, OSError):
        _paused_until = time.monotonic() + PAUSE_SECONDS
        return None
    return {pk: int(number or 0) for pk, number in zip(broadcast_ids, found, strict=True)}


@cache
def _client() -> Any:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )

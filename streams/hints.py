"""Redis as a hub hears it: messages while it answers, an error as soon as it does not."""

import contextlib
import time
from collections.abc import AsyncGenerator

import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from streams.batch import redis_channel

PING_SECONDS = 2.0  # a Redis that does not answer two of them is half-open: connect anew


async def messages() -> AsyncGenerator[bytes | None]:
    """Yield None once subscribed, then each message; raise where Redis stops answering."""
    client = redis.asyncio.Redis.from_url(
        settings.REDIS_URL,
        protocol=2,  # of what RESP3 pushes redis-py makes a text for its log, read or not: ten times the cost
        socket_connect_timeout=1.0,
        socket_timeout=2 * PING_SECONDS,
        retry=Retry(NoBackoff(), 0),  # the hub does that, and reads the log meanwhile
    )
    subscription = client.pubsub()
    try:
        await subscription.subscribe(redis_channel())
        answered = asked = time.monotonic()
        while True:
            message = await subscription.get_message(timeout=PING_SECONDS)
            now = time.monotonic()
            if message is not None:
                answered = now
                if message["type"] == "subscribe":
                    yield None
                elif message["type"] == "message":
                    yield message["data"]
            if now - answered > 2.5 * PING_SECONDS:
                raise TimeoutError("Redis does not answer")
            if now - asked >= PING_SECONDS:
                await subscription.ping()
                asked = now
    finally:
        for close in (subscription.aclose, client.aclose):
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await close()

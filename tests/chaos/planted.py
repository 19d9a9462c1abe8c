"""Bugs to be found: `python -m tests.chaos.planted NAME -m project.serve` runs a module with one of them.

Each is one that such a system has had somewhere, put into our modules from outside: a ledger
that stays green with any of them proves nothing. Nothing of this is in the product.
"""

import asyncio
import dataclasses
import itertools
import os
import runpy
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any

SKIPPED = 20  # one message of so many


def skip_a_publish() -> None:
    """One message is never sent, though N moved past it; and none says what it continues."""
    from streams.batch import Batch
    from workers.sequencer import Publisher

    move, pack, number = Publisher._move, Batch.pack, itertools.count(1)

    def moving(self: Publisher, key: str, known: bytes, to: int, message: bytes) -> bytes:
        return move(self, key, known, to, b"" if message and next(number) % SKIPPED == 0 else message)

    Publisher._move = moving
    # With the true `prev` hubs would see the gap, and read the log: that is what it is for.
    Batch.pack = lambda batch: pack(dataclasses.replace(batch, prev=0))


def drop_last_of_replay() -> None:
    """A page of a replay, from the log or the ring, lacks its last event, and says it is whole."""
    from streams.hub import Hub
    from streams.ring import Ring

    read, page = Hub.read, Ring.page

    async def reading(*args: Any) -> Any:
        stretch = await read(*args)
        return dataclasses.replace(stretch, events=stretch.events[:-1])

    def paging(*args: Any, **more: Any) -> Any:
        frames, covered_to = page(*args, **more)
        return frames[:-1], covered_to

    Hub.read, Ring.page = reading, paging


def deaf_to_valkey() -> None:
    """Once the connection to Valkey is lost, nobody connects anew, and the look believes in it still."""
    from redis.exceptions import RedisError

    from streams import hints
    from streams.hub import Hub

    messages, advance = hints.messages, Hub._advance
    lost = asyncio.Event()  # of the one hub of the process

    async def hearing(take: hints.Take, nobody: hints.Nobody) -> AsyncGenerator[bytes | None]:
        try:
            async for message in messages(take, nobody):
                yield message
        except (RedisError, OSError, TimeoutError):
            lost.set()
            await asyncio.Event().wait()  # for ever

    async def advancing(self: Hub, target: int) -> None:
        if not lost.is_set():
            await advance(self, target)

    Hub.__init__.__kwdefaults__["messages"] = hearing
    Hub._advance = advancing


def heartbeat_ahead() -> None:
    """A heartbeat's cursor is one too far: on an event that was not sent, or is not there yet."""
    from streams import sse

    heartbeat = sse.heartbeat
    sse.heartbeat = lambda cursor: heartbeat(dataclasses.replace(cursor, position=cursor.position + 1))


def commit_order() -> None:
    """Who places goes on from the highest id that has a position: what commits late is passed over."""
    from django.db import connection

    from events import log

    place = log.place

    def placing(batch: int | None = None, **more: bool) -> log.Placed:
        with connection.cursor() as cursor:
            # In the function itself, where every way of placing meets it.
            cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = 'tickertape_place'")
            [source] = cursor.fetchone()
            if _PASSED_OVER not in source:
                assert source.count(_UNPLACED) == 2
                cursor.execute(
                    "CREATE OR REPLACE FUNCTION tickertape_place"
                    "(batch integer, OUT epoch text, OUT head bigint, OUT placed integer)"
                    f" LANGUAGE plpgsql AS $${source.replace(_UNPLACED, _UNPLACED + _PASSED_OVER)}$$"
                )
        return place(batch, **more)

    log.place = placing


_UNPLACED = "WHERE position IS NULL AND id > l.settled_to"
_PASSED_OVER = " AND events_event.id > coalesce((SELECT id FROM events_event WHERE position = l.head), 0)"

PLANTS: dict[str, Callable[[], None]] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (skip_a_publish, drop_last_of_replay, deaf_to_valkey, heartbeat_ahead, commit_order)
}


def plant(name: str) -> None:
    """Put a bug into this process's modules."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    PLANTS[name]()


if __name__ == "__main__":
    plant(sys.argv[1])
    sys.argv = sys.argv[3:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

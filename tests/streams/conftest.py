"""A hub and subscribers in the test's own loop, on the real log and the real Valkey."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.db import connections, transaction

from events import log
from events.access import AccessChanged
from events.channels import ACCESS, Channel
from events.registry import EventType
from streams.batch import Batch, redis_channel
from streams.hub import Hub
from streams.reader import Reader
from streams.subscriber import Subscriber

ITEM = Channel("item:42")


class StreamTested(EventType):
    """Something happened to a test of streams."""

    n: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One block of a stream, parsed."""

    id: str | None
    event: str | None
    data: Any
    comment: bool = False

    @property
    def position(self) -> int:
        return int(self.id.rpartition("-")[2])


def parse(block: bytes) -> Frame:
    fields: dict[str, str] = {}
    comment = False
    for line in block.decode().split("\n"):
        name, _, value = line.partition(":")
        comment = comment or (not name and line != "")
        fields[name] = value.removeprefix(" ")
    data = json.loads(fields["data"]) if "data" in fields else None
    return Frame(fields.get("id"), fields.get("event"), data, comment)


class Stream:
    """A subscriber and what was read from it so far."""

    def __init__(self, subscriber: Subscriber, last_event_id: str | None) -> None:
        self.subscriber = subscriber
        self._chunks = subscriber.chunks(last_event_id)
        self._frames: list[Frame] = []

    async def chunk(self, *, seconds: float = 20) -> bytes:
        """Read one chunk and keep nothing of it."""
        async with asyncio.timeout(seconds):
            return await anext(self._chunks)

    async def frame(self, *, seconds: float = 20) -> Frame:
        """Return the next block, whatever it is."""
        async with asyncio.timeout(seconds):
            while not self._frames:
                chunk = await anext(self._chunks)
                self._frames += [parse(block) for block in chunk.split(b"\n\n") if block]
            return self._frames.pop(0)

    async def next(self, *, seconds: float = 20) -> Frame:
        """Return the next event of the log."""
        while True:
            frame = await self.frame(seconds=seconds)
            if frame.event and not frame.event.startswith("stream."):
                return frame

    async def control(self, *, seconds: float = 20) -> Frame:
        """Return the next event of the stream's own."""
        while True:
            frame = await self.frame(seconds=seconds)
            if frame.event and frame.event.startswith("stream."):
                return frame

    async def take(self, number: int) -> list[int]:
        """Return the `n` of so many events."""
        return [(await self.next()).data["n"] for _ in range(number)]

    async def over(self, *, seconds: float = 20) -> bool:
        """Return whether the stream has ended, after reading on to its end."""
        async with asyncio.timeout(seconds):
            async for _ in self._chunks:
                pass
        return True

    async def close(self) -> None:
        await self._chunks.aclose()


class World:
    """The log as a writer sees it, from within a loop."""

    def __init__(self) -> None:
        self.redis = redis.Redis.from_url(django_settings.REDIS_URL)

    @staticmethod
    async def run(work: Any, *arguments: Any, **more: Any) -> Any:
        return await sync_to_async(work)(*arguments, **more)

    async def append(self, *ns: int, channels: tuple[str, ...] = (ITEM,), text: str = "") -> None:
        """Append and place events, and tell nobody."""

        def work() -> None:
            with transaction.atomic():
                for n in ns:
                    log.append(StreamTested(n=n, text=text), channels=[Channel(c) for c in channels])
            while log.place().count:
                pass

        await self.run(work)

    async def revoke(self, **fields: str) -> None:
        """Append and place a change of access."""

        def work() -> None:
            with transaction.atomic():
                log.append(AccessChanged(reason="test", **fields), channels=[ACCESS])
            log.place()

        await self.run(work)

    async def head(self) -> Any:
        return await self.run(log.head)

    async def batch(self, after: int, to: int | None = None) -> Batch:
        """Return the batch that a sequencer would publish above a position."""
        limit = 1000 if to is None else to - after
        return Batch.of(await self.run(log.read, after, limit=limit))

    async def publish(self, batch: Batch) -> None:
        await self.run(self.redis.publish, redis_channel(), batch.pack())


@pytest.fixture
async def world(database):
    """A place to write from."""
    world = World()
    await world.run(log.place)
    yield world
    world.redis.close()
    await world.run(connections.close_all)


@pytest.fixture(autouse=True)
def nobody_is_shown(settings):
    """Leave presence to its own tests: no frame comes but those that a test brings about."""
    settings.STREAMS_PRESENCE = False


@pytest.fixture
def quiet(settings):
    """Let nothing happen by the clock: a hub looks only where a test says so."""
    settings.STREAMS_LOOK_SECONDS = 3600
    settings.STREAMS_HEARTBEAT_SECONDS = 3600
    settings.STREAMS_RECHECK_SECONDS = 3600


@pytest.fixture
def permitted():
    """Who may read on: everyone, until a test says otherwise."""
    return {"answer": True}


@pytest.fixture
async def hub(world, permitted):
    """A hub that has read the log and listens to Valkey."""

    async def still_permitted(reader: Reader, channels: frozenset[Channel]) -> Reader | None:
        return reader if permitted["answer"] else None

    hub = Hub(permitted=still_permitted)
    await hub.start()
    async with asyncio.timeout(30):
        await hub.running.wait()
        while not hub.redis_up:
            await asyncio.sleep(0.01)
    # The look after the subscription is over too: from here on only the test acts.
    await hub.look()
    yield hub
    await hub.stop()


@pytest.fixture
def subscribe(hub):
    """Open streams; they are closed with the test."""

    @contextlib.asynccontextmanager
    async def opened(*channels: str, cursor: object = None, user_id: str = "7", **reader: Any):
        who = Reader(user_id=user_id, **reader)
        names = frozenset(Channel(c) for c in channels or (ITEM,))
        subscriber = Subscriber(hub, names, who, since=hub.cursor)
        stream = Stream(subscriber, None if cursor is None else str(cursor))
        try:
            yield stream
        finally:
            await stream.close()

    return opened

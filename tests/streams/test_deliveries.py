"""To how many connections a broadcast was handed: each once, live or by replay, and at least so many."""

import asyncio
import json
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

from events import log
from events.broadcasts import SystemAlert, SystemAlertUpdated
from events.channels import SYSTEM, Channel
from streams import deliveries
from tests.proxy import Proxy
from tests.streams.conftest import ITEM
from tests.streams.test_hub import until


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A Redis that is just busy is not away."""
    monkeypatch.setattr(deliveries, "ANSWER_SECONDS", 20)
    monkeypatch.setattr(deliveries, "_paused_until", 0.0)
    deliveries._client.cache_clear()
    yield
    deliveries._client.cache_clear()


async def tell(world, *channels, kind=SystemAlert, broadcast_id=None):
    """Append and place a broadcast's event, and tell no hub; return its id."""
    said = {
        "title": "",
        "message": "Hello",
        "severity": "info",
        "link": None,
        "starts_at": 1,
        "expires_at": None,
    }
    broadcast_id = broadcast_id or uuid4()

    def work():
        with transaction.atomic():
            event = kind(broadcast_id=str(broadcast_id), **said)
            log.append(event, channels=[Channel(each) for each in channels or (SYSTEM,)])
        while log.place().count:
            pass

    await world.run(work)
    return broadcast_id


async def counted(broadcast_id, number, *, seconds=20):
    """Wait until Redis holds a number for a broadcast, and look that it stays."""
    async with asyncio.timeout(seconds):
        while await sync_to_async(deliveries.delivered)([broadcast_id]) != {broadcast_id: number}:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.1)
    assert await sync_to_async(deliveries.delivered)([broadcast_id]) == {broadcast_id: number}


async def publish(world, hub):
    await world.publish(await world.batch(hub.position))


async def test_each_live_connection_counts_once_however_many_channels_bring_it(world, hub, quiet, subscribe):
    async with subscribe(SYSTEM, "group:crew") as one, subscribe(SYSTEM) as two, subscribe(ITEM) as other:
        for stream in (one, two, other):
            await stream.control()
        broadcast_id = await tell(world, SYSTEM, "group:crew", "user:7")
        await publish(world, hub)
        assert (await one.next()).event == (await two.next()).event == "SystemAlert"

        await counted(broadcast_id, 2)


async def test_an_edit_is_no_other_delivery(world, hub, quiet, subscribe):
    async with subscribe(SYSTEM) as stream:
        await stream.control()
        broadcast_id = await tell(world)
        await tell(world, kind=SystemAlertUpdated, broadcast_id=broadcast_id)
        await publish(world, hub)
        assert [(await stream.next()).event for _ in range(2)] == ["SystemAlert", "SystemAlertUpdated"]

        await counted(broadcast_id, 1)


@pytest.mark.parametrize("ring", [True, False])
async def test_who_comes_back_gets_it_by_replay_and_counts(world, hub, quiet, subscribe, ring):
    before = hub.cursor
    broadcast_id = await tell(world)
    await publish(world, hub)
    await until(lambda: hub.position > before.position)
    if not ring:
        hub.ring.clear(hub.position)
    async with subscribe(SYSTEM, cursor=before) as back, subscribe(SYSTEM) as late:
        assert (await back.next()).event == "SystemAlert"
        await late.control()

        await counted(broadcast_id, 1)


async def test_one_that_is_too_slow_to_be_pushed_it_counts_when_it_reads_it(
    world, hub, quiet, subscribe, settings
):
    settings.STREAMS_BUFFER_BYTES = 200
    async with subscribe(SYSTEM) as slow:
        await slow.control()
        ids = [await tell(world) for _ in range(3)]
        for _ in ids:
            here = hub.position
            await world.publish(await world.batch(here, here + 1))
            await until(lambda here=here: hub.position > here)
        assert not slow.subscriber.live
        for broadcast_id in ids:
            assert (await slow.next()).data["broadcast_id"] == str(broadcast_id)

        for broadcast_id in ids:
            await counted(broadcast_id, 1)


def test_other_events_that_quote_one_are_none():
    counting = deliveries.Deliveries()
    quoting = json.dumps({"text": "\nevent: SystemAlert\n", "broadcast_id": "x"}).encode()

    frame = b"id: e-1\nevent: CommentAdded\ndata: " + quoting + b"\n\n"

    assert counting.heed([frame, b"event: JobProgressed\ndata: {}\n\n"], 5)
    assert not counting._counts


async def test_while_redis_is_away_it_is_unknown_and_soon_said(world, settings, monkeypatch):
    monkeypatch.setattr(deliveries, "PAUSE_SECONDS", 60)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert await sync_to_async(deliveries.delivered)([uuid4()]) is None
    with monkeypatch.context() as patched:
        patched.setattr(deliveries, "_client", None)  # nor is it asked again at once
        for _ in range(20):
            assert await sync_to_async(deliveries.delivered)([uuid4()]) is None


async def test_what_was_handed_out_without_redis_is_counted_when_it_is_back(settings, world):
    broadcast_id, counting = uuid4(), deliveries.Deliveries()
    data = json.dumps({"broadcast_id": str(broadcast_id)}).encode()
    real = settings.REDIS_URL
    with Proxy(real) as proxy:
        proxy.cut()
        settings.REDIS_URL = proxy.url.replace("http", "redis") + urlsplit(real).path
        reporting = asyncio.create_task(counting.report())
        counting.heed([b"id: e-1\nevent: SystemAlert\ndata: " + data + b"\n\n"], 3)
        await asyncio.sleep(0.5)
        settings.REDIS_URL = real
        await counted(broadcast_id, 0)
        proxy.restore()

        await counted(broadcast_id, 3)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)

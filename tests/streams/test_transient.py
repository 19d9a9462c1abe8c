"""Transient frames: live only, the latest wins, and no cursor, ring or bound is moved by them."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from events import jobs, runs
from events.channels import Channel
from streams import sse
from streams.batch import TRANSIENT, Batch, Transient, redis_channel
from tests.streams.conftest import ITEM

pytestmark = pytest.mark.usefixtures("quiet")


def said(n, *, channel=ITEM, key="a", pad=""):
    return Transient(channel, key, sse.transient("Moved", f'{{"n":{n},"pad":"{pad}"}}'))


async def publish(world, *transients):
    for each in transients:
        await world.run(world.redis.publish, redis_channel(), each.pack())


async def heard(subscriber):
    async with asyncio.timeout(20):
        while not subscriber._told:
            await asyncio.sleep(0.005)


@pytest.fixture
def job(world):
    """A job in hand, with progress."""

    def make():
        user = User.objects.create_user("zoe")
        held = runs.claim(jobs.queue(user, name="x", params={}).pk, task_id="t")
        runs.beat(held, progress={"done": 1, "total": 4, "message": "a\u2028b"})
        return held

    return make


def test_a_message_of_either_kind_is_itself_again():
    each = said(1)
    assert each.pack().startswith(TRANSIENT)
    assert Transient.unpack(each.pack()) == each
    assert not Batch("e", 0, 0, ()).pack().startswith(TRANSIENT)


@pytest.mark.parametrize("rest", [b"", b"\xc1", b"\x90", b"\x93\x01\x02\x03\x04", b"\x01"])
async def test_nonsense_is_ignored_and_the_hub_goes_on(hub, world, subscribe, rest):
    with pytest.raises(ValueError, match="not a transient frame"):
        Transient.unpack(TRANSIENT + rest)
    async with subscribe() as stream:
        await stream.control()
        await world.run(world.redis.publish, redis_channel(), TRANSIENT + rest)
        await publish(world, said(1))
        assert (await stream.next()).data["n"] == 1


async def test_it_reaches_who_reads_its_channel_without_an_id(hub, world, subscribe):
    async with subscribe() as stream, subscribe("item:1") as other:
        await stream.control()
        await other.control()
        await publish(world, said(1), said(2, channel="item:1"))

        frame = await stream.next()
        assert (frame.id, frame.event, frame.data["n"]) == (None, "Moved", 1)
        assert (await other.next()).data["n"] == 2


async def test_it_moves_neither_the_hub_nor_the_ring_nor_a_cursor(hub, world, subscribe):
    before, held = hub.cursor, len(hub.ring)
    async with subscribe() as stream:
        opened = await stream.control()
        await publish(world, said(1))
        await stream.next()

        assert stream.subscriber.position == opened.position
    assert (hub.cursor, len(hub.ring)) == (before, held)
    async with subscribe(cursor=before) as stream:
        assert (await stream.control()).event == "stream.open"
        assert (await stream.control()).event == "stream.live"


async def test_of_one_key_a_reader_who_is_behind_gets_the_latest(hub, world, subscribe):
    async with subscribe() as stream:
        await stream.control()
        for each in (said(1), said(2), said(10, key="b"), said(3)):
            hub._take(each.pack())
        got = [(await stream.next()).data["n"] for _ in range(2)]

        assert sorted(got) == [3, 10]
        hub._take(said(4).pack())
        assert (await stream.next()).data["n"] == 4, "nothing was left over"


async def test_what_does_not_fit_is_dropped_and_events_are_not(hub, world, subscribe, settings):
    settings.STREAMS_BUFFER_BYTES = 1000
    async with subscribe() as stream:
        await stream.control()
        await asyncio.sleep(0)
        for n in range(100):
            hub._take(said(n, key=str(n), pad="x" * 100).pack())
        subscriber = stream.subscriber
        assert 1 < sum(map(len, subscriber._told.values())) <= 1000
        hub._take(said(0, key="0", pad="x" * 2000).pack())
        assert sum(map(len, subscriber._told.values())) <= 1000
        await world.append(1, 2)
        hub.apply(await world.batch(hub.position))

        assert subscriber.live
        events = []
        while len(events) < 2:
            frame = await stream.next()
            events += [frame.data["n"]] if frame.id else []
        assert events == [1, 2]


async def test_it_comes_before_the_event_that_was_placed_after_it_was_sent(hub, world, subscribe):
    async with subscribe() as stream:
        await stream.control()
        await world.append(1)
        batch = await world.batch(hub.position)
        hub.apply(batch)
        hub._take(said(9).pack())

        assert [(await stream.next()).event, (await stream.next()).event] == ["Moved", "StreamTested"]


async def test_during_a_replay_none_is_taken(hub, world, subscribe):
    await world.append(*range(3))
    before = hub.cursor
    hub.apply(await world.batch(hub.position))
    async with subscribe(cursor=before) as stream:
        await stream.control()
        hub._take(said(1).pack())
        assert stream.subscriber._told == {}


async def test_a_reader_who_only_hears_transient_frames_still_moves_on(hub, world, subscribe, settings):
    settings.STREAMS_HEARTBEAT_SECONDS = 0.2
    async with subscribe() as stream:
        opened = await stream.control()
        await world.append(1, channels=("item:9",))
        hub.apply(await world.batch(hub.position))
        async with asyncio.timeout(20):
            while True:
                hub._take(said(1).pack())
                frame = await stream.frame()
                if frame.comment:
                    break
                await asyncio.sleep(0.05)
        assert frame.position == opened.position + 1


# --- What is told first ----------------------------------------------------------------------------------


async def test_who_comes_late_is_told_the_latest_first(hub, world, subscribe, job):
    held = await sync_to_async(job)()
    async with subscribe(f"job:{held.job_id}") as stream:
        assert (await stream.frame()).event == "stream.open"
        state, progress = await stream.frame(), await stream.frame()

    assert (state.id, state.event, state.data["state"]) == (None, "JobState", "running")
    assert state.data["progress"] == {"done": 1, "total": 4, "message": "a\u2028b"}
    assert (progress.id, progress.event) == (None, "JobProgressed")
    assert progress.data == {"job_id": str(held.job_id), "done": 1, "total": 4, "message": "a\u2028b"}


async def test_who_resumes_is_told_after_the_replay(hub, world, subscribe, job):
    before = hub.cursor
    held = await sync_to_async(job)()
    await world.run(lambda: None)
    await world.append(1)
    hub.apply(await world.batch(hub.position))
    async with subscribe(f"job:{held.job_id}", cursor=before) as stream:
        names = [(await stream.frame()).event for _ in range(6)]

    assert names == ["stream.open", "JobQueued", "JobStarted", "stream.live", "JobState", "JobProgressed"]


async def test_who_was_reset_is_told_again(hub, world, subscribe, job):
    held = await sync_to_async(job)()
    async with subscribe(f"job:{held.job_id}") as stream:
        for _ in range(3):
            await stream.frame()
        stream.subscriber.reset("pruned")

        assert [(await stream.frame()).event for _ in range(2)] == ["stream.reset", "JobState"]


async def test_an_event_placed_while_the_state_is_asked_for_comes_after_it_once(hub, world, subscribe, job):
    held = await sync_to_async(job)()
    await world.append(1)
    hub.apply(await world.batch(hub.position))
    channel = Channel(f"job:{held.job_id}")
    async with subscribe(channel) as stream:
        await stream.frame()
        asked, go_on, latest = asyncio.Event(), asyncio.Event(), hub.latest

        async def slowly(channels):
            found = await latest(channels)
            asked.set()
            await go_on.wait()
            return found

        hub.latest = slowly
        telling = asyncio.create_task(stream.frame())
        await asked.wait()
        await world.append(7, channels=(channel,))
        hub.apply(await world.batch(hub.position))
        go_on.set()

        assert (await telling).event == "JobState"
        assert (await stream.frame()).event == "JobProgressed"
        assert (await stream.next()).data["n"] == 7


async def test_other_channels_ask_nothing(hub, world, subscribe):
    asked = []
    hub.fetch = lambda *a: asked.append(a)
    async with subscribe() as stream:
        await stream.frame()
        hub._take(said(1).pack())
        assert (await stream.frame()).event == "Moved"
    assert asked == []


async def test_with_the_database_away_the_stream_opens_without_it(hub, world, subscribe, job):
    held = await sync_to_async(job)()

    async def away(*arguments):
        raise TimeoutError

    hub.fetch = away
    async with subscribe(f"job:{held.job_id}") as stream:
        assert (await stream.frame()).event == "stream.open"
        hub._take(said(1, channel=f"job:{held.job_id}").pack())
        assert (await stream.next()).event == "Moved"


async def test_nothing_is_told_first_to_who_was_revoked_meanwhile(hub, subscribe, monkeypatch):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def latest(channels):
        asked.set()
        await go_on.wait()
        return [b'event: JobState\ndata: {"secret":1}\n\n']

    monkeypatch.setattr(hub, "latest", latest)
    async with subscribe() as stream:
        assert (await stream.control()).event == "stream.open"
        asking = asyncio.create_task(stream.chunk())
        await asyncio.wait_for(asked.wait(), 20)
        stream.subscriber.end("revoked")
        go_on.set()
        assert b"secret" not in await asking

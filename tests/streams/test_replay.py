"""Replay from the log: a crowd costs the questions of one reader, and memory has a bound."""

import asyncio

import psycopg
import pytest

from events import log
from events.channels import ACCESS, Channel
from streams.replay import Replay
from tests.streams.conftest import ITEM

quiet = pytest.mark.usefixtures("quiet")


@pytest.fixture
def beyond_the_ring(hub, world, settings):
    """Append so many events that the ring has none of; return where the log stood before."""

    async def appended(count, **fields):
        before = hub.cursor
        await world.append(*range(count), **fields)
        await hub.look()
        hub._jump(hub.head)
        return before

    return appended


@quiet
async def test_a_crowd_beyond_the_ring_shares_what_it_reads(hub, subscribe, settings, beyond_the_ring):
    settings.STREAMS_PAGE_EVENTS = 50
    begin = await beyond_the_ring(200)

    async def one(behind):
        async with subscribe(cursor=f"{begin.epoch}-{begin.position + behind}") as stream:
            stream.subscriber.since = hub.cursor
            return await stream.take(200 - behind)

    got = await asyncio.gather(*(one(n % 7) for n in range(100)))
    assert got == [list(range(n % 7, 200)) for n in range(100)]
    assert hub.replay.reads <= 20


@quiet
async def test_who_reads_other_channels_asks_for_themselves(hub, subscribe, beyond_the_ring):
    begin = await beyond_the_ring(3, channels=(ITEM, "item:43"))
    await beyond_the_ring(3)
    for channels, due in (([ITEM], [0, 1, 2, 0, 1, 2]), (["item:43"], [0, 1, 2])):
        async with subscribe(*channels, cursor=begin) as stream:
            stream.subscriber.since = hub.cursor
            assert await stream.take(len(due)) == due
    assert hub.replay.reads == 2


@quiet
async def test_a_reader_holds_no_more_than_the_piece_it_writes(hub, subscribe, settings, beyond_the_ring):
    settings.STREAMS_PAGE_BYTES = 500_000
    begin = await beyond_the_ring(400, text="x" * 1000)
    async with subscribe(cursor=begin) as stream:
        stream.subscriber.since = hub.cursor
        sizes = [len(await stream.chunk()) for _ in range(10)]
        assert max(sizes) <= 40_000
        assert hub.replay.reads == 1


@quiet
async def test_what_is_kept_has_a_bound(hub, settings, beyond_the_ring):
    settings.STREAMS_REPLAY_BYTES = 100_000
    begin = await beyond_the_ring(20, text="x" * 30_000)
    settings.STREAMS_PAGE_BYTES = 1
    for position in range(begin.position, begin.position + 20):
        await hub.read(frozenset([ITEM]), position)
        assert hub.replay.bytes <= 100_000
    assert hub.replay.reads == 20
    await hub.read(frozenset([ITEM]), begin.position + 18)
    assert hub.replay.reads == 20
    await hub.read(frozenset([ITEM]), begin.position)
    assert hub.replay.reads == 21


@quiet
async def test_one_stretch_larger_than_the_bound_is_shared_all_the_same(hub, settings, beyond_the_ring):
    settings.STREAMS_REPLAY_BYTES = 1
    begin = await beyond_the_ring(3, text="x" * 1000)
    for _ in range(3):
        stretch = await hub.read(frozenset([ITEM]), begin.position)
        assert len(stretch.events) == 3
    assert hub.replay.reads == 1


@quiet
async def test_nothing_new_is_asked_for_again(hub, world):
    """Whoever stands at the log's end must not be told so by an older answer."""
    head = (await world.head()).position
    nothing = await hub.read(frozenset([ITEM]), head)
    assert (nothing.events, nothing.covered_to) == ((), head)
    await world.append(1)
    assert len((await hub.read(frozenset([ITEM]), head)).events) == 1


@quiet
async def test_what_the_log_forgets_is_forgotten_here(hub, world, beyond_the_ring):
    begin = await beyond_the_ring(3)
    await hub.read(frozenset([ITEM]), begin.position)
    assert hub.replay.bytes
    await world.run(log.prune, begin.position + 1)
    await world.run(log.place)
    assert hub.apply(await world.batch(hub.position))
    assert hub.replay.bytes == 0
    assert (await hub.read(frozenset([ITEM]), begin.position)).oldest == begin.position + 2


@quiet
async def test_an_answer_that_was_under_way_when_the_log_forgot_is_not_kept(hub, world, beyond_the_ring):
    begin = await beyond_the_ring(3)
    fetch, asked, go_on = hub.fetch, asyncio.Event(), asyncio.Event()

    async def slow(*arguments):
        rows = await fetch(*arguments)
        asked.set()
        await go_on.wait()
        return rows

    hub.fetch = slow
    first = asyncio.create_task(hub.read(frozenset([ITEM]), begin.position))
    await asked.wait()
    hub.replay.forget()
    second = asyncio.create_task(hub.read(frozenset([ITEM]), begin.position))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, second)
    assert hub.replay.reads == 2


@quiet
async def test_a_new_epoch_s_readers_get_nothing_of_the_old_one_s(hub, world, beyond_the_ring):
    begin = await beyond_the_ring(3)
    await hub.read(frozenset([ITEM]), begin.position)
    await world.run(log.new_epoch)
    await hub.look()
    assert (await hub.read(frozenset([ITEM]), begin.position)).epoch == hub.epoch


async def test_one_who_leaves_takes_nobody_s_answer_along():
    asked, go_on = [], asyncio.Event()

    async def ask(channels, after):
        asked.append(after)
        await go_on.wait()
        return log.Page("abcd", 0, 9, 1, after, 9, ())

    replay = Replay(ask, at_once=3)
    waiting = [asyncio.create_task(replay.read(frozenset([ITEM]), 5)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert [(await each).covered_to for each in waiting[1:]] == [9, 9]
    assert asked == [5]


async def test_a_question_that_failed_is_answered_so_to_all_who_waited_and_asked_again_by_the_next():
    asked = []

    async def ask(channels, after):
        asked.append(after)
        await asyncio.sleep(0.01)
        if len(asked) == 1:
            raise psycopg.OperationalError("away")
        return log.Page("abcd", 0, 9, 1, after, 9, ())

    replay = Replay(ask, at_once=3)
    channels = frozenset([Channel(ACCESS)])
    answers = await asyncio.gather(*(replay.read(channels, 5) for _ in range(100)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {psycopg.OperationalError}
    assert (await replay.read(channels, 5)).covered_to == 9
    assert asked == [5, 5]

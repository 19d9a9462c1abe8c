"""The hub: contiguous whatever Redis does, and no event lost, doubled or out of order."""

import asyncio
import contextlib
import tracemalloc

import psycopg
import pytest
from django.db import OperationalError, connection

from events import log
from events.channels import ACCESS, LOG
from events.cursor import Cursor
from streams import audience, hints
from streams.batch import Batch, Published
from streams.hub import Hub
from tests.events.support import undo
from tests.streams.conftest import ITEM

quiet = pytest.mark.usefixtures("quiet")


async def until(check, *, seconds=20):
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)


@quiet
async def test_a_batch_that_continues_the_position_is_taken(hub, world):
    begin = hub.position
    await world.append(1, 2)
    assert hub.apply(await world.batch(begin))
    assert hub.position == begin + 2


@quiet
async def test_a_batch_that_leaves_a_gap_is_not_taken(hub, world):
    begin = hub.position
    await world.append(1, 2)
    assert not hub.apply(await world.batch(begin + 1))
    assert hub.position == begin


@quiet
async def test_a_batch_that_is_doubled_late_or_overlapping_brings_only_what_is_new(hub, world, subscribe):
    begin = hub.position
    hub.ring.clear(begin)
    await world.append(1, 2, 3)
    first, whole = await world.batch(begin, begin + 2), await world.batch(begin)
    async with subscribe() as stream:
        await stream.frame()
        for batch in (first, first, whole, first, whole):
            assert hub.apply(batch)
        assert await stream.take(3) == [1, 2, 3]
        assert len(hub.ring) == 3
        await world.append(4)
        assert hub.apply(await world.batch(hub.position))
        assert await stream.take(1) == [4]


@quiet
async def test_a_batch_of_another_epoch_is_not_taken(hub, world):
    await world.append(1)
    batch = await world.batch(hub.position)
    assert not hub.apply(Batch("ffffffffff", batch.prev, batch.last, batch.events))


@quiet
async def test_a_published_batch_arrives(hub, world, subscribe):
    async with subscribe() as stream:
        await stream.frame()
        await world.append(1)
        await world.publish(await world.batch(hub.position))
        assert await stream.take(1) == [1]


@quiet
async def test_a_lost_batch_is_made_good_by_the_next(hub, world, subscribe):
    async with subscribe() as stream:
        await stream.frame()
        begin = hub.position
        await world.append(1)  # never published
        await world.append(2)
        await world.publish(await world.batch(begin + 1))
        assert await stream.take(2) == [1, 2]


@quiet
async def test_a_message_that_is_no_batch_is_ignored(hub, world, subscribe):
    async with subscribe() as stream:
        await stream.frame()
        await world.run(world.redis.publish, "tickertape:events", b"\xc1 nonsense")
        await world.append(1)
        await world.publish(await world.batch(hub.position))
        assert await stream.take(1) == [1]


async def test_what_nobody_published_is_found_by_the_look(hub, world, subscribe, settings):
    settings.STREAMS_LOOK_SECONDS = 0.1
    async with subscribe() as stream:
        await stream.frame()
        await world.append(1)
        assert await stream.take(1) == [1]


@quiet
async def test_a_cut_subscription_is_taken_up_again_and_what_it_missed_is_read(hub, world, subscribe):
    async with subscribe() as stream:
        await stream.frame()
        await world.run(world.redis.execute_command, "CLIENT", "KILL", "TYPE", "pubsub")
        await world.append(1)  # never published: only the look after the subscription can find it
        assert await stream.take(1) == [1]
        await until(lambda: hub.redis_up)
        await world.append(2)
        await world.publish(await world.batch(hub.position))
        assert await stream.take(1) == [2]


@pytest.fixture
def listeners(monkeypatch):
    """The hub's subscriptions; what nobody waits for is left with Redis until they are told to read on."""
    found = []
    received = hints.Listener.data_received

    def receive(self, data):
        found.append(self)
        received(self, data)

    monkeypatch.setattr(hints.Listener, "data_received", receive)
    monkeypatch.setattr(hints, "TOGETHER_SECONDS", 600)
    monkeypatch.setattr(hints, "PING_SECONDS", 600)
    return found


@quiet
async def test_who_comes_while_nobody_listened_hears_all_that_is_behind_their_place_once(
    listeners, hub, world, subscribe
):
    begin = hub.cursor
    await world.append(1)
    await world.publish(await world.batch(hub.position))
    await until(lambda: hub.position == begin.position + 1)
    await world.append(2)
    await world.publish(await world.batch(hub.position))
    await world.append(3)
    await world.publish(await world.batch(hub.position + 1))
    await asyncio.sleep(0.1)  # in which it could come
    assert hub.position == begin.position + 1
    ahead = Cursor(begin.epoch, begin.position + 2)
    async with subscribe(cursor=begin) as behind, subscribe() as here, subscribe(cursor=ahead) as far:
        for stream in (behind, here, far):
            assert (await stream.frame()).event == "stream.open"
        listeners[-1]._read_on()
        await world.append(4)
        await world.publish(await world.batch(begin.position + 3))
        assert await behind.take(4) == [1, 2, 3, 4]
        assert await here.take(3) == [2, 3, 4]
        assert await far.take(2) == [3, 4]
        await world.append(5)
        await world.publish(await world.batch(begin.position + 4))  # nobody reads later where somebody is
        for stream in (behind, here, far):
            assert await stream.take(1) == [5]


@quiet
async def test_a_gap_larger_than_the_ring_turns_subscribers_to_replay(hub, world, subscribe, settings):
    settings.STREAMS_RING_EVENTS = 10
    async with subscribe() as stream:
        await stream.frame()
        await world.append(*range(50))
        await hub.look()
        await hub._advance(hub.head)
        assert not stream.subscriber.live
        assert hub.position == hub.head
        assert await stream.take(50) == list(range(50))
        await world.append(50)
        assert hub.apply(await world.batch(hub.position))
        assert await stream.take(1) == [50]


@quiet
async def test_who_may_read_is_asked_anew_after_a_gap_that_the_hub_jumped(
    hub, world, subscribe, settings, permitted
):
    """What took their permission away may lie in it."""
    settings.STREAMS_RING_EVENTS = 3
    async with subscribe() as stream:
        await stream.frame()
        permitted["answer"] = False
        await world.append(*range(10), channels=("item:7",))
        await hub.look()
        await hub._advance(hub.head)
        assert (await stream.control()).data == {"reason": "revoked"}


@quiet
async def test_a_batch_that_arrives_while_the_log_is_read_brings_nothing_twice(
    hub, world, subscribe, monkeypatch
):
    begin = hub.position
    await world.append(1, 2)
    fetch, batch = hub.fetch, await world.batch(begin)

    async def meanwhile(*arguments):
        rows = await fetch(*arguments)
        hub.apply(batch)
        return rows

    monkeypatch.setattr(hub, "fetch", meanwhile)
    async with subscribe() as stream:
        await stream.frame()
        await hub._advance(begin + 2)
        await world.append(3)
        assert hub.apply(await world.batch(hub.position))
        assert await stream.take(3) == [1, 2, 3]


@quiet
async def test_looks_that_are_asked_for_together_are_one(hub, monkeypatch):
    looks = []
    look = hub._look

    async def counted():
        looks.append(1)
        await asyncio.sleep(0)
        await look()

    monkeypatch.setattr(hub, "_look", counted)
    await asyncio.gather(*(hub.look() for _ in range(100)))
    assert len(looks) <= 2


@quiet
async def test_a_starting_hub_fills_its_ring_from_the_log(world, permitted):
    from streams.hub import Hub

    await world.append(*range(20))
    head = await world.head()
    hub = Hub(permitted=None)
    await hub.start()
    try:
        async with asyncio.timeout(20):
            await hub.running.wait()
        assert hub.cursor == head
        assert len(hub.ring.after([ITEM], head.position - 5)) == 5
    finally:
        await hub.stop()


@quiet
async def test_reading_the_log_takes_little_more_memory_than_it_fills(hub, world):
    begin = hub.position
    await world.append(*range(3_000), text="x" * 200)
    head = (await world.head()).position
    hub.ring.clear(begin)
    tracemalloc.start()
    try:
        await hub._advance(head)
        stays, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert hub.position == head
    assert len(hub.ring) == 3_000
    assert most - stays < 800_000  # of 500 events, before and after they are made frames


@quiet
async def test_pruning_empties_the_ring_of_what_is_gone(hub, world):
    begin = hub.position
    await world.append(*range(5))
    hub.apply(await world.batch(begin))
    await world.run(log.prune, begin + 3)
    await world.run(log.place)
    hub.apply(await world.batch(hub.position))
    assert hub.oldest == begin + 4
    assert hub.ring.start == begin + 3


@quiet
async def test_a_drain_ends_every_stream_over_the_time_each_with_its_own_retry(hub, subscribe):
    import contextlib

    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(subscribe()) for _ in range(20)]
        for stream in streams:
            await stream.frame()
        began = asyncio.get_running_loop().time()
        draining = asyncio.create_task(hub.drain(0.5))
        ends = await asyncio.gather(*(stream.chunk() for stream in streams))
        await draining
        took = asyncio.get_running_loop().time() - began
    assert all(b'event: stream.end\ndata: {"reason":"drain"}' in end for end in ends)
    assert len({end.split(b"\n")[0] for end in ends}) > 10
    assert 0.3 < took < 5


@quiet
async def test_connections_to_the_database_stay_at_the_pool_s_bound(hub, world, subscribe, settings):
    begin = hub.cursor
    await world.append(*range(5))
    hub.position = (await world.head()).position
    hub.ring.clear(hub.position)

    async def one():
        async with subscribe(cursor=begin) as stream:
            stream.subscriber.since = hub.cursor
            return await stream.take(5)

    results = await asyncio.gather(*(one() for _ in range(50)))
    assert results == [list(range(5))] * 50
    assert hub._pool.get_stats()["pool_size"] <= settings.STREAMS_POOL_SIZE


@quiet
async def test_an_advance_past_the_head_ends(hub, world):
    """A target that a restore has undone meanwhile."""
    begin = hub.position
    await world.append(1)
    async with asyncio.timeout(20):
        await hub._advance(begin + 5)
    assert hub.position == begin + 1


@quiet
async def test_a_look_that_failed_is_nobody_s_answer(hub, monkeypatch):
    async def away():
        await asyncio.sleep(0.01)
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(hub, "_look", away)
    answers = await asyncio.gather(*(hub.look() for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [psycopg.OperationalError] * 5


@quiet
async def test_a_look_answers_only_who_asked_before_it_began(hub, monkeypatch):
    look, looks, go_on = hub._look, [], asyncio.Event()

    async def slow():
        looks.append(1)
        await go_on.wait()
        await look()

    monkeypatch.setattr(hub, "_look", slow)
    first = asyncio.create_task(hub.look())
    await until(lambda: looks)
    late = asyncio.create_task(hub.look())  # what it wants to know may be newer than the question
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, late)
    assert len(looks) == 2


@quiet
async def test_a_crowd_that_replays_leaves_the_hub_a_connection(hub, world, settings, monkeypatch):
    """More slow replays than there are connections, and the hub still looks at once."""
    fetch, running, go_on = hub.fetch, [], asyncio.Event()

    async def slow(sql, parameters):
        if sql == log.CHANNELS_SQL:
            async with hub._pool.connection():
                running.append(1)
                await go_on.wait()
        return await fetch(sql, parameters)

    monkeypatch.setattr(hub, "fetch", slow)
    replays = [asyncio.create_task(hub.read(frozenset([f"item:{n}"]), 0)) for n in range(50)]
    await until(lambda: len(running) == settings.STREAMS_POOL_SIZE - 1)
    async with asyncio.timeout(20):
        await hub.look()  # else the pool would have none for it
    go_on.set()
    assert len(await asyncio.gather(*replays)) == 50


@quiet
@pytest.mark.parametrize(
    "data", ['{"n":1,"text":""}', '{"user_id":7}', "[]", '{"user_id":null,"of_next_year":1}']
)
async def test_a_change_of_access_that_is_not_understood_ends_more_and_wedges_nothing(
    hub, world, subscribe, data
):
    position = hub.position + 1
    frame = f"id: {hub.epoch}-{position}\nevent: AccessChanged\ndata: {data}\n\n".encode()
    async with subscribe() as stream:
        await stream.frame()
        assert hub.apply(Batch(hub.epoch, hub.position, position, (Published(position, (ACCESS,), frame),)))
        assert (await stream.frame()).data == {"reason": "revoked"}
    assert hub.position == position


@quiet
async def test_a_newer_change_of_access_still_ends_only_those_it_names(hub, world, subscribe):
    position = hub.position + 1
    data = '{"user_id":"8","reason":"x","of_next_year":1}'
    frame = f"id: {hub.epoch}-{position}\nevent: AccessChanged\ndata: {data}\n\n".encode()
    async with subscribe(user_id="7") as stream, subscribe(user_id="8") as other:
        await stream.frame()
        await other.frame()
        hub.apply(Batch(hub.epoch, hub.position, position, (Published(position, (ACCESS,), frame),)))
        assert (await other.frame()).data == {"reason": "revoked"}
        assert stream.subscriber.live


@quiet
async def test_what_the_log_says_in_a_newer_way_empties_the_ring(hub, world, subscribe):
    begin = hub.position
    await world.append(1)
    hub.apply(await world.batch(begin))
    position = hub.position + 1
    frame = f'id: {hub.epoch}-{position}\nevent: LogTurned\ndata: {{"side":2}}\n\n'.encode()
    hub.apply(Batch(hub.epoch, hub.position, position, (Published(position, (LOG,), frame),)))
    assert (len(hub.ring), hub.ring.start, hub.position) == (0, position, position)


async def test_a_rule_that_fails_ends_the_stream_it_cannot_vouch_for_and_no_other_s_check(
    hub, subscribe, permitted, monkeypatch
):
    asked = []

    async def rule(reader, channels):
        asked.append(reader.user_id)
        if reader.user_id == "1":
            raise ValueError("a bug")
        return None if reader.user_id == "2" else reader

    monkeypatch.setattr(hub.audience, "_permitted", rule)
    async with subscribe(user_id="1") as bug, subscribe(user_id="2") as gone, subscribe(user_id="3") as fine:
        for stream in (bug, gone, fine):
            await stream.frame()
        hub.audience.recheck()
        assert (await bug.control()).data == {"reason": "revoked"}
        assert (await gone.control()).data == {"reason": "revoked"}
        await until(lambda: len(asked) == 3)
        assert fine.subscriber.live


async def test_a_recheck_without_a_database_ends_nothing(hub, subscribe, monkeypatch):
    asked = asyncio.Event()

    async def rule(reader, channels):
        asked.set()
        raise OperationalError("away")

    monkeypatch.setattr(hub.audience, "_permitted", rule)
    async with subscribe() as stream:
        await stream.frame()
        hub.audience.recheck()
        async with asyncio.timeout(20):
            await asked.wait()
        assert stream.subscriber.live


async def test_many_are_asked_about_at_once_and_no_more_than_so_many(hub, subscribe, monkeypatch):
    """Or a process of many readers would not have asked of the last one before it is time for the first."""
    monkeypatch.setattr(audience, "AT_ONCE", 2)
    asking, most, done = 0, 0, []

    async def rule(reader, channels):
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking -= 1
        done.append(reader.user_id)
        return reader

    monkeypatch.setattr(hub.audience, "_permitted", rule)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(5):
            await (await stack.enter_async_context(subscribe(user_id=str(number)))).frame()
        hub.audience.recheck()
        await until(lambda: len(done) == 5)
    assert most == 2


async def test_a_stopped_hub_stays_stopped(hub):
    await hub.stop()
    await hub.start()
    assert not hub._tasks


async def test_a_look_that_failed_is_no_answer_for_those_who_waited_with_it(hub, world, monkeypatch):
    look, first, failing = hub._look, asyncio.Event(), []

    async def slow_then_failing():
        if not first.is_set():
            await first.wait()
        elif not failing:
            failing.append(1)
            raise psycopg.OperationalError("away")
        await look()

    monkeypatch.setattr(hub, "_look", slow_then_failing)
    before = hub._looks_begun
    await world.append(1)
    looks = [asyncio.create_task(hub.look()) for _ in range(3)]
    await asyncio.sleep(0)  # one asks, two wait
    await world.append(2)
    first.set()
    answers = await asyncio.gather(*looks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), psycopg.OperationalError, type(None)]
    assert hub._looks_begun == before + 3


@quiet
async def test_a_target_of_an_epoch_that_ended_is_given_up(hub, world):
    """Its position means nothing in the new one."""
    await world.append(1)
    async with hub._advancing:
        advancing = asyncio.create_task(hub._advance(hub.position + 1000))
        await asyncio.sleep(0)
        await world.run(log.new_epoch)
        await hub.look()
    async with asyncio.timeout(20):
        await advancing
    assert hub.cursor == await world.head()


@quiet
async def test_an_older_log_that_grew_past_the_hub_again_is_another_history(hub, world, subscribe):
    begin = hub.position
    await world.append(1, 2)
    await hub.look()
    await hub._advance(hub.head)
    async with subscribe() as stream:
        await stream.frame()
        await world.run(undo, begin)
        await world.append(*range(10, 20))
        await hub.look()
        told = await stream.control()
        assert (told.event, told.data["reason"]) == ("stream.reset", "epoch")
        assert hub.cursor == await world.head()
        assert len(hub.ring) == 0
        await world.append(20)
        assert hub.apply(await world.batch(hub.position))
        assert await stream.take(1) == [20]


@quiet
async def test_a_hub_does_not_go_back_for_what_was_pruned_under_its_reading(hub, world, monkeypatch):
    begin = hub.position
    await world.append(*range(6))
    batch = await world.batch(begin)
    await world.run(log.prune, begin + 3)
    fetch, questions = hub.fetch, []

    async def meanwhile(*arguments):
        questions.append(arguments)
        rows = await fetch(*arguments)
        hub.apply(batch)
        return rows

    monkeypatch.setattr(hub, "fetch", meanwhile)
    await hub._advance(begin + 6)
    assert len(questions) == 1
    assert len(hub.ring.after([ITEM], begin)) == 6


@quiet
async def test_a_burst_is_joined_once_for_all_who_hear_it(hub, world, subscribe, settings):
    begin = hub.position
    async with subscribe() as one, subscribe(ITEM, "item:43") as two, subscribe("item:43") as three:
        for stream in (one, two, three):
            await stream.frame()
        await world.append(*range(100))
        await world.append(100, 101, channels=(ITEM, "item:43"))
        await world.append(*range(102, 110), text="x" * settings.STREAMS_WRITE_BYTES)
        assert hub.apply(await world.batch(begin))
        [burst, *rest] = one.subscriber.buffer
        assert burst is two.subscriber.buffer[0]
        assert burst.count(b"\n\n") == 100
        assert len(rest) <= 5
        assert await one.take(110) == list(range(110))
        assert await two.take(110) == list(range(110))
        assert await three.take(2) == [100, 101]


@quiet
async def test_a_burst_of_which_a_reader_has_seen_a_part_brings_it_the_rest(hub, world, subscribe):
    """Who read the log may be ahead of the hub."""
    begin = hub.cursor
    await world.append(*range(6))
    head = await world.head()
    first = await world.batch(begin.position, begin.position + 3)
    async with subscribe() as stream:
        await stream.frame()
        stream.subscriber.position = first.last
        assert hub.apply(await world.batch(begin.position))
        assert await stream.take(3) == [3, 4, 5]
        assert stream.subscriber.position == head.position


def erase_text_of_7() -> None:
    members = '[{"type":"StreamTested","member":"text","whose":"n"}]'
    with connection.cursor() as cursor:
        cursor.execute("SELECT tickertape_erase('7', %s, 'gone', 0, 1000000)", [members])


@quiet
async def test_what_was_erased_in_a_gap_that_the_hub_jumped_is_forgotten_too(hub, world, settings):
    begin = hub.cursor
    await world.append(7, text="secret")
    stretch = await hub.read(frozenset([ITEM]), begin.position)
    assert b"secret" in stretch.events[0].frame
    await world.run(erase_text_of_7)
    await world.append(*range(100, 110))  # places the LogErased, and more than the ring holds
    settings.STREAMS_RING_EVENTS = 3
    await hub.look()
    await hub._advance(hub.head)  # jumps over the LogErased
    assert hub.position == hub.head
    stretch = await hub.read(frozenset([ITEM]), begin.position)
    assert b"secret" not in stretch.events[0].frame


@quiet
async def test_a_page_of_an_epoch_that_ended_meanwhile_moves_nobody(hub, world):
    start = hub.position
    await world.append(*range(10))
    await world.run(log.prune, start + 8)
    await world.run(log.place)
    page, asked, go_on = hub._page, asyncio.Event(), asyncio.Event()

    async def slow(*args, **more):
        found = await page(*args, **more)
        asked.set()
        await go_on.wait()
        return found

    hub._page = slow
    advancing = asyncio.create_task(hub._advance(start + 11))
    await asyncio.wait_for(asked.wait(), 20)
    await hub._begin("another", start + 2, 1)  # what a look does that finds an older state restored
    go_on.set()
    await advancing
    assert hub.cursor.position == start + 2  # above the head: the next look begins one more epoch


@quiet
async def test_a_recheck_that_found_the_database_away_is_made_up_for_soon(hub, subscribe, monkeypatch):
    asked = []

    async def permitted(reader, channels):
        asked.append(reader)
        if len(asked) == 1:
            raise OperationalError  # as just after a fail-over, which is when a recheck is asked for

    monkeypatch.setattr(hub.audience, "_permitted", permitted)
    async with subscribe() as stream:
        await stream.control()
        hub.audience.recheck()
        async with asyncio.timeout(20):  # STREAMS_RECHECK_SECONDS, else
            while len(asked) < 2:
                await asyncio.sleep(0.05)


async def test_a_cancellation_that_is_lost_on_the_way_holds_up_no_end(world):
    """As redis-py may lose one that comes while it closes a connection."""
    waits, lost = asyncio.Event(), asyncio.Event()

    async def messages(take, nobody):
        yield None
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.set()
            await asyncio.Event().wait()

    async def permitted(reader, channels):
        return reader

    hub = Hub(permitted=permitted, messages=messages)
    await hub.start()
    async with asyncio.timeout(20):
        await waits.wait()
        await hub.stop()
    assert lost.is_set()

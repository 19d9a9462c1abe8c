"""The subscriber: every event once, in order, across every way from replay to live and back."""

import asyncio
import contextlib
import time
from types import SimpleNamespace

import psycopg
import pytest

from events import log
from events.cursor import Cursor
from streams.batch import Batch, Published
from tests.streams.conftest import ITEM

pytestmark = pytest.mark.usefixtures("quiet")


async def tell(hub, world):
    """Hand the hub what the log has, as a batch would."""
    assert hub.apply(await world.batch(hub.position))


async def test_without_a_cursor_it_begins_now(hub, world, subscribe):
    await world.append(1)
    await tell(hub, world)
    async with subscribe() as stream:
        opened = await stream.frame()
        await world.append(2)
        await tell(hub, world)
        assert await stream.take(1) == [2]
    assert opened.event == "stream.open"
    assert opened.data == {"mode": "live", "cursor": opened.id, "missed": 0}


async def test_with_a_cursor_it_begins_after_it(hub, world, subscribe):
    begin = hub.cursor
    await world.append(1, 2, 3)
    await tell(hub, world)
    async with subscribe(cursor=Cursor(begin.epoch, begin.position + 1)) as stream:
        opened = await stream.frame()
        got = await stream.take(2)
        live = await stream.frame()
    assert opened.data == {
        "mode": "resumed",
        "cursor": str(Cursor(begin.epoch, begin.position + 1)),
        "missed": 2,
    }
    assert opened.id == opened.data["cursor"]
    assert got == [2, 3]
    assert (live.event, live.id) == ("stream.live", str(hub.cursor))


async def test_earliest_is_all_that_is_kept(hub, world, subscribe):
    await world.append(1, 2)
    await tell(hub, world)
    async with subscribe(cursor="earliest") as stream:
        assert await stream.take(2) == [1, 2]


async def test_events_of_other_channels_are_not_seen(hub, world, subscribe):
    begin = hub.cursor
    await world.append(1, channels=("item:1",))
    await world.append(2)
    await tell(hub, world)
    async with subscribe(cursor=begin) as stream:
        assert await stream.take(1) == [2]


async def test_an_event_of_two_of_its_channels_arrives_once(hub, world, subscribe):
    begin = hub.cursor
    await world.append(1, channels=("item:1", "item:2"))
    await tell(hub, world)
    async with subscribe("item:1", "item:2", cursor=begin) as stream:
        await world.append(2, channels=("item:1", "item:2"))
        await world.append(3, channels=("item:2",))
        assert await stream.take(1) == [1]
        await tell(hub, world)
        assert await stream.take(2) == [2, 3]


async def test_an_event_committed_during_replay_arrives_once(hub, world, subscribe, settings):
    settings.STREAMS_PAGE_EVENTS = 2
    begin = hub.cursor
    await world.append(1, 2, 3)
    hub.ring.clear(hub.position)  # so that replay reads the log
    hub.position = (await world.head()).position
    hub.ring.clear(hub.position)
    async with subscribe(cursor=begin) as stream:
        assert await stream.take(1) == [1]  # the first page is read, the second is not
        await world.append(4)
        await tell(hub, world)
        assert await stream.take(3) == [2, 3, 4]
        await world.append(5)
        await tell(hub, world)
        assert await stream.take(1) == [5]


async def test_a_replay_from_the_ring_takes_a_piece_at_a_time_too(hub, world, subscribe, settings):
    settings.STREAMS_WRITE_BYTES = 150
    begin = hub.cursor
    await world.append(*range(5))
    await tell(hub, world)
    async with subscribe(cursor=begin) as stream:
        assert await stream.take(1) == [0]
        assert not stream.subscriber.live
        await world.append(5)
        await tell(hub, world)
        assert await stream.take(5) == [1, 2, 3, 4, 5]
        assert stream.subscriber.hub.replay.reads == 0


async def test_a_page_that_is_ahead_of_the_hub_brings_nothing_twice(hub, world, subscribe):
    """The log may be read before the batch of the same events arrives."""
    begin = hub.cursor
    async with subscribe(cursor=begin) as stream:
        await stream.frame()
        hub.ring.clear(hub.position + 1)  # the ring cannot prove it: read the log
        await world.append(1, 2)
        assert await stream.take(2) == [1, 2]
        hub.ring.clear(hub.position)
        await tell(hub, world)
        await world.append(3)
        await tell(hub, world)
        assert await stream.take(1) == [3]


async def test_a_full_inbox_turns_to_replay_and_back_without_a_gap(hub, world, subscribe, settings):
    settings.STREAMS_BUFFER_BYTES = 300
    async with subscribe() as stream:
        await stream.frame()
        for n in range(30):
            await world.append(n, text="x" * 50)
            await tell(hub, world)
        assert not stream.subscriber.live
        assert stream.subscriber._buffered <= 300
        assert await stream.take(30) == list(range(30))
        await world.append(30)
        await tell(hub, world)
        assert await stream.take(1) == [30]
        assert stream.subscriber.live


async def test_one_who_began_live_and_fell_back_is_not_told_of_a_replay(hub, world, subscribe, settings):
    settings.STREAMS_BUFFER_BYTES = 100
    async with subscribe() as stream:
        assert (await stream.frame()).data["mode"] == "live"
        for n in range(5):  # more than the inbox holds, before the reader asks again
            await world.append(n, text="x" * 50)
            await tell(hub, world)
        assert not stream.subscriber.live
        frames = [await stream.frame() for _ in range(5)]
        await world.append(5)
        await tell(hub, world)
        frames.append(await stream.frame())
    assert [frame.event for frame in frames] == ["StreamTested"] * 6


async def test_a_slow_reader_whom_the_ring_forgot_reads_the_log(hub, world, subscribe, settings):
    settings.STREAMS_BUFFER_BYTES = 300
    hub.ring.max_events = 5
    async with subscribe() as stream:
        await stream.frame()
        for n in range(40):
            await world.append(n, text="x" * 50)
            await tell(hub, world)
        reads = hub.replay.reads
        assert await stream.take(40) == list(range(40))
        assert hub.replay.reads > reads


async def test_a_single_event_larger_than_the_inbox_still_arrives(hub, world, subscribe, settings):
    settings.STREAMS_BUFFER_BYTES = 100
    async with subscribe() as stream:
        await stream.frame()
        await world.append(1, text="x" * 5000)
        await tell(hub, world)
        assert await stream.take(1) == [1]


@pytest.mark.parametrize("cursor", ["garbage", "-", "abcd", "ffff-", "x" * 5000])
async def test_a_malformed_id_resets(hub, world, subscribe, cursor):
    await expect_reset(hub, world, subscribe, cursor, "malformed")


async def test_an_id_of_another_epoch_resets(hub, world, subscribe):
    await expect_reset(hub, world, subscribe, Cursor("0123456789", hub.position), "epoch")


async def test_an_id_from_the_future_resets(hub, world, subscribe):
    await expect_reset(hub, world, subscribe, Cursor(hub.epoch, hub.position + 1000), "ahead")


async def test_a_pruned_id_resets(hub, world, subscribe):
    begin = hub.cursor
    await world.append(1, 2, 3)
    await world.run(log.prune, begin.position + 2)
    await world.run(log.place)
    await tell(hub, world)  # the log's own event tells the hub
    await expect_reset(hub, world, subscribe, begin, "pruned")


async def expect_reset(hub, world, subscribe, cursor, reason):
    async with subscribe(cursor=cursor) as stream:
        opened = await stream.frame()
        reset = await stream.frame()
        await world.append(1)
        await tell(hub, world)
        assert await stream.take(1) == [1]
    assert opened.data["mode"] == "reset"
    assert (reset.event, reset.data["reason"]) == ("stream.reset", reason)
    assert opened.id == reset.id
    assert Cursor.parse(reset.id).epoch == hub.epoch


async def test_the_oldest_id_of_a_reset_gets_all_that_is_kept(hub, world, subscribe):
    begin = hub.position
    await world.append(1, 2, 3)
    await world.run(log.prune, begin + 1)
    await world.run(log.place)
    await tell(hub, world)
    async with subscribe(cursor="garbage") as stream:
        oldest = (await stream.frame(), await stream.frame())[1].data["oldest"]
    async with subscribe(cursor=oldest) as stream:
        assert (await stream.frame()).data["mode"] == "resumed"
        assert await stream.take(2) == [2, 3]


async def test_an_id_that_another_process_gave_is_no_future(hub, world, subscribe):
    """This hub has not heard of it yet; the log has."""
    await world.append(1)
    async with subscribe(cursor=await world.head()) as stream:
        assert (await stream.frame()).data["mode"] == "resumed"
        await world.append(2)
        await tell(hub, world)
        assert await stream.take(1) == [2]


async def test_pruning_under_a_replay_resets_it(hub, world, subscribe, settings):
    settings.STREAMS_PAGE_EVENTS = 2
    begin = hub.cursor
    await world.append(*range(10))
    hub.position = (await world.head()).position
    hub.ring.clear(hub.position)
    async with subscribe(cursor=begin) as stream:
        assert await stream.take(1) == [0]
        await world.run(log.prune, begin.position + 6)
        assert await stream.take(1) == [1]
        reset = await stream.control()
        assert (reset.event, reset.data["reason"]) == ("stream.reset", "pruned")


async def test_a_new_epoch_resets_open_streams_and_they_go_on(hub, world, subscribe):
    async with subscribe() as stream:
        await stream.frame()
        await world.run(log.new_epoch)
        await hub.look()
        reset = await stream.frame()
        await world.append(1)
        await tell(hub, world)
        assert await stream.take(1) == [1]
    assert (reset.event, reset.data["reason"]) == ("stream.reset", "epoch")
    assert reset.id == str(Cursor(hub.epoch, hub.position - 1))


async def test_a_new_epoch_under_a_replay_resets_it_once(hub, world, subscribe, settings):
    settings.STREAMS_PAGE_EVENTS = 2
    begin = hub.cursor
    await world.append(*range(10))
    hub.position = (await world.head()).position
    hub.ring.clear(hub.position)
    async with subscribe(cursor=begin) as stream:
        assert await stream.take(1) == [0]
        await world.run(log.new_epoch)
        assert await stream.take(1) == [1]
        reset = await stream.control()
        await world.append(10)
        await tell(hub, world)
        following = await stream.frame()
    assert (reset.event, reset.data["reason"]) == ("stream.reset", "epoch")
    assert reset.id.startswith(hub.epoch)
    assert following.data == {"n": 10, "text": ""}


async def test_heartbeats_move_the_cursor_as_far_as_is_proven(hub, world, subscribe, settings):
    settings.STREAMS_HEARTBEAT_SECONDS = 0.05
    async with subscribe() as stream:
        await stream.frame()
        await world.append(1, channels=("item:1",))
        await tell(hub, world)
        beat = await stream.frame()
        while beat.position < hub.position:
            beat = await stream.frame()
    assert beat.comment
    assert beat.event is None
    assert beat.data is None
    assert beat.id == str(hub.cursor)


async def test_a_heartbeat_never_runs_ahead_of_what_was_not_written(hub, world, subscribe, settings):
    """A push in the very moment in which the wait for one ends."""
    settings.STREAMS_HEARTBEAT_SECONDS = 0.02
    async with subscribe() as stream:
        await stream.frame()
        subscriber = stream.subscriber
        pushed = asyncio.Event()
        pushing = subscriber.touched

        async def late(seconds):
            answer = await pushing(seconds)
            if not answer and not pushed.is_set():
                pushed.set()
                last = hub.position + 1
                hub.apply(Batch(hub.epoch, hub.position, last, (published(hub, last),)))
            return answer

        type(subscriber).touched, original = (lambda self, seconds: late(seconds)), type(subscriber).touched
        try:
            frame = await stream.frame()
        finally:
            type(subscriber).touched = original
    assert frame.data == {"n": 1}


def published(hub, position):
    frame = f'id: {hub.epoch}-{position}\nevent: T\ndata: {{"n":1}}\n\n'.encode()
    return Published(position, (ITEM,), frame)


async def test_a_stream_has_a_maximum_life(hub, subscribe, settings):
    settings.STREAMS_MAX_AGE_SECONDS = 0.05
    async with subscribe() as stream:
        await stream.frame()
        assert (await stream.control()).data == {"reason": "max_age"}
        assert await stream.over()


async def test_a_stream_ends_with_its_session(hub, subscribe):
    async with subscribe(expires_at=time.time() + 0.05) as stream:
        await stream.frame()
        assert (await stream.control()).data == {"reason": "revoked"}


async def test_a_stream_that_is_never_idle_ends_with_its_session_all_the_same(hub, subscribe):
    begin = hub.position
    async with subscribe(expires_at=time.time() + 0.05) as stream:
        await stream.frame()
        chunk = b""
        while b"stream.end" not in chunk and hub.position < begin + 1_000:
            after = hub.position + 1
            assert hub.apply(Batch(hub.epoch, hub.position, after, (published(hub, after),)))
            chunk = await stream.chunk()
            await asyncio.sleep(0.001)
    assert b'{"reason":"revoked"}' in chunk


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ({"user_id": "7"}, True),
        ({"user_id": "8"}, False),
        ({"channel": ITEM}, True),
        ({"channel": "item:1"}, False),
        ({"user_id": "7", "channel": ITEM}, True),
        ({"user_id": "8", "channel": ITEM}, False),
        ({"session": "s1"}, True),
        ({"session": "s2"}, False),
    ],
)
async def test_a_change_of_access_ends_the_streams_that_it_concerns(hub, world, subscribe, fields, ends):
    async with subscribe(session="s1") as stream:
        await stream.frame()
        await world.revoke(**fields)
        await world.append(1)
        await tell(hub, world)
        if ends:
            frame = await stream.frame()
            assert (frame.event, frame.data) == ("stream.end", {"reason": "revoked"})
        else:
            assert await stream.take(1) == [1]


async def test_what_was_placed_after_a_revocation_is_not_replayed(hub, world, subscribe, settings):
    """A slow reader reads the log, which may be ahead of what the hub has heard."""
    hub.ring.clear(hub.position + 100)
    begin = hub.cursor
    async with subscribe(cursor=begin) as stream:
        hub.ring.clear(hub.position)
        stream.subscriber.since = begin
        await stream.frame()
        hub.ring.clear(hub.position + 100)
        stream.subscriber.fall_back(hub.position)
        await world.append(1)
        await world.revoke(user_id="7")
        await world.append(2)
        assert await stream.take(1) == [1]
        assert (await stream.frame()).data == {"reason": "revoked"}
        assert await stream.over()


async def test_what_a_revoked_reader_did_not_take_yet_is_dropped(hub, world, subscribe):
    async with subscribe() as stream:
        await stream.frame()
        await world.append(1)
        await world.revoke(user_id="7")
        await tell(hub, world)
        assert (await stream.frame()).data == {"reason": "revoked"}


async def test_a_revocation_between_the_check_and_the_joining_is_not_missed(hub, world, subscribe):
    async with subscribe() as stream:  # made, and so authorised, before …
        await world.revoke(user_id="7")
        await tell(hub, world)
        await world.append(1)
        await tell(hub, world)
        assert (await stream.control()).data == {"reason": "revoked"}  # … and joined after
        assert await stream.over()


async def test_a_revocation_before_the_check_does_not_end_a_replay(hub, world, subscribe):
    begin = hub.cursor
    await world.append(1)
    await world.revoke(user_id="7")
    await world.append(2)
    await tell(hub, world)
    async with subscribe(cursor=begin) as stream:
        assert await stream.take(2) == [1, 2]
    hub.ring.clear(hub.position)  # and the same from the log
    async with subscribe(cursor=begin) as stream:
        assert await stream.take(2) == [1, 2]
        assert (await stream.frame()).event == "stream.live"


async def test_a_permission_that_went_past_the_verbs_is_found_by_the_recheck(hub, subscribe, permitted):
    async with subscribe() as stream:
        await stream.frame()
        permitted["answer"] = False
        hub.audience.recheck()
        assert (await stream.control()).data == {"reason": "revoked"}


async def test_a_replay_waits_for_a_database_that_is_away(hub, world, subscribe, monkeypatch):
    begin = hub.cursor
    await world.append(1)
    hub.position = (await world.head()).position
    hub.ring.clear(hub.position)
    read, failed = hub.read, asyncio.Event()

    async def away(*arguments):
        if not failed.is_set():
            failed.set()
            raise psycopg.OperationalError("away")
        return await read(*arguments)

    monkeypatch.setattr(hub, "read", away)
    async with subscribe(cursor=begin) as stream:
        await stream.frame()
        assert (await stream.frame()).comment  # still here, and nothing claimed
        assert await stream.take(1) == [1]


async def test_leaving_leaves_nothing_behind(hub, subscribe):
    async with subscribe() as stream:
        await stream.frame()
        assert hub.connections == 1
    assert hub.connections == 0
    assert hub.audience._by == {}


async def test_an_opening_that_only_the_log_could_decide_says_that_it_is_away(hub, subscribe, monkeypatch):
    async def away():
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(hub, "look", away)
    async with subscribe(cursor=Cursor(hub.epoch, hub.position + 1)) as stream:
        assert (await stream.frame()).data == {"reason": "database"}
        assert await stream.over()


async def test_who_lost_access_while_the_log_was_asked_gets_nothing_more(hub, world, subscribe, monkeypatch):
    async def look():
        await world.revoke(user_id="7")
        await tell(hub, world)

    monkeypatch.setattr(hub, "look", look)
    async with subscribe(cursor=Cursor("0123456789", 3)) as stream:
        assert (await stream.frame()).data == {"reason": "revoked"}
        await world.append(99)
        await tell(hub, world)
        assert await stream.over()


async def test_a_reader_revoked_while_its_opening_asks_the_log_gets_nothing_more(hub, world, subscribe):
    ahead = Cursor(hub.epoch, hub.position + 1000)
    async with subscribe(cursor=ahead) as stream, held_answers(hub) as answer:
        opening = asyncio.create_task(stream.frame())
        await answer.asked.wait()
        await world.revoke(user_id="7")
        await tell(hub, world)
        answer.given.set()
        frame = await opening
        await world.append(1)
        await tell(hub, world)
        while frame.event != "stream.end":
            assert frame.event.startswith("stream.")
            frame = await stream.frame()
    assert frame.data == {"reason": "revoked"}


@contextlib.asynccontextmanager
async def held_answers(hub):
    """Hold back what the log answers the hub, until `given` is set; `asked` says that there is something."""
    fetch, held = hub.fetch, SimpleNamespace(asked=asyncio.Event(), given=asyncio.Event())

    async def later(*arguments):
        rows = await fetch(*arguments)
        held.asked.set()
        await held.given.wait()
        return rows

    hub.fetch = later
    try:
        yield held
    finally:
        hub.fetch = fetch


async def test_a_revocation_in_a_new_epoch_counts_whatever_its_position(hub, world, subscribe):
    """Positions of two epochs do not compare: the new one may be lower than that of the check."""
    async with subscribe() as stream:
        await stream.frame()
        await world.run(log.new_epoch)
        await hub.look()
        assert (await stream.frame()).data["reason"] == "epoch"
        stream.subscriber.since = Cursor(stream.subscriber.since.epoch, hub.position + 100)
        hub.ring.clear(hub.position + 1)  # the ring cannot prove it: read the log
        stream.subscriber.fall_back(hub.position)
        await world.revoke(user_id="7")
        await world.append(1)
        assert (await stream.frame()).data == {"reason": "revoked"}


@pytest.mark.parametrize("at", ["the opening", "a new epoch"])
async def test_a_log_that_is_away_for_a_look_ends_the_stream_in_order(hub, world, subscribe, monkeypatch, at):
    async def away():
        raise psycopg.OperationalError("away")

    cursor = Cursor(hub.epoch, hub.position + 1 if at == "the opening" else hub.position)
    async with subscribe(cursor=cursor) as stream:
        if at == "a new epoch":
            await stream.frame()
            hub.ring.clear(hub.position + 1)
            await world.run(log.new_epoch)
        monkeypatch.setattr(hub, "_look", away)
        assert (await stream.control()).data == {"reason": "database"}
        assert await stream.over()


async def test_a_log_that_lies_behind_is_not_asked_without_end(hub, world, subscribe):
    """As after a restore, until a look finds it."""
    async with subscribe(cursor=hub.cursor) as stream:
        await stream.frame()
        hub.ring.clear(hub.position + 1)
        hub.position += 1
        reads = hub.replay.reads
        reading = asyncio.create_task(stream.frame())
        while hub.replay.reads == reads:
            await asyncio.sleep(0.01)
        await asyncio.wait([reading], timeout=0.3)
        assert hub.replay.reads - reads <= 2
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_revocation_below_an_id_that_another_process_gave_is_not_missed(hub, world, subscribe):
    """The replay begins above it, and this hub has not heard of it."""
    async with subscribe(cursor=Cursor(hub.epoch, hub.position + 2)) as stream:
        await world.revoke(user_id="7")
        await world.append(1, 2)
        assert (await stream.frame()).data == {"reason": "revoked"}


async def test_a_new_epoch_under_the_asking_for_revocations_resets(hub, world, subscribe, monkeypatch):
    """The id is of the epoch before, and where it stands in the new one there are other events."""
    read = hub.read

    async def meanwhile(*arguments):
        page = await read(*arguments)
        await world.run(log.new_epoch)
        await hub.look()
        return page

    await world.append(1, 2)
    monkeypatch.setattr(hub, "read", meanwhile)
    async with subscribe(cursor=await world.head()) as stream:
        assert (await stream.frame()).data["mode"] == "reset"
        assert (await stream.frame()).data["reason"] == "epoch"


async def test_who_is_reset_because_of_pruning_is_checked_anew(hub, world, subscribe, permitted):
    """What took their permission away may have been pruned unheard."""
    begin = hub.cursor
    await world.revoke(user_id="7")
    await world.append(1, 2)
    hub.position = (await world.head()).position
    hub.ring.clear(hub.position)
    async with subscribe(cursor=begin) as stream:
        await stream.frame()
        permitted["answer"] = False
        await world.run(log.prune, begin.position + 2)
        assert (await stream.frame()).data["reason"] == "pruned"
        assert (await stream.frame()).data == {"reason": "revoked"}


async def test_a_revocation_of_long_ago_does_not_end_who_comes_from_an_epoch_before(hub, world, subscribe):
    """They would come back with the same id, for ever."""
    await world.revoke(user_id="7")
    await world.append(1)
    await tell(hub, world)
    async with subscribe(cursor=Cursor("0123456789", hub.position)) as stream:
        assert (await stream.frame()).data["mode"] == "reset"
        assert (await stream.frame()).data["reason"] == "epoch"

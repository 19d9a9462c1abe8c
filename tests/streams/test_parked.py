"""How a hub sends to parked streams: at once while it idles, and joined with what waits while it is busy."""

import asyncio
import time
from itertools import chain

import pytest

from events.channels import ACCESS, Channel
from streams import parked
from streams.batch import Batch, Transient, redis_channel
from tests.streams.conftest import ITEM
from tests.streams.test_takeover import opened, published

__all__ = ["opened"]

pytestmark = pytest.mark.usefixtures("quiet")

OTHER = Channel("item:43")
LONG = 60.0  # seconds that no test lasts


def two_runs(hub, before=None):
    """Return a batch, after another one or where the hub stands, with an event for each of two channels."""
    prev = hub.position if before is None else before.last
    events = (published(hub, prev + 1, channel=ITEM), published(hub, prev + 2, channel=OTHER))
    return Batch(hub.epoch, prev, prev + 2, events)


def make_busy(hub):
    """Have the hub think that it sent much just now."""
    hub.parked.busy_until = hub.parked.now() + LONG


def writes(stream):
    """Return the positions that came with each write, but for the opening."""
    taken = [piece for piece, *_ in stream.pipe.take()]
    return [
        [int(line.rpartition(b"-")[2]) for line in piece.split(b"\n") if line.startswith(b"id: ")]
        for piece in taken
        if b"event: stream.open" not in piece
    ]


async def turns(number):
    for _ in range(number):
        await asyncio.sleep(0)


async def until_sent(hub):
    async with asyncio.timeout(20):
        while hub.parked.unsent:
            await asyncio.sleep(0)


async def test_an_idle_hub_sends_at_once(hub, opened):
    one, two = await opened(), await opened(OTHER)
    batch = two_runs(hub)

    hub.apply(batch)

    assert (writes(one), writes(two)) == ([[batch.last - 1]], [[batch.last]])


async def test_a_busy_hub_sends_what_waits_at_redis_in_one_write(hub, world, opened):
    """While it writes the first batch, five more come: they wait at its connection when it is done."""
    one, two = await opened(), await opened(OTHER)
    first = two_runs(hub)
    waiting = [first]
    for _ in range(5):
        waiting.append(two_runs(hub, waiting[-1]))
    write, meanwhile = one.pipe.write, iter(waiting[1:])

    def slow_write(data):
        for batch in meanwhile:
            world.redis.publish(redis_channel(), batch.pack())
        time.sleep(0.1)
        one.pipe.write = write
        write(data)

    one.pipe.write = slow_write
    await world.publish(first)
    async with asyncio.timeout(20):
        while hub.position < waiting[-1].last:
            await asyncio.sleep(0)
    await until_sent(hub)

    ones, twos = ([batch.last - 1 for batch in waiting], [batch.last for batch in waiting])
    assert (writes(one), writes(two)) == ([ones[:1], ones[1:]], [twos[:1], twos[1:]])


async def test_a_busy_hub_for_which_nothing_waits_sends_after_a_few_turns(hub, opened):
    one, two = await opened(), await opened(OTHER)
    make_busy(hub)
    batch = two_runs(hub)

    hub.apply(batch)
    assert (writes(one), writes(two)) == ([], [])
    await turns(parked.QUIET_TURNS + 2)

    assert (writes(one), writes(two)) == ([[batch.last - 1]], [[batch.last]])


async def test_what_was_pushed_waits_no_longer_than_the_bound_however_much_comes(hub, opened):
    clock = [1000.0]
    hub.parked.now = lambda: clock[0]
    one = await opened()
    make_busy(hub)
    began, sent = hub.position, []
    async with asyncio.timeout(20):
        while not sent:
            assert clock[0] < 1000 + parked.JOIN_SECONDS + 0.003
            hub.apply(two_runs(hub))
            clock[0] += 0.001
            await asyncio.sleep(0)
            sent = writes(one)

    assert clock[0] >= 1000 + parked.JOIN_SECONDS
    assert sent == [list(range(began + 1, hub.position, 2))]


async def test_nothing_is_written_twice_or_out_of_order_by_a_hub_that_is_busy_now_and_then(hub, opened):
    one = await opened(ITEM, OTHER)
    began = hub.position
    for number in range(40):
        if number % 3:
            make_busy(hub)
        else:
            hub.parked.busy_until = 0.0
        hub.apply(two_runs(hub))
        await turns(number % 7)
    await until_sent(hub)

    came = writes(one)
    assert [*chain.from_iterable(came)] == list(range(began + 1, hub.position + 1))
    assert len(came) < 40


async def test_who_may_no_longer_read_is_not_sent_what_waited(hub, opened):
    one, two = await opened(), await opened(OTHER)
    make_busy(hub)
    hub.apply(two_runs(hub))
    position = hub.position + 1
    change = published(hub, position, channel=ACCESS)._replace(
        frame=f'id: {hub.epoch}-{position}\nevent: AccessChanged\ndata: {{"channel":"{ITEM}"}}\n\n'.encode()
    )
    after = published(hub, position + 1, channel=ITEM)
    hub.apply(Batch(hub.epoch, hub.position, position + 1, (change, after)))
    async with asyncio.timeout(20):
        while not one.pipe.closed:
            await asyncio.sleep(0)
    await until_sent(hub)

    assert one.events() == []
    assert one.read[-1].data == {"reason": "revoked"}
    assert two.events() == [position - 1]


async def test_what_is_transient_does_not_pass_what_waits(hub, opened):
    one, two = await opened(), await opened(OTHER)
    make_busy(hub)
    batch = two_runs(hub)
    hub.apply(batch)

    hub._take(Transient(ITEM, "progress", b"event: Progressed\ndata: {}\n\n").pack())
    await until_sent(hub)

    assert [frame.event for frame in one.frames()[1:]] == ["StreamTested", "Progressed"]
    assert two.events() == [batch.last]


async def test_who_joins_leaves_or_is_drained_while_something_waits_misses_nothing(hub, opened):
    drained, leaving = await opened(), await opened()
    make_busy(hub)
    batch = two_runs(hub)
    hub.apply(batch)
    leaving.pipe.owner.lost()
    drained.subscriber.end("drain")
    late = await opened()
    following = two_runs(hub)
    hub.apply(following)
    async with asyncio.timeout(20):
        while not drained.pipe.closed:
            await asyncio.sleep(0)
    await until_sent(hub)

    assert [frame.event for frame in drained.frames()] == ["stream.open", "StreamTested", "stream.end"]
    assert leaving.events() == []
    assert late.frames()[0].position == batch.last
    assert late.events() == [following.last - 1]

"""A stream whose connection was taken over: parked it costs nothing, and says what it would over ASGI."""

import asyncio
import contextlib
import time

import pytest

from events.channels import Channel
from streams import parked, sse
from streams.batch import Batch, Published, Transient
from streams.reader import Reader
from streams.subscriber import Subscriber
from tests.streams.conftest import ITEM, parse
from tests.streams.straight import begin

pytestmark = pytest.mark.usefixtures("quiet")

LATER = 10_000  # seconds: past a heartbeat, also on a machine that has not been up for so long


class Straight:
    """A stream, and what its client has read of it."""

    def __init__(self, hub, *channels, room=100, cursor=None, **reader):
        names = frozenset(Channel(each) for each in channels or (ITEM,))
        self.subscriber = Subscriber(hub, names, Reader("7", **reader), since=hub.cursor)
        self.pipe, self.beginning = begin(self.subscriber, cursor, room=room)
        self.read = []

    def frames(self):
        """Read what is there."""
        data = b"".join(piece for piece, *_ in self.pipe.take())
        self.read += [parse(block) for block in data.split(b"\n\n") if block]
        return self.read

    def events(self):
        return [frame.position for frame in self.frames() if frame.event == "StreamTested"]


@pytest.fixture
async def opened(hub):
    """Open streams, each parked when it is returned."""
    streams = []

    async def open_one(*channels, **more):
        stream = Straight(hub, *channels, **more)
        streams.append(stream)
        beginning = asyncio.create_task(stream.beginning)
        while not beginning.done():
            stream.frames()
            await asyncio.sleep(0)
        return stream

    yield open_one
    for stream in streams:
        stream.pipe.owner.lost()


def published(hub, position, *, channel, size=0):
    data = f'{{"n":{position},"text":"{"x" * size}"}}'
    frame = f"id: {hub.epoch}-{position}\nevent: StreamTested\ndata: {data}\n\n".encode()
    return Published(position, (channel,), frame)


def push(hub, count=1, *, channel=ITEM, size=0):
    """Hand the hub a batch of so many events."""
    first = hub.position + 1
    events = tuple(
        published(hub, position, channel=channel, size=size) for position in range(first, first + count)
    )
    hub.apply(Batch(hub.epoch, hub.position, hub.position + count, events))


def tasks():
    return len(asyncio.all_tasks())


async def test_a_parked_stream_has_no_task_and_is_pushed_to_at_once(hub, opened):
    before = tasks()
    stream = await opened()
    push(hub, 3)
    assert tasks() == before
    assert stream.events() == [hub.position - 2, hub.position - 1, hub.position]
    assert len(stream.frames()) == 4  # with the opening


async def test_events_of_several_channels_go_out_in_one_piece(hub, opened):
    stream = await opened("item:1", "item:2")
    stream.frames()
    first = hub.position + 1
    events = tuple(published(hub, first + n, channel=f"item:{1 + n % 2}") for n in range(6))
    hub.apply(Batch(hub.epoch, hub.position, first + 5, events))
    assert len(stream.pipe.sent) == 1
    assert stream.events() == list(range(first, first + 6))


async def test_a_slow_reader_is_not_sent_more_and_gets_everything(hub, opened, settings):
    settings.STREAMS_BUFFER_BYTES = 2_000
    stream = await opened(room=1)
    first = hub.position + 1
    for _ in range(40):
        push(hub, 2, size=200)
    await asyncio.sleep(0)
    assert len(stream.pipe.sent) == 1  # the rest is in the ring
    for _ in range(100):
        stream.frames()
        await asyncio.sleep(0)
    assert stream.events() == list(range(first, first + 80))
    push(hub)
    assert stream.events()[-1] == hub.position  # parked again


async def test_an_event_larger_than_a_piece_is_written_in_pieces(hub, opened, settings):
    settings.STREAMS_WRITE_BYTES = 500
    stream = await opened()
    stream.frames()
    sent = []
    stream.pipe.write = sent.append
    push(hub, size=3_000)
    async with asyncio.timeout(20):
        while sum(map(len, sent)) < 3_000:
            await asyncio.sleep(0)
    assert max(map(len, sent)) == len(sse.chunked(b"x" * 500))


async def test_a_parked_stream_gives_signs_of_life_and_moves_its_cursor(hub, opened, settings):
    settings.STREAMS_HEARTBEAT_SECONDS = 0.3
    stream = await opened()
    push(hub, channel="item:999")
    async with asyncio.timeout(20):
        while not any(frame.comment for frame in stream.frames()):
            await asyncio.sleep(0.01)
    assert stream.read[-1].id == str(hub.cursor)


async def test_who_was_handed_something_needs_no_sign_of_life(hub, opened, settings):
    settings.STREAMS_HEARTBEAT_SECONDS = 10
    stream = await opened(ITEM, "item:2")
    stream.subscriber.moved = hub.parked.now() - 11
    push(hub)
    hub.parked.look_at(stream.subscriber, hub.parked.now())
    assert stream.frames()[-1].event == "StreamTested"
    hub.parked.look_at(stream.subscriber, hub.parked.now() + 11)
    assert stream.frames()[-1].comment


async def test_each_gets_each_event_once_whoever_comes_goes_or_is_slow_between_two(hub, opened):
    """Of a crowd it is noted how each is written to, until one of them changes."""
    first = hub.position + 1
    crowd = [await opened() for _ in range(3)]
    slow, since, left = await opened(room=1), {}, {}
    for number in range(12):
        push(hub)
        if number % 3 == 0:
            late = await opened()
            since[late] = hub.position + 1
        elif number % 3 == 1 and crowd:
            left[leaver := crowd.pop()] = hub.position
            leaver.pipe.owner.lost()
        elif number % 2:
            slow.frames()
            await asyncio.sleep(0)
    for _ in range(30):
        slow.frames()
        await asyncio.sleep(0)
    assert slow.events() == list(range(first, hub.position + 1))
    assert [each.events() for each in since] == [list(range(n, hub.position + 1)) for n in since.values()]
    assert [each.events() for each in left] == [list(range(first, n + 1)) for n in left.values()]


async def test_an_event_of_two_channels_is_written_once_to_who_reads_both(hub, opened):
    both, one = await opened("item:1", "item:2"), await opened("item:2")
    event = published(hub, hub.position + 1, channel="item:1")._replace(channels=("item:1", "item:2"))
    hub.apply(Batch(hub.epoch, hub.position, event.position, (event,)))
    assert both.events() == one.events() == [event.position]


async def test_who_has_read_further_than_the_hub_is_not_written_it_again(hub, opened):
    """As after a replay from a log of which the hub has not heard the end."""
    stream = await opened(room=1)
    push(hub)  # it is full, and not parked
    await asyncio.sleep(0)
    stream.subscriber.position = hub.position + 2
    stream.frames()
    await asyncio.sleep(0)
    stream.pipe.room = 100
    seen = stream.events()
    push(hub)
    push(hub)
    await asyncio.sleep(0)
    assert stream.events() == seen
    push(hub)
    await asyncio.sleep(0)
    assert stream.events() == [*seen, hub.position]


async def test_what_waits_to_be_sent_is_not_passed_by_a_heartbeat(hub, opened, monkeypatch):
    monkeypatch.setattr(parked, "AT_ONCE", 1)
    crowd = [await opened() for _ in range(2)]
    push(hub)  # to one in the first slice
    [waiting] = [stream for stream in crowd if not stream.events()]
    assert waiting.subscriber.buffer
    hub.parked.look_at(waiting.subscriber, hub.parked.now() + LATER)
    assert waiting.events() == []
    assert not any(frame.comment for frame in waiting.read)
    await asyncio.sleep(0)
    assert waiting.events() == [hub.position]


async def test_a_crowd_is_sent_to_in_slices_and_in_order(hub, opened, monkeypatch):
    monkeypatch.setattr(parked, "AT_ONCE", 2)
    crowd = [await opened() for _ in range(7)]
    first = hub.position + 1
    push(hub)
    assert sum(bool(stream.events()) for stream in crowd) == 2  # the first slice
    push(hub)
    for _ in range(5):
        await asyncio.sleep(0)
    assert [stream.events() for stream in crowd] == [[first, first + 1]] * 7


async def test_an_expired_token_ends_a_parked_stream(hub, opened):
    stream = await opened(expires_at=time.time() + 0.5)
    async with asyncio.timeout(20):
        while not stream.pipe.closed:
            await asyncio.sleep(0.01)
    assert stream.frames()[-1].data == {"reason": "revoked"}
    assert stream.subscriber not in set(hub.audience)


async def test_a_parked_stream_is_ended_with_all_that_was_pushed_before(hub, opened):
    stream = await opened()
    push(hub)
    stream.subscriber.end("drain")
    async with asyncio.timeout(20):
        while not stream.pipe.closed:
            await asyncio.sleep(0)
    assert [frame.event for frame in stream.frames()] == ["stream.open", "StreamTested", "stream.end"]
    assert hub.audience.gone.is_set()


async def test_what_a_revoked_reader_has_not_been_sent_is_not_sent(hub, opened, monkeypatch):
    monkeypatch.setattr(parked, "AT_ONCE", 0)
    stream = await opened()
    push(hub)
    stream.subscriber.end("revoked")
    async with asyncio.timeout(20):
        while not stream.pipe.closed:
            await asyncio.sleep(0)
    assert [frame.event for frame in stream.frames()] == ["stream.open", "stream.end"]


async def test_who_leaves_is_forgotten_at_once(hub, opened):
    stream = await opened()
    stream.pipe.owner.lost()
    assert stream.subscriber not in set(hub.audience)
    push(hub)
    assert stream.events() == []


async def test_who_leaves_before_the_task_begins_is_forgotten_too(hub, opened):
    stream = await opened()
    before = tasks()
    stream.subscriber.end("drain")  # a task begins, which has not run yet
    assert tasks() == before + 1
    stream.pipe.owner.lost()
    for _ in range(3):
        await asyncio.sleep(0)
    assert tasks() == before
    assert stream.subscriber not in set(hub.audience)
    assert not stream.pipe.closed


async def test_who_leaves_during_the_opening_is_forgotten(hub, world):
    stream = Straight(hub, cursor="earliest", room=1)
    working = asyncio.create_task(stream.beginning)
    while not stream.pipe.sent:
        await asyncio.sleep(0)
    stream.pipe.owner.lost()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(working, 20)
    assert working.done()
    assert not working.cancelled()  # it is the server's task
    assert stream.subscriber not in set(hub.audience)


async def test_a_reader_that_takes_nothing_is_cut_off(hub, opened, settings):
    settings.STREAMS_STALL_SECONDS = 0.2
    stream = await opened(room=2)
    stream.pipe.outstanding = lambda: 100
    push(hub)
    async with asyncio.timeout(20):
        while not stream.pipe.aborted:
            await asyncio.sleep(0.01)
    assert stream.subscriber not in set(hub.audience)


async def test_a_stream_that_parks_late_is_looked_after_all_the_same(hub, opened, settings):
    """As after a replay that took longer than a heartbeat may."""
    settings.STREAMS_HEARTBEAT_SECONDS = 0.3
    stream = await opened(room=1)
    push(hub)  # it is full, and not parked
    await asyncio.sleep(0)
    stream.subscriber.moved = hub.parked.now() - 1000
    hub.parked.discard(stream.subscriber)
    async with asyncio.timeout(20):
        while not any(frame.comment for frame in stream.frames()):
            await asyncio.sleep(0.01)


async def test_a_stream_that_parks_after_its_time_ends(hub, opened):
    stream = await opened(room=1)
    push(hub)
    await asyncio.sleep(0)
    hub.parked.discard(stream.subscriber)
    stream.subscriber._deadline = time.monotonic() - 1000
    async with asyncio.timeout(20):
        while not stream.pipe.closed:
            stream.frames()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("by", ["a push", "pushes", "a transient frame", "a sign of life"])
async def test_one_that_cannot_be_written_to_is_cut_off_and_nobody_else_minds(hub, opened, by):
    one, other = await opened(ITEM, "item:2"), await opened(ITEM, "item:2")

    def closed(data):
        raise RuntimeError("the handle is closed")

    one.pipe.write = closed
    for stream in (one, other):
        if by == "a transient frame":
            stream.subscriber.tell(Transient(ITEM, "key", b"event: Told\ndata: 1\n\n"))
        elif by == "a sign of life":
            hub.parked.look_at(stream.subscriber, hub.parked.now() + LATER)
    if by == "a push":
        push(hub)
    elif by == "pushes":
        first = hub.position + 1
        events = tuple(published(hub, first + n, channel=f"item:{1 + n}") for n in range(2))
        hub.apply(Batch(hub.epoch, hub.position, first + 1, events))
    await asyncio.sleep(0)

    assert one.pipe.aborted
    assert one.subscriber not in set(hub.audience)
    assert len(other.frames()) >= 2
    assert other.subscriber in set(hub.audience)


async def test_what_is_no_part_of_the_tape_cannot_have_it_handed_out_twice(hub, opened, caplog):
    """An alert that cannot be counted: the hub goes on from behind it."""
    stream = await opened()
    position = hub.position + 1
    frame = f"id: {hub.epoch}-{position}\nevent: SystemAlert\ndata: {{}}\n\n".encode()
    batch = Batch(hub.epoch, hub.position, position, (Published(position, (ITEM,), frame),))
    for _ in range(3):
        hub.apply(batch)
    assert [frame.event for frame in stream.frames()] == ["stream.open", "SystemAlert"]
    assert hub.position == position
    assert "not counted" in caplog.text


async def test_each_of_several_that_cannot_be_written_to_is_cut_off_also_one_that_stirs(hub, opened, caplog):
    crowd = [await opened() for _ in range(4)]
    for number in (0, 2):

        def closed(data, pipe=crowd[number].pipe, number=number):
            if number:
                pipe.owner.full()
            raise RuntimeError("the handle is closed")

        crowd[number].pipe.write = closed
    push(hub)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [each.pipe.aborted for each in crowd] == [True, False, True, False]
    assert [each.subscriber in set(hub.audience) for each in crowd] == [False, True, False, True]
    assert [crowd[number].events() for number in (1, 3)] == [[hub.position]] * 2
    failed = [record for record in caplog.records if record.message == "A parked stream failed."]
    assert [record.exc_info[0] for record in failed] == [RuntimeError] * 2


async def test_a_cancellation_that_is_lost_leaves_nobody_behind(hub, opened):
    """As asyncio.wait_for loses one on Python 3.11, whose future is done already."""
    stream = await opened(room=1)
    push(hub)

    async def deaf():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    stream.pipe.drained = deaf
    await asyncio.sleep(0)
    stream.pipe.owner.lost()
    for _ in range(5):
        await asyncio.sleep(0)
    assert stream.subscriber.outlet is None
    assert not stream.subscriber.due
    assert not stream.pipe.closed

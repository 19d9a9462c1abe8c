"""Channels that are added and dropped while a stream goes on: nothing is lost, nothing comes twice."""

import asyncio
import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psycopg
import pytest
from django.db import transaction

from events import items, log
from events.access import access_changed
from events.channels import Channel
from streams import brought, conversation, permission
from streams.conversation import Conversation
from streams.permission import named
from streams.reader import Grant, Reader
from streams.subscriber import Subscriber
from streams.tokens import mark_of
from tests.streams.conftest import Frame, parse


class Talk:
    """A conversation and what was read of it."""

    def __init__(self, hub, subscriber, cursor: str | None) -> None:
        self.conversation = Conversation(hub, subscriber)
        self._frames = self.conversation.frames(cursor)

    async def frame(self) -> Frame:
        async with asyncio.timeout(20):
            return parse(await anext(self._frames))

    async def until(self, event: str) -> list[Frame]:
        """Return the frames up to the first of an event of the stream's own."""
        found = [await self.frame()]
        while found[-1].event != event:
            found.append(await self.frame())
        return found

    async def take(self, number: int) -> list[int]:
        found: list[int] = []
        while len(found) < number:
            frame = await self.frame()
            if frame.event == "StreamTested":
                found.append(frame.data["n"])
        return found

    async def say(self, **message) -> None:
        async with asyncio.timeout(20):
            await self.conversation.ask(json.dumps(message))

    async def refused(self, text: str | None) -> Frame:
        await self.conversation.ask(text)
        return (await self.until("stream.error"))[-1]

    async def close(self) -> None:
        await self._frames.aclose()


@pytest.fixture
def talk(hub, users, world):
    """Talk as alice, who may read three items of her own, and not bob's."""

    @contextlib.asynccontextmanager
    async def opened(*names: str, cursor: object = None):
        who = str(users.alice.pk)
        scope = frozenset(at.all) | {"item:999999", "user:999999", at.bobs}
        grant = Grant(who, scope, int(time.time()) + 600, "a" * 32, mark_of(users.alice))
        reader = Reader(user_id=who, session=grant.session, expires_at=grant.expires_at, grant=grant)
        subscriber = Subscriber(hub, frozenset(map(Channel, names)), reader, since=hub.cursor)
        talk = Talk(hub, subscriber, None if cursor is None else str(cursor))
        try:
            yield talk
        finally:
            await talk.close()

    at = SimpleNamespace(opened=opened)
    return at


@pytest.fixture
async def one(talk, users, world, hub):
    """The names of three items."""

    def make() -> list[str]:
        return [f"item:{items.create_item(users.alice, title=str(n)).pk}" for n in range(3)]

    talk.all = await world.run(make)
    talk.bobs = await world.run(
        lambda: f"item:{items.create_item(users.bob, title='x', visibility='members').pk}"
    )
    await world.append(channels=("item:42",))
    await hub.look()
    await hub._advance(hub.head)
    return talk.all


async def told(world, hub, *ns: int, channels) -> None:
    """Append events and have the hub hear of them."""
    after = hub.position
    await world.append(*ns, channels=channels)
    hub.apply(await world.batch(after))


def ns(frames: list[Frame]) -> list[int]:
    return [frame.data["n"] for frame in frames if frame.event == "StreamTested"]


async def test_an_added_channel_is_heard_from_where_the_reader_stands(quiet, world, hub, talk, one):
    a, b, _ = one
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        await told(world, hub, 1, channels=[b])
        await stream.say(add=[b])
        said = (await stream.until("stream.channels"))[-1]
        here = str(hub.cursor)
        assert said.data == {"channels": sorted([a, b]), "added": [b], "dropped": [], "cursor": here}
        assert said.id == here
        await stream.until("stream.live")
        await told(world, hub, 2, channels=[b])
        await told(world, hub, 3, channels=[a, b])
        await told(world, hub, 4, channels=[a])
        assert await stream.take(3) == [2, 3, 4]


async def test_what_an_added_channel_had_since_a_cursor_comes_first(quiet, world, hub, talk, one):
    a, b, c = one
    began = hub.cursor
    await told(world, hub, 1, channels=[b])
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        await told(world, hub, 2, channels=[a])
        await told(world, hub, 3, channels=[b])
        await told(world, hub, 4, channels=[a, b])  # which this connection has by `a`
        await told(world, hub, 5, channels=[c])
        assert await stream.take(2) == [2, 4]
        await stream.say(add=[b], after=str(began))
        await stream.until("stream.channels")
        assert ns(await stream.until("stream.live")) == [1, 3]
        await told(world, hub, 6, channels=[b])
        assert await stream.take(1) == [6]
        # And once more, by a channel that was added only later than what it has in common.
        await stream.say(add=[c], after=str(began))
        await stream.until("stream.channels")
        assert ns(await stream.until("stream.live")) == [5]


async def test_what_was_before_the_connection_is_new_to_it(quiet, world, hub, talk, one):
    a, b, _ = one
    began = hub.cursor
    await told(world, hub, 1, channels=[a, b])
    async with talk.opened(a) as stream:  # from now: it never brought the first
        await stream.until("stream.open")
        await stream.say(add=[b], after=str(began))
        await stream.until("stream.channels")
        assert ns(await stream.until("stream.live")) == [1]


async def test_a_cursor_ahead_of_the_reader_is_waited_for_and_nothing_comes_twice(
    quiet, world, hub, talk, one
):
    a, b, _ = one
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        behind = hub.position
        await world.append(1, channels=(b,))
        await world.append(2, channels=(a,))
        ahead = await world.head()  # as a page's, which another process made
        await stream.say(add=[b], after=str(ahead))
        await asyncio.sleep(0.2)
        hub.apply(await world.batch(behind))
        frames = await stream.until("stream.live")
        assert ns(frames) == [2]
        await told(world, hub, 3, channels=[b])
        assert await stream.take(1) == [3]


async def test_a_dropped_channel_is_heard_no_more(quiet, world, hub, talk, one):
    a, b, c = one
    async with talk.opened(a, b) as stream:
        await stream.until("stream.open")
        await told(world, hub, 1, channels=[b])
        await stream.say(drop=[b], add=[c])
        frames = await stream.until("stream.channels")
        assert ns(frames) in ([], [1])
        told_there = {"channels": sorted([a, c]), "added": [c], "dropped": [b], "cursor": frames[-1].id}
        assert frames[-1].data == told_there
        await stream.until("stream.live")
        await told(world, hub, 2, channels=[b])
        await told(world, hub, 3, channels=[c])
        assert await stream.take(1) == [3]
        assert not hub.audience.of(b)
        assert hub.connections == 1


@pytest.mark.parametrize("pause", [0, 0.002, 0.01])
async def test_changes_amid_a_storm_of_events_lose_and_double_nothing(
    quiet, world, hub, talk, one, settings, pause
):
    settings.STREAMS_BUFFER_BYTES = 300  # so that it falls back to the log again and again
    a, b, c = one
    began = hub.cursor
    total = 120
    last: dict[str, object] = {b: began, c: began}

    async def write() -> None:
        for n in range(total):
            await told(world, hub, n, channels=[[a], [b], [a, b], [a, c], [c], [b, c]][n % 6])
            await asyncio.sleep(pause)

    found: list[int] = []

    def note(frames: list[Frame]) -> Frame:
        found.extend(ns(frames))
        return frames[-1]

    async with talk.opened(a, cursor=began) as stream:
        await stream.until("stream.live")
        writing = asyncio.create_task(write())
        reading: set[str] = set()
        for turn in range(12):
            name = (b, c)[turn % 2]
            if name in reading:
                await stream.say(drop=[name])
                last[name] = note(await stream.until("stream.channels")).id
            else:
                # From where it was dropped, or from before all of it: nothing comes twice.
                await stream.say(add=[name], after=str(last[name] if turn % 3 else began))
                note(await stream.until("stream.channels"))
            reading ^= {name}
            note(await stream.until("stream.live"))
        await writing
        for name in {b, c} - reading:
            await stream.say(add=[name], after=str(last[name]))
            note(await stream.until("stream.live"))
        await told(world, hub, total, channels=[a])
        while total not in found:
            note([await stream.frame()])
    assert sorted(found) == list(range(total + 1))


async def test_an_event_comes_once_though_the_channel_that_brought_it_was_dropped(
    quiet, world, hub, talk, one
):
    a, b, c = one
    began = hub.cursor
    async with talk.opened(a, b) as stream:
        await stream.until("stream.open")
        await told(world, hub, 1, channels=[b, c])
        assert await stream.take(1) == [1]
        await stream.say(drop=[b])
        await stream.until("stream.live")
        await told(world, hub, 2, channels=[b, c])  # which nothing that is read brings
        await told(world, hub, 3, channels=[b])
        await stream.say(add=[c], after=str(began))
        assert ns(await stream.until("stream.live")) == [2]
        await told(world, hub, 4, channels=[b, c])
        assert await stream.take(1) == [4]
        await stream.say(add=[b], after=str(began), drop=[c])
        assert ns(await stream.until("stream.live")) == [3]


async def test_from_before_what_is_remembered_it_is_reset_and_not_doubled(
    quiet, world, hub, talk, one, monkeypatch
):
    monkeypatch.setattr(brought, "MOST", 1)
    a, b, c = one
    began = hub.cursor
    async with talk.opened(a, b, c) as stream:
        await stream.until("stream.open")
        await told(world, hub, 1, channels=[b, c])
        await stream.say(drop=[b])
        await stream.until("stream.live")
        middle = hub.cursor
        await told(world, hub, 2, channels=[c])
        await stream.say(drop=[c])
        await stream.until("stream.live")
        await told(world, hub, 3, channels=[b, c])
        await stream.say(add=[c], after=str(middle))
        assert ns(await stream.until("stream.live")) == [3]
        await stream.say(add=[b], after=str(began))
        reset = (await stream.until("stream.reset"))[-1]
        assert (reset.data["reason"], reset.data["oldest"]) == ("pruned", str(middle))
        assert ns(await stream.until("stream.live")) == []


async def test_what_came_before_a_reset_of_the_stream_does_not_come_again(quiet, world, hub, talk, one):
    """As where the log was pruned past a slow reader: what was brought below it is not known any more."""
    a, b, _ = one
    begin = hub.cursor
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        await told(world, hub, 1, channels=[a, b])
        assert await stream.take(1) == [1]
        stream.conversation._subscriber.reset("pruned")
        assert ns(await stream.until("stream.reset")) == []
        await stream.say(add=[b], after=str(begin))
        assert ns(await stream.until("stream.channels")) == []
        await told(world, hub, 2, channels=[a, b])
        assert await stream.take(1) == [2]


async def test_a_reset_at_the_opening_keeps_nothing_from_what_is_added(quiet, world, hub, talk, one):
    a, b, _ = one
    begin = hub.cursor
    await told(world, hub, 1, channels=[a, b])
    async with talk.opened(a, cursor="garbage") as stream:
        await stream.until("stream.reset")
        await stream.say(add=[b], after=str(begin))
        assert await stream.take(1) == [1]


@pytest.mark.parametrize("after", ["garbage", "pruned"])
async def test_what_a_reset_left_out_is_not_taken_for_brought(quiet, world, hub, talk, one, after):
    a, b, c = one
    began = hub.cursor
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        await told(world, hub, 1, channels=[c])
        middle = hub.cursor
        await told(world, hub, 2, channels=[b, c])
        if after == "pruned":
            # As this process has not heard yet: only reading the log shows it.
            await world.run(log.prune, middle.position)
        await stream.say(add=[b], after=after if after == "garbage" else str(began))
        reset = (await stream.until("stream.reset"))[-1]
        assert (reset.data["reason"], reset.data["channels"]) == (
            "malformed" if after == "garbage" else "pruned",
            [b],
        )
        await stream.until("stream.live")
        await stream.say(add=[c], after=str(middle))
        assert ns(await stream.until("stream.live")) == [2]


async def test_who_goes_on_from_the_last_id_with_all_channels_loses_nothing(quiet, world, hub, talk, one):
    """Wherever the connection breaks off once the change was said."""
    a, b, _ = one
    began = str(hub.cursor)
    for n, channels in enumerate([[a], [b], [a, b], [b], [a]]):
        await told(world, hub, n, channels=channels)
    expected = [f"{hub.epoch}-{hub.position - 4 + n}" for n in range(5)]
    for length in range(20):
        async with talk.opened(a, cursor=began) as stream:
            frames = await stream.until("stream.live")
            await stream.say(add=[b], after=began)
            frames += await stream.until("stream.channels")
            answer = len(frames)
            while frames[-1].event != "stream.live" and len(frames) < answer + length:
                frames.append(await stream.frame())
        last = [frame.id for frame in frames if frame.id][-1]
        async with talk.opened(a, b, cursor=last) as stream:
            again = await stream.until("stream.live") if last != str(hub.cursor) else []
        assert {frame.id for frame in frames + again if frame.event == "StreamTested"} == set(expected)
        said = next(frame for frame in frames if frame.event == "stream.channels")
        assert (said.id, said.data["cursor"]) == (began, str(hub.cursor))
        if frames[-1].event == "stream.live":
            break
    assert last == str(hub.cursor)


@pytest.fixture
async def missing(quiet, world, hub, talk, one, settings):
    """A reader in the middle of what an added channel missed."""
    settings.STREAMS_WRITE_BYTES = 100
    a, b, _ = one
    began = hub.cursor
    await told(world, hub, *range(20), channels=[b])
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        await stream.say(add=[b], after=str(began))
        assert await stream.take(3) == [0, 1, 2]
        yield stream


async def test_what_is_missed_stops_when_the_access_to_what_was_added_ends(world, hub, one, users, missing):
    after = hub.position

    def take() -> None:
        with transaction.atomic():
            access_changed("test", user_id=users.alice.pk, channel=Channel(one[1]))
        log.place()

    await world.run(take)
    hub.apply(await world.batch(after))
    assert [frame.data for frame in await missing.until("stream.end")] == [{"reason": "revoked"}]


async def test_what_is_missed_stops_when_a_recheck_finds_the_access_gone(hub, permitted, missing):
    permitted["answer"] = False
    hub.audience.recheck()
    while not next(iter(hub.audience)).ended:
        await asyncio.sleep(0.01)
    assert [frame.data for frame in await missing.until("stream.end")] == [{"reason": "revoked"}]


async def test_what_is_missed_stops_at_the_end_of_the_streams_life(hub, missing):
    missing.conversation._subscriber._deadline = time.monotonic()
    assert [frame.data for frame in await missing.until("stream.end")] == [{"reason": "max_age"}]


async def test_what_is_missed_goes_on_whatever_the_ring_forgets(world, hub, one, missing):
    hub.ring.clear(hub.position)
    await told(world, hub, 20, channels=[one[1]])
    assert await missing.take(18) == list(range(3, 21))


async def test_what_is_missed_waits_for_a_log_that_is_away(hub, missing, monkeypatch):
    hub.replay.forget()
    read, away = hub.read, [psycopg.OperationalError("away")]

    async def reading(*arguments):
        if away:
            raise away.pop()
        return await read(*arguments)

    monkeypatch.setattr(hub, "read", reading)
    assert (await missing.frame()).comment
    assert await missing.take(17) == list(range(3, 20))


async def test_what_nobody_foresaw_amid_what_is_missed_ends_the_stream(hub, missing, monkeypatch):
    async def failing(*arguments):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(hub, "read", failing)
    with pytest.raises(RuntimeError):  # which the consumer answers by cutting the connection off
        await missing.take(17)
    assert hub.connections == 0


async def test_what_is_missed_of_an_epoch_that_ended_is_not_waited_for(hub, missing):
    await hub._begin("0123456789", hub.position, 1)
    assert [frame.data["reason"] for frame in await missing.until("stream.reset")] == ["epoch"]


async def test_a_place_of_an_epoch_that_ended_is_not_waited_for(quiet, world, hub, talk, one):
    a, b, _ = one
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        await world.append(1, channels=(b,))
        ahead = await world.head()
        await stream.say(add=[b], after=str(ahead))
        reading = asyncio.create_task(stream.until("stream.channels"))
        await asyncio.sleep(0.2)
        assert not reading.done()
        await hub._begin("0123456789", 1, 1)  # what a look does that finds an older state restored
        frames = await reading
        resets = [frame.data for frame in frames if frame.event == "stream.reset"]
        assert [(reset["reason"], reset.get("channels")) for reset in resets] == [
            ("epoch", None),
            ("epoch", [b]),
        ]


async def test_who_asks_too_often_is_told_so_and_not_heard_for_a_while(
    quiet, world, hub, talk, one, settings
):
    settings.STREAMS_MESSAGES_PER_MINUTE = 6
    a, b, _ = one
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        for _ in range(6):
            assert (await stream.refused("nonsense")).data["code"] == "malformed_json"
        error = (await stream.refused("nonsense")).data
        assert (error["status"], error["code"]) == (429, "rate_limited")
        wait = error["retry_after"]
        assert 2 <= wait <= 5, "half of what one takes to come back, less what they took"
        began = time.monotonic()
        await stream.say(add=[b])
        await told(world, hub, 1, channels=[a])
        assert await stream.take(1) == [1]  # the stream itself goes on
        assert time.monotonic() - began < wait - 0.5
        waiting = asyncio.create_task(stream.say(drop=[b]))
        await asyncio.sleep(0.1)
        assert not waiting.done()  # so whoever hands messages over reads no more
        await stream.until("stream.channels")
        assert time.monotonic() - began > wait - 0.1
        await waiting


async def test_a_crowd_that_adds_channels_asks_in_turns(quiet, hub, talk, one, monkeypatch, settings):
    a, b, _ = one
    asked: list[int] = []
    asking = threading.Lock()
    at_once = 0

    def slowly(*arguments, **more):
        nonlocal at_once
        with asking:
            at_once += 1
            asked.append(at_once)
        time.sleep(0.05)
        with asking:
            at_once -= 1
        return named(*arguments, **more)

    monkeypatch.setattr(conversation, "named", slowly)
    monkeypatch.setattr(permission, "turns", asyncio.Semaphore(2))
    settings.STREAMS_DIRECT = False  # so each asks in a thread
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(20))
    async with contextlib.AsyncExitStack() as opened:
        streams = [await opened.enter_async_context(talk.opened(a)) for _ in range(8)]
        for stream in streams:
            await stream.until("stream.open")
            await stream.say(add=[b])
        await asyncio.gather(*(stream.until("stream.live") for stream in streams))
    assert (len(asked), max(asked)) == (8, 2)


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        (None, "malformed_json", None),
        ("{", "malformed_json", None),
        ("[]", "invalid", "message"),
        ("{}", "invalid", "add"),
        ('{"add": []}', "invalid", "add"),
        ('{"add": "item:1"}', "invalid", "add"),
        ('{"add": [1]}', "invalid", "add.0"),
        ('{"subscribe": ["item:1"]}', "invalid", "subscribe"),
        ('{"add": ["{b}", "{b}"]}', "invalid", "add.1"),
        ('{"add": ["{a}"]}', "invalid", "add.0"),
        ('{"drop": ["{b}"]}', "invalid", "drop.0"),
        ('{"drop": ["{a}"]}', "invalid", "drop"),
        ('{"drop": ["{a}"], "after": "x"}', "invalid", "after"),
        ('{"add": ["{b}"], "after": 7}', "invalid", "after"),
        ('{"add": ["{b}", "nonsense"]}', "invalid", "add.1"),
        ('{"add": ["{b}", "item:999999"]}', "channel_unknown", "add.1"),
        ('{"add": ["{b}", "user:999999"]}', "channel_forbidden", "add.1"),
        ('{"add": ["{bobs}"]}', "channel_forbidden", "add.0"),
        ('{"add": ["system"]}', "channel_forbidden", "add"),  # out of the token's scope
    ],
)
async def test_what_cannot_be_done_is_said_and_changes_nothing(
    quiet, world, hub, talk, one, text, code, field
):
    a, b, _ = one
    if text is not None:
        text = text.replace("{a}", a).replace("{b}", b).replace("{bobs}", talk.bobs)
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        error = await stream.refused(text)
        assert error.id is None
        assert error.data["code"] == code
        assert [fault["field"] for fault in error.data["errors"]][:1] == ([field] if field else [])
        await told(world, hub, 1, channels=[b])
        await told(world, hub, 2, channels=[a])
        assert await stream.take(1) == [2]


async def test_too_many_channels_are_said_by_name(quiet, hub, talk, one, settings):
    settings.STREAMS_MAX_CHANNELS = 2
    a, b, c = one
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        error = await stream.refused(json.dumps({"add": [b, c]}))
        assert (error.data["code"], error.data["errors"][0]["field"]) == ("too_many_channels", "add")


async def test_who_reads_more_than_may_be_added_can_drop_some(quiet, world, hub, talk, one, settings):
    """As a member of many groups does."""
    settings.STREAMS_MAX_CHANNELS = 1
    a, b, c = one
    async with talk.opened(a, b, c) as stream:
        await stream.until("stream.open")
        await stream.say(drop=[c])
        assert (await stream.until("stream.channels"))[-1].data["channels"] == sorted([a, b])
        error = await stream.refused(json.dumps({"add": [c]}))
        assert error.data["code"] == "too_many_channels"


@pytest.mark.parametrize(
    ("after", "reason"), [("garbage", "malformed"), ("0123456789-3", "epoch"), ("{epoch}-999999", "ahead")]
)
async def test_a_cursor_that_proves_nothing_is_reset_for_what_is_added(
    quiet, world, hub, talk, one, after, reason
):
    a, b, _ = one
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        await stream.say(add=[b], after=after.replace("{epoch}", hub.epoch))
        # The reset comes first: the id that follows it would go on as if nothing had been lost.
        reset, said = await stream.until("stream.channels")
        assert (reset.event, reset.data["reason"], reset.data["channels"]) == ("stream.reset", reason, [b])
        assert reset.id == said.id == said.data["cursor"] == str(hub.cursor)
        await stream.until("stream.live")
        await told(world, hub, 1, channels=[b])
        assert await stream.take(1) == [1]


async def test_what_ends_the_stream_ends_it_with_channels_added_too(quiet, world, hub, talk, one, users):
    a, b, _ = one
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        await stream.say(add=[b])
        await stream.until("stream.live")
        after = hub.position

        def take() -> None:
            with transaction.atomic():
                access_changed("test", user_id=users.alice.pk, channel=Channel(b))
            log.place()

        await world.run(take)
        hub.apply(await world.batch(after))
        assert (await stream.until("stream.end"))[-1].data == {"reason": "revoked"}
    assert hub.connections == 0


async def test_its_life_is_not_prolonged_by_a_change(quiet, hub, talk, one, settings):
    settings.STREAMS_MAX_AGE_SECONDS = 60
    a, b, _ = one
    async with talk.opened(a) as stream:
        await stream.until("stream.open")
        until = stream.conversation._subscriber._deadline
        await stream.say(add=[b])
        await stream.until("stream.live")
        assert stream.conversation._subscriber._deadline == until
        stream.conversation._subscriber._deadline = time.monotonic()
        assert (await stream.until("stream.end"))[-1].data == {"reason": "max_age"}


async def test_who_asks_of_a_conversation_that_is_over_is_not_kept_waiting(quiet, talk, one):
    """As who hands the messages over hears of the connection's end only after the last of them."""
    async with talk.opened(one[0]) as reader:
        await reader.until("stream.open")

        async def ask() -> None:
            for number in range(5):
                await reader.conversation.ask(str(number))

        asking = asyncio.create_task(ask())
        await asyncio.wait([asking], timeout=0.1)
        assert not asking.done()

        await reader.close()

        async with asyncio.timeout(20):
            await asking

"""Presence: who is connected and who has an item open, over all processes, whatever Redis does."""

import asyncio
import contextlib
import time
import tracemalloc
from dataclasses import dataclass, replace

import pytest
import redis.asyncio
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from events import log, preferences
from events.channels import Channel, user_channel
from events.preferences import PreferencesChanged
from streams import hub, presence, reporter, sse
from streams.batch import Published
from streams.hub import Hub
from streams.permission import admit, still_permitted
from streams.presence import ANYWHERE, PresenceChanged, connected_users, people_key, present
from streams.reader import Grant, Reader
from streams.subscriber import Subscriber
from tests.events.support import Api
from tests.proxy import Proxy
from tests.streams.conftest import ITEM, Stream
from tests.streams.test_hub import until

NAMES = {1: "alice", 2: "bob", 3: "carol"}
FOREIGN = Grant("elsewhere|2", frozenset([ITEM]), 2**40, "", "", issuer="elsewhere", key="1")


ANSWER_SECONDS = presence.ANSWER_SECONDS  # where it counts: else a Redis that is just busy is not away


@pytest.fixture(autouse=True)
def shown(settings, nobody_is_shown, monkeypatch):
    settings.STREAMS_PRESENCE = True
    settings.STREAMS_LOOK_SECONDS = 3600
    monkeypatch.setattr(presence, "_paused_until", 0.0)
    monkeypatch.setattr(presence, "ANSWER_SECONDS", 20)
    monkeypatch.setattr(reporter, "ANSWER_SECONDS", 20)
    monkeypatch.setattr(reporter, "LAST_SECONDS", 20)
    monkeypatch.setattr(reporter, "REPORT_SECONDS", 0.2)
    monkeypatch.setattr(reporter, "SAY_MS", 150)
    presence._client.cache_clear()
    yield
    presence._client.cache_clear()


@pytest.fixture
def mortal(monkeypatch):
    """A process of which nothing is heard is dead soon; in other tests not before the machine goes on."""
    monkeypatch.setattr(presence, "ALIVE_SECONDS", 3)


class Process:
    """A hub of its own, as another web process has."""

    def __init__(self, **more):
        self.hidden = None  # whether everybody is, as the database has it

        async def permitted(reader, channels):
            return reader if self.hidden is None else replace(reader, hidden=self.hidden)

        self.hub = Hub(permitted=permitted, **more)
        self.streams = contextlib.AsyncExitStack()

    @contextlib.asynccontextmanager
    async def open(self, user, *channels, since=None, **more):
        """Open a stream that is read until it is closed; yield the states of presence that it was told."""
        channels = frozenset(map(Channel, channels or (ITEM,)))
        reader = Reader(user_id=str(user), username=NAMES.get(user, f"u{user}"), **more)
        subscriber = Subscriber(self.hub, channels, reader, since=since or self.hub.cursor)
        stream = Stream(subscriber, None)
        told = []

        async def read():
            while True:
                frame = await stream.frame(seconds=60)
                if frame.event == "PresenceChanged":
                    assert frame.id is None
                    PresenceChanged.model_validate(frame.data)
                    told.append(frame.data)

        reading = asyncio.create_task(read())
        try:
            yield told
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await stream.close()

    async def die(self):
        """End without a word."""
        mine = self.hub.presence
        mine._name, mine._here, mine._changed = "", {}, {}
        await self.hub.stop()


@pytest.fixture
async def begin(world):
    """Begin processes; they end with the test."""
    for pattern in ("present:*", "said:*", "processes"):
        for key in await world.run(world.redis.keys, f"tickertape:{pattern}"):
            await world.run(world.redis.delete, key)
    processes = []

    async def begin(**more):
        process = Process(**more)
        processes.append(process)
        await process.hub.start()
        await until(lambda: process.hub.running.is_set() and (more or process.hub.redis_up))
        return process

    yield begin
    for process in processes:
        await process.hub.stop()


@contextlib.asynccontextmanager
async def held(process):
    """Hold the next report of a process back, until the block is left."""
    mine, waits, go_on = process.hub.presence, asyncio.Event(), asyncio.Event()
    turn = mine._turn

    async def later(client):
        waits.set()
        await go_on.wait()
        await turn(client)

    mine._turn = later
    await asyncio.wait_for(waits.wait(), 20)
    yield
    mine._turn = turn
    go_on.set()


def names(state):
    return sorted(user["username"] for user in state["users"])


async def sees(told, *wanted, seconds=20):
    """Wait until the last state that was told is of these, in number too."""
    try:
        await until(lambda: told and names(told[-1]) == sorted(wanted), seconds=seconds)
    except TimeoutError:
        raise AssertionError(f"{wanted} are not what was told: {told}") from None
    assert told[-1]["total"] == len(wanted)


async def asked(world, place=ITEM):
    found = await world.run(present, place)
    assert found is not None
    return sorted(user.username for user in found.users), found.total


async def test_two_people_see_each_other_come_and_go(begin, world):
    process = await begin()
    async with process.open(1) as alice:
        await sees(alice, "alice")
        async with process.open(2) as bob:
            await sees(alice, "alice", "bob")
            await sees(bob, "alice", "bob")
            assert await asked(world) == (["alice", "bob"], 2)
            assert await world.run(connected_users) == {1, 2}
        await sees(alice, "alice")
        assert alice[-1]["item_id"] == "42"
    await until(lambda: not world.redis.exists(people_key(ITEM), people_key(ANYWHERE)), seconds=20)


async def test_a_person_counts_once_over_tabs_and_processes(begin, world):
    one, other = await begin(), await begin()
    async with one.open(1) as first, other.open(2) as bob:
        await sees(bob, "alice", "bob")
        heard = len(bob)
        async with one.open(1) as second, other.open(1) as third:
            for told in (second, third):
                await sees(told, "alice", "bob")
            await until(lambda: world.redis.hget(people_key(ITEM), 1).count(b".") == 2)
            assert await asked(world) == (["alice", "bob"], 2)
        await until(lambda: world.redis.hget(people_key(ITEM), 1).count(b".") == 1)
        await sees(first, "alice", "bob")
        assert len(bob) == heard, "nothing changed for bob since they were two"


async def test_items_are_told_their_own_and_other_channels_nothing(begin, world):
    process = await begin()
    async with process.open(1) as alice, process.open(2, "item:7") as bob, process.open(3, "user:3") as carol:
        await sees(alice, "alice")
        await sees(bob, "bob")
        assert bob[-1]["item_id"] == "7"
        assert carol == []
        await until(lambda: world.redis.hlen(people_key(ANYWHERE)) == 3)
        assert await world.run(connected_users) == {1, 2, 3}


async def test_who_comes_late_is_told_at_once(begin):
    process = await begin()
    async with process.open(1) as alice:
        await sees(alice, "alice")
        async with process.open(1) as tab:
            await sees(tab, "alice")  # once: nothing changes that would be told later


async def test_who_leaves_and_comes_back_between_two_reports_was_never_away(begin):
    process = await begin()
    async with process.open(2) as bob, contextlib.AsyncExitStack() as report:
        async with process.open(1):
            await sees(bob, "alice", "bob")
            await report.enter_async_context(held(process))
        async with process.open(1):
            await until(lambda: process.hub.connections == 2)
            await report.aclose()
            await asyncio.sleep(1)
            await sees(bob, "alice", "bob")
            assert len(bob) <= 2


async def test_the_last_of_a_process_who_leaves_when_nothing_may_be_said_is_said_later(begin, monkeypatch):
    """Redis is not told anew that they left, and nobody of their process reads it: others do."""
    one, other = await begin(), await begin()
    monkeypatch.setattr(reporter, "SAY_MS", 5_000)
    async with other.open(2) as bob, contextlib.AsyncExitStack() as opened:
        async with one.open(1):
            await opened.enter_async_context(other.open(3))
            await sees(bob, "alice", "bob", "carol", seconds=20)  # for now the last that may be said
        await until(lambda: ITEM not in one.hub.presence._told)
        assert "alice" in names(bob[-1])
        await sees(bob, "bob", "carol", seconds=20)


async def test_the_last_report_of_a_process_is_said_also_when_nothing_may_be(begin, world, monkeypatch):
    one, other = await begin(), await begin()
    async with other.open(2) as bob:
        async with one.open(1):
            await sees(bob, "alice", "bob")
            await world.run(lambda: world.redis.set(presence.said_key(ITEM), "", px=600_000))
        monkeypatch.setattr(hub, "AGAIN_SECONDS", 20)  # the last word is not cut short by a busy machine
        await one.hub.stop()
        await sees(bob, "bob")


async def test_what_a_report_took_is_said_though_the_process_stops_amid_it(begin, world, monkeypatch):
    monkeypatch.setattr(presence, "ALIVE_SECONDS", 600)  # nobody else says it
    one, other = await begin(), await begin()
    asked, go_on = asyncio.Event(), asyncio.Event()
    ask = reporter._left_unsaid

    async def later(pipe, places):
        asked.set()
        await go_on.wait()
        return await ask(pipe, places)

    async with other.open(2) as bob:
        async with one.open(1):
            await sees(bob, "alice", "bob")
            await until(lambda: not (one.hub.presence._changed or one.hub.presence._unsaid))
            await until(lambda: not (other.hub.presence._changed or other.hub.presence._unsaid))
            monkeypatch.setattr(reporter, "_left_unsaid", later)
            monkeypatch.setattr(hub, "AGAIN_SECONDS", 20)
        await asked.wait()  # it says that alice left
        stopping = asyncio.create_task(one.hub.stop())
        await asyncio.sleep(0.1)
        go_on.set()
        await stopping
        await sees(bob, "bob")


async def test_who_leaves_at_last_with_a_crowd_is_said_once(begin, world, monkeypatch):
    monkeypatch.setattr(reporter, "AT_ONCE", 5)
    one, other = await begin(), await begin()
    async with other.open(2) as bob, contextlib.AsyncExitStack() as crowd:
        for user in range(100, 130):
            await crowd.enter_async_context(one.open(user))
        await until(lambda: bob and bob[-1]["total"] == 31)
        await until(lambda: not (one.hub.presence._changed or one.hub.presence._unsaid))
        over = asyncio.Event()

        async def nothing(client):
            over.set()

        one.hub.presence._try = nothing  # so that the last report has all to say
        await over.wait()
        await until(lambda: not (other.hub.presence._changed or other.hub.presence._unsaid))
        monkeypatch.setattr(reporter, "SAY_MS", 60_000)
        heard, is_news = [], other.hub.presence.is_news
        other.hub.presence.is_news = lambda said: heard.append(said) or is_news(said)
        await crowd.aclose()
        monkeypatch.setattr(hub, "AGAIN_SECONDS", 20)
        await one.hub.stop()
        await sees(bob, "bob")
        assert len(heard) <= 2, "of six parts the last, and the first if it was time"


@pytest.mark.parametrize("looked_at", [[ITEM], []])
async def test_a_key_that_was_evicted_hides_from_nobody_that_its_last_left(begin, world, looked_at):
    one, other = await begin(), await begin()
    async with other.open(2, hidden=True) as bob, contextlib.AsyncExitStack() as report:
        await sees(bob)
        async with one.open(1):
            await sees(bob, "alice")
            await until(lambda: not other.hub.presence._unsaid)  # or that would say it, by and by
            await report.enter_async_context(held(one))
        assert await world.run(world.redis.delete, people_key(ITEM)) == 1
        one.hub.presence._next_places = lambda: looked_at
        await report.aclose()
        await sees(bob, seconds=20)


async def test_who_comes_back_between_two_reports_is_told_who_is_there(begin):
    one, other = await begin(), await begin()
    async with other.open(2) as bob, contextlib.AsyncExitStack() as report:
        async with one.open(1) as alice:
            await sees(alice, "alice", "bob")
            await sees(bob, "alice", "bob")
            await report.enter_async_context(held(one))
        async with one.open(1) as again:
            await until(lambda: one.hub.connections == 1)
            await report.aclose()
            await sees(again, "alice", "bob", seconds=20)


async def test_at_most_one_frame_a_second(begin, monkeypatch):
    monkeypatch.setattr(reporter, "REPORT_SECONDS", 1.0)
    monkeypatch.setattr(reporter, "SAY_MS", 900)
    process, other = await begin(), await begin()
    loop = asyncio.get_running_loop()
    async with process.open(1) as told:
        began = loop.time()
        user = 100
        while loop.time() - began < 4:
            async with (process if user % 2 else other).open(user):
                await asyncio.sleep(0.15)
            user += 1
        assert len(told) <= 6


async def test_the_people_of_a_process_that_died_are_gone_soon(mortal, begin, world):
    one, other = await begin(), await begin()
    async with contextlib.AsyncExitStack() as opened, other.open(2) as bob:
        await opened.enter_async_context(one.open(1))
        await sees(bob, "alice", "bob")
        await one.die()
        await sees(bob, "bob", seconds=presence.ALIVE_SECONDS + 20)
        assert await asked(world) == (["bob"], 1)
        assert await world.run(connected_users) == {2}


@pytest.mark.parametrize("who", ["one who hides", "an issuer's user"])
async def test_the_dead_are_gone_also_for_who_is_not_shown_and_alone_in_a_process(mortal, begin, who):
    """Redis was told of nobody at that place by the process that lives."""
    more = {"hidden": True} if who == "one who hides" else {"grant": FOREIGN}
    one, other = await begin(), await begin()
    async with contextlib.AsyncExitStack() as opened, other.open(2, **more) as told:
        await opened.enter_async_context(one.open(1))
        await sees(told, "alice")
        await one.die()
        await sees(told, seconds=presence.ALIVE_SECONDS + 20)
    assert other.hub.presence._here == other.hub.presence._names == {}


async def test_a_place_opened_after_a_death_does_not_keep_the_dead(mortal, begin, world):
    """Nobody else had it open when the process died, so nobody took its people out."""
    one, other, third = await begin(), await begin(), await begin()
    async with contextlib.AsyncExitStack() as opened, third.open(3) as carol:
        await opened.enter_async_context(one.open(1, "item:9"))
        await until(lambda: world.redis.exists(people_key("item:9")))
        await one.die()
        await until(lambda: other.hub.presence._dead, seconds=presence.ALIVE_SECONDS + 20)
        assert world.redis.exists(people_key("item:9"))
        async with other.open(2, "item:9") as bob:
            await sees(bob, "bob")
        await sees(carol, "carol")


async def test_what_nobody_reports_of_expires_by_itself(begin, world):
    process = await begin()
    async with contextlib.AsyncExitStack() as opened:
        await opened.enter_async_context(process.open(1))
        await until(lambda: world.redis.exists(people_key(ITEM)))
        for place in (ITEM, ANYWHERE):
            assert 0 < world.redis.ttl(people_key(place)) <= presence.KEEP_SECONDS
        assert 0 < world.redis.ttl(presence.processes_key()) <= 70


async def test_who_stays_for_long_is_kept(begin, world, monkeypatch):
    monkeypatch.setattr(presence, "KEEP_SECONDS", 4)
    monkeypatch.setattr(reporter, "ROUND", 2)
    process = await begin()
    async with process.open(1) as alice:
        await sees(alice, "alice")
        await asyncio.sleep(7)
        assert await asked(world) == (["alice"], 1)
        assert len(alice) == 1


async def test_redis_that_was_emptied_is_told_anew(begin, world):
    one, other = await begin(), await begin()
    async with one.open(1) as alice, other.open(2) as bob:
        await sees(alice, "alice", "bob")
        await world.run(world.redis.flushall)
        await until(lambda: world.redis.hlen(people_key(ITEM)) == 2)
        await sees(alice, "alice", "bob")
        await sees(bob, "alice", "bob")
        await until(lambda: world.redis.hlen(people_key(ANYWHERE)) == 2)


async def test_a_key_that_was_evicted_is_told_anew(begin, world):
    process = await begin()
    async with process.open(1) as alice:
        await sees(alice, "alice")
        await world.run(world.redis.delete, people_key(ITEM))
        await until(lambda: world.redis.exists(people_key(ITEM)), seconds=20)


async def test_a_process_that_was_taken_for_dead_comes_back_under_another_name(begin, world):
    one, other = await begin(), await begin()
    async with one.open(1) as alice, other.open(2) as bob:
        await sees(bob, "alice", "bob")
        await world.run(world.redis.zadd, presence.processes_key(), {one.hub.presence._name: 1})
        await sees(alice, "alice", "bob", seconds=20)
        await until(lambda: world.redis.hget(people_key(ITEM), 1).count(b".") == 1, seconds=20)
        await sees(bob, "alice", "bob", seconds=20)


async def test_a_crowd_is_counted_whole_and_named_in_part(begin, world):
    process = await begin()
    async with contextlib.AsyncExitStack() as opened:
        for user in range(1, 701):
            reader = Reader(user_id=str(user), username=f"u{user}")
            subscriber = Subscriber(process.hub, frozenset([ITEM]), reader, since=process.hub.cursor)
            process.hub.join(subscriber)
            opened.callback(process.hub.leave, subscriber)
        await until(lambda: world.redis.hlen(people_key(ITEM)) == 700)
        found = await world.run(present, ITEM)
        assert (len(found.users), found.total) == (50, 700)
        assert len({user.id for user in found.users}) == 50
        async with process.open(1) as told:
            await until(lambda: told and told[-1]["total"] == 700)
            assert len(told[-1]["users"]) == 50


@pytest.mark.parametrize("name", ['"\\', "é\u2028\x85\n", "a:b.c", "👩‍👩‍👧", "</script>"])
async def test_any_name_arrives_as_it_is(begin, world, monkeypatch, name):
    monkeypatch.setitem(NAMES, 1, name)
    process = await begin()
    async with process.open(1) as told:
        await sees(told, name)
        assert await asked(world) == ([name], 1)


async def test_a_peer_that_fell_silent_is_counted_out_and_back_in(begin, world):
    process = await begin()
    async with process.open(2) as bob, process.open(1):
        await sees(bob, "alice", "bob")
        [alice] = [each for each in process.hub.audience if each.reader.user_id == "1"]
        alice.silent = lambda: True
        await sees(bob, "bob", seconds=20)
        alice.silent = lambda: False
        await sees(bob, "alice", "bob", seconds=20)
        alice.silent = lambda: True
        await sees(bob, "bob", seconds=20)
    assert process.hub.presence._here == {}
    assert process.hub.presence._names == {}
    assert process.hub.presence._counted == {}


async def test_who_found_no_room_is_not_there(begin, settings):
    settings.STREAMS_MAX_PER_USER = 1
    process = await begin()
    async with process.open(1):
        await until(lambda: process.hub.connections == 1)
        async with process.open(1):
            await asyncio.sleep(0.1)
        assert process.hub.presence._here[ITEM] == {"1": 1}


async def test_without_presence_nobody_is_counted_told_or_known(begin, world, settings):
    settings.STREAMS_PRESENCE = False
    process = await begin()
    async with process.open(1) as told:
        await asyncio.sleep(1.5)
        assert told == []
        assert not world.redis.exists(people_key(ANYWHERE))
        assert await world.run(connected_users) is None
        assert await world.run(present, ITEM) is None


# --- Who does not want to be shown ---------------------------------------------------------------------


async def choose(world, processes, user, presence):
    """Record what a user chose, and have every process hear of it."""
    said = PreferencesChanged(
        user_id=str(user), types={}, quiet_start=None, quiet_end=None, time_zone="UTC", presence=presence
    )

    def work():
        with transaction.atomic():
            log.append(said, channels=[user_channel(user)])
        log.place()
        return log.head().position

    head = await world.run(work)
    await world.publish(await world.batch(processes[0].hub.position))
    await until(lambda: all(process.hub.position == head for process in processes))


async def test_who_hides_is_neither_named_nor_counted_and_sees_the_others(begin, world):
    one, other = await begin(), await begin()
    async with one.open(1) as alice, other.open(2, hidden=True) as bob:
        await sees(bob, "alice")
        await sees(alice, "alice")
        assert await asked(world) == (["alice"], 1)
        async with other.open(2, hidden=True) as tab:
            await sees(tab, "alice", seconds=20)
        async with other.open(3) as carol:
            for told in (alice, bob, carol):
                await sees(told, "alice", "carol")
        await sees(bob, "alice")
        # As one of many, whom nobody names: how many a broadcast would reach now.
        assert await world.run(connected_users) == {1, 2}
    assert not any("bob" in names(state) for state in (*alice, *bob))
    await until(lambda: not world.redis.exists(people_key(ITEM), people_key(ANYWHERE)), seconds=20)
    for process in (one, other):
        assert process.hub.presence._here == process.hub.presence._names == {}


async def test_who_hides_while_they_are_there_is_gone_and_back_when_they_show_themselves(begin, world):
    processes = await begin(), await begin()
    one, other = processes
    async with one.open(1) as alice, one.open(2), other.open(2) as bob:
        await sees(alice, "alice", "bob")
        await choose(world, processes, 2, "hidden")
        await sees(alice, "alice", seconds=20)
        await sees(bob, "alice", seconds=20)
        async with one.open(2, hidden=True):
            await choose(world, processes, 2, "hidden")  # something else was chosen
            await choose(world, processes, 2, "shown")
            await sees(alice, "alice", "bob", seconds=20)
        await sees(bob, "alice", "bob")
    await until(lambda: not world.redis.exists(people_key(ITEM)), seconds=20)
    for process in processes:
        assert process.hub.presence._here == process.hub.presence._names == {}


async def test_what_an_older_process_wrote_shows_nobody_who_hides(begin, world):
    """It knew nothing of hiding, and left it as it is."""
    process = await begin()
    async with process.open(1) as alice, process.open(2, hidden=True):
        await sees(alice, "alice")
        [bob] = process.hub.audience.of_user("2")
        said = {"user_id": "2", "types": {}, "quiet_start": None, "quiet_end": None, "time_zone": "UTC"}
        frame = sse.message(said, event="PreferencesChanged", last_id="e-9")
        process.hub.presence.heed([Published(9, (user_channel(2),), frame)])
        assert bob.reader.hidden


async def test_who_fell_silent_and_hid_comes_back_hidden(begin, world):
    process = await begin()
    async with process.open(1) as alice, process.open(2):
        await sees(alice, "alice", "bob")
        [bob] = process.hub.audience.of_user("2")
        bob.silent = lambda: True
        await sees(alice, "alice", seconds=20)
        await choose(world, [process], 2, "hidden")
        bob.silent = lambda: False
        await until(lambda: process.hub.presence._counted[bob] is False, seconds=20)
        await asyncio.sleep(1)
        await sees(alice, "alice")


async def test_who_hides_between_the_check_and_the_opening_is_hidden(begin, world):
    process = await begin()
    checked = process.hub.cursor
    await choose(world, [process], 2, "hidden")
    async with process.open(1) as alice, process.open(2, since=checked) as bob:
        await sees(bob, "alice")
        assert await asked(world) == (["alice"], 1)
    assert not any("bob" in names(state) for state in alice)


async def test_a_choice_that_a_process_missed_is_found_by_the_recheck_and_ends_nothing(begin):
    """As after a gap that was too long to be read."""
    process = await begin()
    async with process.open(1) as alice, process.open(1) as tab:
        for told in (alice, tab):
            await sees(told, "alice")
        for chosen, seen in ((True, ()), (False, ("alice",))):
            process.hidden = chosen
            process.hub.audience.recheck()
            for told in (alice, tab):
                await sees(told, *seen)
        assert all(stream.live for stream in process.hub.audience)


async def test_a_choice_that_comes_while_a_recheck_asks_is_the_later_one(begin, monkeypatch):
    process = await begin()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slowly(reader, channels):
        asked.set()
        await answer.wait()
        return replace(reader, hidden=False)  # as it was when it was asked

    monkeypatch.setattr(process.hub.audience, "_permitted", slowly)
    async with process.open(1, hidden=True):
        await until(lambda: process.hub.connections)
        [alice] = process.hub.audience
        process.hub.audience.recheck()
        await asked.wait()
        process.hub.presence.hide(alice, True)
        answer.set()
        await asyncio.sleep(0.2)
        assert alice.reader.hidden


@pytest.mark.parametrize("chosen", ["hidden", "shown"])
async def test_a_recheck_asks_whether_somebody_hides(users, world, chosen):
    channels = frozenset([user_channel(users.bob.pk)])

    def admitted():
        preferences.change(users.bob, presence=chosen)
        api = Api()
        api.log_in("bob")
        request = HttpRequest()
        request.session = api.client.session
        return admit(request, lambda user: sorted(channels))

    reader, _ = await world.run(admitted)
    assert reader.hidden == (chosen == "hidden")
    for before in (reader, replace(reader, hidden=not reader.hidden)):
        assert await still_permitted(before, channels) == reader


# --- Redis away ---------------------------------------------------------------------------------------


@pytest.fixture
def redis_elsewhere(settings, monkeypatch):
    """Send what is asked of Redis to another address."""

    def forget():
        presence._client().close()
        presence._client.cache_clear()

    def go(url):
        forget()
        settings.REDIS_URL = url
        monkeypatch.setattr(presence, "_paused_until", 0.0)

    yield go
    forget()


@pytest.fixture
async def hung():
    """A Redis that takes connections and never answers."""

    async def hang(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


@pytest.mark.parametrize("how", ["refused", "hung"])
async def test_without_redis_nobody_knows_and_says_so_soon(world, hung, redis_elsewhere, monkeypatch, how):
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(presence, "ANSWER_SECONDS", ANSWER_SECONDS)
    monkeypatch.setattr(presence, "PAUSE_SECONDS", 60)
    redis_elsewhere("redis://127.0.0.1:1/0" if how == "refused" else hung)
    for question in (connected_users, lambda: present(ITEM)):
        took = []
        for _ in range(3):
            monkeypatch.setattr(presence, "_paused_until", 0.0)
            began = loop.time()
            assert await world.run(question) is None
            took.append(loop.time() - began)
        assert min(took) < 0.5
    with monkeypatch.context() as patched:
        patched.setattr(presence, "_client", None)  # who asks again at once waits for nothing
        for _ in range(100):
            assert await world.run(connected_users) is None


def test_the_api_says_that_nobody_knows(users, redis_elsewhere):
    api = Api()
    api.log_in("alice")
    item = api.post("/api/items", {"title": "A thing"}).json()["id"]
    assert api.get(f"/api/items/{item}/presence").json() == {"users": [], "total": 0}
    redis_elsewhere("redis://127.0.0.1:1/0")
    answer = api.get(f"/api/items/{item}/presence")
    assert (answer.status_code, answer.json()) == (200, {"users": [], "total": None})


async def test_while_redis_is_away_it_is_said_that_nobody_knows_and_then_who_is_there(
    mortal, begin, redis_elsewhere, settings, caplog
):
    with Proxy(settings.REDIS_URL) as proxy:
        redis_elsewhere(proxy.url.replace("http", "redis"))
        process = await begin()
        async with process.open(1) as alice, process.open(2) as bob:
            await sees(alice, "alice", "bob")
            proxy.cut()
            await until(lambda: alice[-1]["total"] is None and bob[-1]["total"] is None, seconds=20)
            assert alice[-1] == {"item_id": "42", "users": [], "total": None}
            async with process.open(3) as carol:
                heard = len(alice)
                await asyncio.sleep(2.5)
                assert len(alice) == heard, "it is said once"
                proxy.restore()
                for told in (alice, bob, carol):
                    await sees(told, "alice", "bob", "carol", seconds=20)
    assert [record for record in caplog.records if record.name == "streams.reporter"] == []


# --- A crowd --------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Someone:
    """As much of a subscriber as is counted."""

    reader: Reader
    channels: frozenset[Channel]
    silent: type = bool


def counted(items):
    return [
        Someone(Reader(user_id=str(n), username=f"user-{n}"), frozenset([Channel(f"item:{n % items + 1}")]))
        for n in range(1, 10_001)
    ]


@pytest.mark.parametrize("items", [1, 100, 10_000])
async def test_ten_thousand_cost_little_and_one_change_no_more_than_among_few(begin, world, items):
    own = reporter.Reporter(tell=lambda said: None, of_user=lambda user_id: ())
    crowd = counted(items)
    tracemalloc.start()
    for each in crowd:
        own.come(each)
    memory = tracemalloc.get_traced_memory()[0] / len(crowd)
    tracemalloc.stop()

    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:

        async def cost():
            began = time.process_time()
            own._look_at_some()
            await own._turn(client)
            return time.process_time() - began

        await cost()
        name = own._name
        idle = [await cost() for _ in range(10)]
        changed = []
        for turn in range(10):
            (own.come if turn % 2 else own.go)(crowd[0])
            changed.append(await cost())
    assert own._name == name, "nothing had to be said anew"
    assert world.redis.hlen(people_key(ANYWHERE)) == 10_000
    assert memory < 1_500
    assert min(changed) < min(idle) + 0.02
    assert min(idle) < 0.05


async def test_who_has_so_much_to_say_that_it_takes_long_is_not_dead(begin, world, monkeypatch):
    """Else it would begin anew, and again, and never come to an end."""
    monkeypatch.setattr(presence, "ALIVE_SECONDS", 3)
    own = reporter.Reporter(tell=lambda said: None, of_user=lambda user_id: ())
    for each in counted(10_000):
        own.come(each)
    left_unsaid = reporter._left_unsaid

    async def slowly(pipe, asked):
        await asyncio.sleep(0.1)
        return await left_unsaid(pipe, asked)

    monkeypatch.setattr(reporter, "_left_unsaid", slowly)
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        await own._turn(client)
        name = own._name
        await own._turn(client)
    assert own._name == name != ""


async def test_who_is_never_shown_is_neither_looked_at_nor_told_of(begin, monkeypatch):
    """Most of a crowd with tokens: their coming is a reason to ask who else is there, their going is none."""
    process = await begin()
    told = []
    changes = process.hub.presence._changes

    def heard(**how):
        for place, arguments in changes(**how):
            told.append(place)
            yield place, arguments

    monkeypatch.setattr(process.hub.presence, "_changes", heard)
    async with process.open(3, "item:9") as carol:
        await sees(carol, "carol")
        del told[:]
        async with process.open(1, "item:8", grant=FOREIGN), process.open(2, "item:9", grant=FOREIGN):
            await until(lambda: told == ["item:8"])
            looked = []
            for each in process.hub.audience:
                each.silent = lambda each=each: bool(looked.append(each.reader.user_id))
            await until(lambda: looked.count("3") > 2)
            assert set(looked) == {"3"}
        await until(lambda: looked.count("3") > 9)
        assert told == ["item:8"]
    await until(lambda: told[1:] and set(told[1:]) == {ANYWHERE, "item:9"})

"""Redis as a hub hears it: each message once and in order, whoever takes it, until Redis says no more."""

import asyncio
import contextlib
import functools
import inspect
import time

import hiredis
import pytest
import redis
import redis.asyncio
import uvloop
from redis.exceptions import RedisError

from streams import hints
from streams.batch import redis_channel


def on_both_loops(story):
    """Make a coroutine a test by each of the loops: Daphne has the one, the fast profile the other."""

    @pytest.mark.parametrize(
        "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    @functools.wraps(story)
    def test(loop, **given):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(story(**given))

    asked = inspect.signature(story)
    ours = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    test.__signature__ = asked.replace(parameters=[ours, *asked.parameters.values()])
    return test


OURS = "of-a-test-of-hints"


@pytest.fixture
def server(valkey, settings):
    """The run's Valkey, by a client; what listens has a name there."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        settings.REDIS_URL += f"?client_name={OURS}"
        yield client


def subscribed(server):
    """Our subscribed connections: not those of whatever else the run has up."""
    return {each["id"]: each for each in server.client_list(_type="pubsub") if each["name"] == OURS}


@contextlib.asynccontextmanager
async def listening(take, nobody=lambda: False):
    """Listen; give what is not taken."""
    async with contextlib.aclosing(hints.messages(take, nobody)) as messages, asyncio.timeout(20):
        assert await anext(messages) is None, "it is subscribed"
        yield messages


@on_both_loops
async def test_what_can_be_taken_is_taken_and_nobody_is_woken(server):
    taken, done = [], asyncio.Event()

    def take(message):
        taken.append(message)
        if len(taken) == 200:
            done.set()
        return True

    async with listening(take) as messages:
        more = asyncio.ensure_future(anext(messages))
        for number in range(200):
            server.publish(redis_channel(), f"{number}".encode() + b"x" * 5_000)
        await done.wait()
        assert [int(message.partition(b"x")[0]) for message in taken] == list(range(200))
        assert not more.done()
        more.cancel()
        await asyncio.wait([more])


@on_both_loops
async def test_what_comes_behind_a_message_that_is_not_done_with_waits_for_it(server):
    seen, done = [], asyncio.Event()

    def see(message):
        seen.append(message)
        if message == b"last":
            done.set()
        return True

    async def rest(messages):
        async for message in messages:
            see(message)

    async with listening(lambda message: message != b"2" and see(message)) as messages:
        with server.pipeline() as together:  # most likely they come as one piece
            for number in range(6):
                together.publish(redis_channel(), f"{number}")
            together.execute()
        assert await anext(messages) == b"2"
        server.publish(redis_channel(), "6")
        await asyncio.sleep(0.2)  # in which they could come, were they not held
        assert seen == [b"0", b"1"]
        see(b"2")
        others = asyncio.ensure_future(rest(messages))
        server.publish(redis_channel(), "last")
        await done.wait()
        assert seen == [*(b"%d" % number for number in range(7)), b"last"]
        others.cancel()
        await asyncio.wait([others])


@on_both_loops
async def test_meanwhile_it_stays_with_redis_not_in_our_memory(server):
    async with listening(lambda message: message != b"0") as messages:
        server.publish(redis_channel(), "0")
        assert await anext(messages) == b"0"
        for _ in range(20):
            server.publish(redis_channel(), b"x" * 1_000_000)
            await asyncio.sleep(0.02)  # in which it could be read
        [ours] = subscribed(server).values()
        assert int(ours["omem"]) > 1_000_000


@on_both_loops
async def test_what_nobody_waits_for_is_taken_together(server, monkeypatch):
    monkeypatch.setattr(hints, "TOGETHER_SECONDS", 1.0)
    taken, pieces, here = [], [], [False]
    received = hints.Listener.data_received
    monkeypatch.setattr(
        hints.Listener, "data_received", lambda self, data: (pieces.append(1), received(self, data))
    )

    def take(message):
        taken.append(message)
        return True

    async def until(number):
        while len(taken) < number:
            await asyncio.sleep(0.01)

    async with listening(take, lambda: not here[0]) as messages:
        more = asyncio.ensure_future(anext(messages))
        server.publish(redis_channel(), "0")
        await until(1)
        first = len(pieces)
        for number in range(1, 6):
            server.publish(redis_channel(), f"{number}")
            await asyncio.sleep(0.02)  # in which it could come
        await until(6)
        assert taken == [b"%d" % number for number in range(6)]
        assert len(pieces) - first < 5
        here[0] = True
        server.publish(redis_channel(), "6")  # is read with nobody's pause still on
        await until(7)
        took = []
        for number in range(7, 10):
            began = time.monotonic()
            server.publish(redis_channel(), f"{number}")
            await until(number + 1)
            took.append(time.monotonic() - began)
        assert min(took) < hints.TOGETHER_SECONDS / 2
        more.cancel()
        await asyncio.wait([more])


class Line(asyncio.Transport):
    """A connection that says whether it is read."""

    read = True

    def get_protocol(self):
        return asyncio.Protocol()

    def set_protocol(self, protocol):
        pass

    def is_closing(self):
        return False

    def pause_reading(self):
        self.read = False

    def resume_reading(self):
        self.read = True

    def write(self, data):
        pass


def said(message):
    return hiredis.pack_command(("message", "ours", message))


async def test_a_pause_for_nobody_does_not_end_one_for_who_is_not_done(monkeypatch):
    """Reading goes on when the message that is left is done with, not when it would have gone on before."""
    monkeypatch.setattr(hints, "TOGETHER_SECONDS", 600)
    line = Line()
    listener = hints.Listener(lambda message: message != b"1", lambda: True, line)
    listener.data_received(said(b"0"))
    assert not line.read
    later = listener._later
    listener._resume()  # as `next` does from time to time
    listener.data_received(said(b"1"))
    assert await listener.next() == b"1"
    assert later.cancelled()
    assert not line.read
    more = asyncio.ensure_future(listener.next())
    await asyncio.sleep(0)
    assert line.read
    more.cancel()
    await asyncio.wait([more])


async def test_much_is_read_on_at_once_and_so_is_what_comes_alone(monkeypatch):
    monkeypatch.setattr(hints, "TOGETHER_SECONDS", 600)
    line = Line()
    listener = hints.Listener(lambda message: True, lambda: True, line)
    listener.data_received(said(b"x" * hints.MUCH_BYTES))
    assert line.read
    listener._answered -= 700
    listener.data_received(said(b"0"))
    assert line.read
    listener.data_received(said(b"1"))
    assert not line.read
    listener._later.cancel()


async def test_a_process_that_stood_still_in_a_pause_does_not_take_that_for_silence(monkeypatch):
    monkeypatch.setattr(hints, "PING_SECONDS", 0.1)
    line = Line()
    listener = hints.Listener(lambda message: True, lambda: True, line)
    more = asyncio.ensure_future(listener.next())
    await asyncio.sleep(0)
    listener._answered += 600  # soon enough, however slow this is
    listener.data_received(said(b"0"))
    assert not line.read
    time.sleep(0.5)
    await asyncio.sleep(0.05)
    assert line.read
    assert not more.done()
    more.cancel()
    await asyncio.wait([more])


@on_both_loops
async def test_a_message_that_fails_is_the_end(server):
    def take(message):
        raise KeyError("a fault of ours")

    async with listening(take) as messages:
        server.publish(redis_channel(), "1")
        with pytest.raises(KeyError):
            await anext(messages)


@on_both_loops
async def test_a_redis_that_refuses_the_subscription_is_an_error_that_says_so(server, settings):
    server.execute_command("ACL", "SETUSER", "mute", "on", ">mute", "+@all", "resetchannels")
    settings.REDIS_URL = settings.REDIS_URL.replace("://", "://mute:mute@")
    try:
        with pytest.raises(RedisError, match="NOPERM"):
            async with listening(lambda message: True):
                pass
    finally:
        server.execute_command("ACL", "DELUSER", "mute")


@on_both_loops
async def test_a_connection_that_is_lost_is_an_error_and_a_closed_one_leaves_nothing(server):
    took = []
    for _ in range(3):
        async with listening(lambda message: True) as messages:
            [ours] = subscribed(server)
            server.client_kill_filter(_id=ours)
            with pytest.raises((RedisError, OSError)):
                await anext(messages)
            began = time.monotonic()
        async with listening(lambda message: True):
            pass
        took.append(time.monotonic() - began)
        async with asyncio.timeout(20):
            while subscribed(server):
                await asyncio.sleep(0.01)
    assert min(took) < 0.5, "closing waits for nothing"


@on_both_loops
async def test_one_that_is_lost_while_nobody_read_is_the_same_error(server, monkeypatch):
    monkeypatch.setattr(hints, "PING_SECONDS", 0.1)
    async with listening(lambda message: False) as messages:
        server.publish(redis_channel(), "1")
        assert await anext(messages) == b"1"
        [ours] = subscribed(server)
        server.client_kill_filter(_id=ours)
        await asyncio.sleep(0.3)  # of work, in which a ping would have been due
        with pytest.raises((RedisError, OSError)):
            await anext(messages)


@on_both_loops
async def test_a_redis_that_falls_silent_is_an_error_and_one_that_has_nothing_to_say_is_none(
    server, monkeypatch
):
    monkeypatch.setattr(hints, "PING_SECONDS", 0.5)
    async with listening(lambda message: True) as messages:
        more = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(2.0)  # which is long
        assert not more.done()
        server.execute_command("CLIENT", "PAUSE", 4_000, "ALL")
        with pytest.raises(TimeoutError, match="Redis does not answer"):
            await more
        server.ping()  # is answered when it is over, and not to the next test's


@on_both_loops
async def test_who_was_long_about_a_message_does_not_take_that_for_silence(server, monkeypatch):
    monkeypatch.setattr(hints, "PING_SECONDS", 0.5)
    async with listening(lambda message: message != b"1") as messages:
        server.publish(redis_channel(), "1")
        assert await anext(messages) == b"1"
        await asyncio.sleep(2.0)  # of work
        more = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0.8)
        assert not more.done()
        more.cancel()
        await asyncio.wait([more])

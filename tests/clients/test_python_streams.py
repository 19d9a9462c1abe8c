"""The Python client's streams, on both servers, through networks that fail: each event once, in order."""

import asyncio
import itertools
import threading
from contextlib import AsyncExitStack
from types import SimpleNamespace

import httpx
import pytest
from tickertape_client import (
    AsyncClient,
    Client,
    Event,
    Forbidden,
    NotFound,
    NotLoggedIn,
    Refused,
    Reset,
    following,
)

from tests.stack import eventually
from tests.test_end_to_end import comment, item_of


@pytest.fixture
def alice(stack, server):
    return stack.login("alice", server)


@pytest.fixture
def item(alice):
    return item_of(alice)


async def logged_in(client: AsyncClient, user: str = "bob") -> AsyncClient:
    await client.login(user, f"demo-{user}")
    return client


async def take(stream, number: int) -> list[Event]:
    """Return so many comments' events."""
    found: list[Event] = []
    async with asyncio.timeout(80):
        async for event in stream:
            assert isinstance(event, Event), event
            if event.type == "CommentAdded":
                found.append(event)
            if len(found) == number:
                break
    return found


def texts(events) -> list[str]:
    return [event.data["text"] for event in events]


async def test_events_come_as_they_happen(server, alice, item):
    async with AsyncClient(server) as client:
        await logged_in(client)
        async with client.stream([f"item:{item}"]) as stream:
            assert stream.state == "live"
            posted = await asyncio.to_thread(comment, alice, item, "Hello")
            [event] = await take(stream, 1)

    assert event.data["comment_id"] == posted
    assert event.id == stream.cursor


async def test_a_stream_goes_on_from_an_id_and_from_the_earliest(server, alice, item):
    for n in range(4):
        comment(alice, item, str(n))
    async with AsyncClient(server) as client:
        await logged_in(client)
        everything = await take(client.stream([f"item:{item}"], last_event_id="earliest"), 4)
        rest = await take(client.stream([f"item:{item}"], last_event_id=everything[1].id), 2)

    assert texts(everything) == ["0", "1", "2", "3"]
    assert rest == everything[2:]


async def test_what_is_cut_again_and_again_loses_nothing_and_doubles_nothing(proxy, alice, item):
    async with AsyncClient(proxy.url) as client:
        await logged_in(client)
        async with client.stream([f"item:{item}"]) as stream:

            async def fail():
                for n in range(30):
                    if n % 5 == 2:
                        proxy.cut()
                    await asyncio.to_thread(comment, alice, item, str(n))
                    if n % 5 == 3:
                        proxy.restore()
                    await asyncio.sleep(0.05)

            failing = asyncio.create_task(fail())
            got = await take(stream, 30)
            await failing
            await asyncio.to_thread(comment, alice, item, "last")
            got += await take(stream, 1)

    assert texts(got) == [*map(str, range(30)), "last"]


def test_the_synchronous_twin_comes_back_as_well(proxy, alice, item):
    got: list[Event] = []
    with Client(proxy.url) as client:
        client.login("bob", "demo-bob")
        with client.stream([f"item:{item}"]) as stream:
            assert stream.state == "live"

            def fail():
                for n in range(20):
                    if n % 5 == 2:
                        proxy.cut()
                    comment(alice, item, str(n))
                    if n % 5 == 3:
                        proxy.restore()

            failing = threading.Thread(target=fail)
            failing.start()
            added = (event for event in stream if event.type == "CommentAdded")
            got = list(itertools.islice(added, 20))
            failing.join()

    assert texts(got) == [*map(str, range(20))]


async def test_a_connection_that_is_dead_and_does_not_say_so_is_given_up(weather, alice, item):
    network, url = weather
    async with AsyncClient(url, heartbeat_seconds=0.8) as client:
        await logged_in(client)
        async with client.stream([f"item:{item}"]) as stream:
            # Not `halfopen`, which breaks one of the two sides by lot: here nobody hears of anything.
            network.do("stall", seconds=100)
            for n in range(5):
                await asyncio.to_thread(comment, alice, item, str(n))
            waiting = asyncio.create_task(take(stream, 5))
            async with asyncio.timeout(40):
                while stream.state != "offline":
                    await asyncio.sleep(0.02)
            network.do("mend")
            got = await waiting

    assert texts(got) == [*map(str, range(5))]


async def test_half_open_connections_cost_nothing_but_time(weather, alice, item):
    network, url = weather
    async with AsyncClient(url, heartbeat_seconds=0.8) as client:
        await logged_in(client)
        async with client.stream([f"item:{item}"]) as stream:

            async def fail():
                for n in range(15):
                    if n % 5 == 2:
                        network.do("halfopen", part=1.0)
                    await asyncio.to_thread(comment, alice, item, str(n))

            failing = asyncio.create_task(fail())
            got = await take(stream, 15)
            await failing

    assert texts(got) == [*map(str, range(15))]


@pytest.mark.parametrize("name", ["daphne7", "uvicorn7"])
async def test_a_server_that_ends_its_streams_and_is_killed_is_come_back_to(stack, name):
    stack.start(
        name, STREAMS_MAX_AGE_SECONDS="0.6", STREAMS_RETRY_SECONDS="0.1", STREAMS_HEARTBEAT_SECONDS="0.3"
    )
    try:
        alice = stack.login("alice")
        item = item_of(alice)
        async with AsyncClient(stack.url(name), heartbeat_seconds=0.3) as client:
            await logged_in(client)
            async with client.stream([f"item:{item}"]) as stream:

                async def hurt():
                    for n in range(30):
                        await asyncio.to_thread(comment, alice, item, str(n))
                        if n == 10:
                            stack.kill(name)
                        if n == 15:
                            await asyncio.to_thread(stack.start, name)
                        await asyncio.sleep(0.05)

                hurting = asyncio.create_task(hurt())
                got = await take(stream, 30)
                await hurting
    finally:
        stack.kill(name)

    assert texts(got) == [*map(str, range(30))]


async def test_a_quiet_stream_is_not_taken_for_dead(stack):
    stack.start("uvicorn8", STREAMS_HEARTBEAT_SECONDS="0.4")
    try:
        alice = stack.login("alice")
        item = item_of(alice)
        # Not as often as it beats, but as long as a busy machine may hold a beat up.
        async with AsyncClient(stack.url("uvicorn8"), heartbeat_seconds=1.6) as client:
            await logged_in(client)
            async with client.stream([f"item:{item}"]) as stream:
                began = stream.cursor
                waiting = asyncio.create_task(take(stream, 1))
                elsewhere = item_of(alice)
                while stream.cursor == began:  # which only heartbeats move
                    assert stream.state == "live"
                    await asyncio.sleep(0.01)
                await asyncio.sleep(8)  # twice the time after which silence is
                assert stream.state == "live"
                comment(alice, elsewhere, "not here")
                comment(alice, item, "here")
                assert texts(await waiting) == ["here"]
    finally:
        stack.kill("uvicorn8")


async def test_a_place_that_the_log_cannot_continue_from_is_a_reset_and_goes_on(server, alice, item):
    async with AsyncClient(server) as client:
        await logged_in(client)
        async with client.stream([f"item:{item}"], last_event_id="0000000000-999999999") as stream:
            reset = await anext(stream)
            assert stream.state == "live"
            await asyncio.to_thread(comment, alice, item, "after")
            [event] = await take(stream, 1)

    assert isinstance(reset, Reset)
    assert reset.reason == "epoch"
    assert reset.id
    assert event.data["text"] == "after"


@pytest.mark.parametrize(
    ("channels", "kind", "code"),
    [
        (["user:1"], Forbidden, "channel_forbidden"),
        (["item:999999"], NotFound, "channel_unknown"),
        (["nonsense"], Refused, "channel_malformed"),
        ([], Refused, "bad_request"),
    ],
)
async def test_what_will_not_heal_is_raised_by_its_kind(server, channels, kind, code):
    async with AsyncClient(server) as client:
        await logged_in(client)
        stream = client.stream(channels)
        with pytest.raises(kind) as refused:
            await anext(stream)

    assert refused.value.code == code
    assert stream.state == "over"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


def test_who_is_nobody_is_told_so_by_both_twins(server):
    async def ask():
        async with AsyncClient(server) as client, client.stream(["system"]):
            pass

    with pytest.raises(NotLoggedIn, match="401"):
        asyncio.run(ask())
    with Client(server) as client, pytest.raises(NotLoggedIn), client.stream(["system"]):
        pass


async def test_a_right_that_is_taken_away_ends_the_stream_with_its_reason(stack, server, alice):
    item = item_of(alice, visibility="members")
    bob = stack.login("bob", server).get("/api/session").json()["user"]["id"]
    assert alice.put(f"/api/items/{item}/members/{bob}").status_code == 204
    async with AsyncClient(server) as client:
        await logged_in(client)
        async with client.stream([f"item:{item}"]) as stream:
            gone = asyncio.create_task(take(stream, 1))
            assert alice.delete(f"/api/items/{item}/members/{bob}").status_code == 204
            with pytest.raises(Forbidden):
                await gone


async def test_a_token_that_ends_is_replaced_by_its_function_and_the_stream_goes_on(server, alice, item):
    async with AsyncExitStack() as stack:
        sessions: list[AsyncClient] = []

        async def token() -> str:
            sessions.append(await logged_in(await stack.enter_async_context(AsyncClient(server))))
            return await sessions[-1].mint_token([f"item:{item}"], ttl=60)

        client = await stack.enter_async_context(AsyncClient(server, token=token))
        stream = await stack.enter_async_context(client.stream([f"item:{item}"]))
        await asyncio.to_thread(comment, alice, item, "before")
        got = await take(stream, 1)
        waiting = asyncio.create_task(take(stream, 2))
        await sessions[0].http.delete("/api/session")  # with which its token ends
        await asyncio.to_thread(comment, alice, item, "between")
        await asyncio.to_thread(eventually, lambda: len(sessions) == 2)
        await asyncio.to_thread(comment, alice, item, "after")
        got += await waiting

    assert texts(got) == ["before", "between", "after"]
    assert len(sessions) == 2


async def test_a_token_for_other_channels_and_one_that_ended_are_refused(server, item):
    async with AsyncClient(server) as session:
        await logged_in(session)
        token = await session.mint_token([f"item:{item}"])
        async with AsyncClient(server, token=token) as client:
            with pytest.raises(Forbidden):
                await anext(client.stream(["system"]))
            async with client.stream([f"item:{item}"]) as stream:
                await session.http.delete("/api/session")
                with pytest.raises(NotLoggedIn):
                    await take(stream, 1)


def streaming(content) -> httpx.Response:
    return httpx.Response(
        200, content=content, headers={"content-type": "text/event-stream"},
        extensions={"network_stream": SimpleNamespace(get_extra_info=lambda name: None)},
    )  # fmt: skip


OPEN = b'id: e-1\nevent: stream.open\ndata: {"mode": "live"}\n\n'


def portal(request: httpx.Request, came: list[str | None]) -> httpx.Response:
    """Be a stream with one event, then a network to log in to, then a stream that is over."""
    came.append(request.headers.get("last-event-id"))
    match len(came):
        case 1:
            return streaming(OPEN + b"id: e-2\nevent: A\ndata: {}\n\n")
        case 2:
            return httpx.Response(200, html="<html>")
        case 3:
            return httpx.Response(302, headers={"location": "http://portal/"})
        case _:
            return httpx.Response(204)


async def test_a_stream_comes_back_through_a_network_that_is_to_be_logged_in_to(monkeypatch):
    monkeypatch.setattr(following, "FIRST_SECONDS", 0.01)
    came: list[str | None] = []
    transport = httpx.MockTransport(lambda request: portal(request, came))
    async with AsyncClient("http://test", transport=transport) as client:
        got = [event async for event in client.stream(["item:1"])]
    assert (got, came) == ([Event("A", {}, "e-2")], [None, "e-2", "e-2", "e-2"])


def test_the_twin_comes_back_through_it_too(monkeypatch):
    monkeypatch.setattr(following, "FIRST_SECONDS", 0.01)
    came: list[str | None] = []
    transport = httpx.MockTransport(lambda request: portal(request, came))
    with Client("http://test", transport=transport) as client:
        got = list(client.stream(["item:1"]))
    assert (got, came) == ([Event("A", {}, "e-2")], [None, "e-2", "e-2", "e-2"])


async def test_what_concerns_the_user_comes_too(server, alice, item):
    async with AsyncClient(server) as bob, AsyncClient(server) as client:
        await logged_in(bob)
        await logged_in(client, "alice")
        async with client.stream(mine=True) as stream, asyncio.timeout(20):
            await bob.http.post(f"/api/items/{item}/comments", json={"text": "for alice"})
            async for event in stream:
                if isinstance(event, Event) and event.type == "NotificationRaised":
                    assert event.data["item_id"] == item
                    break


async def test_leaving_early_leaves_nothing_open(proxy, alice, item):
    async with AsyncClient(proxy.url) as client:
        await logged_in(client)
        stream = client.stream([f"item:{item}"], last_event_id="earliest")
        comment(alice, item, "one")
        async for _ in stream:
            break
        await stream.aclose()
        await asyncio.to_thread(eventually, lambda: proxy.connections <= 1)


def test_another_thread_may_close_a_stream_that_waits(server, alice, item):
    with Client(server) as client:
        client.login("bob", "demo-bob")
        stream = client.stream([f"item:{item}"])
        got: list[object] = []
        reading = threading.Thread(target=lambda: got.extend(stream))
        reading.start()
        eventually(lambda: stream.state == "live")

        stream.close()
        reading.join(20)

    assert not reading.is_alive()
    assert all(isinstance(each, Event) for each in got)


async def test_closing_the_client_ends_its_streams(server, alice, item):
    async with AsyncClient(server) as client:
        await logged_in(client)
        stream = client.stream([f"item:{item}"])
        await stream.__aenter__()

        async def rest() -> list[object]:
            return [each async for each in stream]

        reading = asyncio.create_task(rest())
        await asyncio.sleep(0)
        await client.aclose()
        async with asyncio.timeout(80):
            assert all(isinstance(each, Event) for each in await reading)


async def test_closing_the_client_ends_a_stream_that_waits_to_come_back(monkeypatch):
    client = AsyncClient("http://test", transport=httpx.MockTransport(lambda request: streaming(OPEN)))

    def close(self):
        closing.append(asyncio.create_task(client.aclose()))
        return 0.0

    closing: list[asyncio.Task[None]] = []
    monkeypatch.setattr(following.Following, "broke", close)
    assert [event async for event in client.stream(["item:1"])] == []
    await closing[0]
    assert len(closing) == 1


def test_the_twins_client_ends_its_streams_too(monkeypatch):
    def content():
        yield OPEN
        client.close()

    def close(self):
        client.close()
        return 0.0

    client = Client("http://test", transport=httpx.MockTransport(lambda request: streaming(content())))
    assert list(client.stream(["item:1"])) == []
    client = Client("http://test", transport=httpx.MockTransport(lambda request: streaming(OPEN)))
    monkeypatch.setattr(following.Following, "broke", close)
    assert list(client.stream(["item:1"])) == []


async def given_up(waiting: asyncio.Future[object]) -> None:
    """Cancel a wait, as `wait_for` does whose time is up."""
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_waits_no_longer_may_ask_again_and_misses_nothing():
    waits, go_on = asyncio.Event(), asyncio.Event()
    came: list[httpx.Request] = []

    async def content():
        yield OPEN + b"id: e-2\nevent: A\ndata: {}\n\n"
        waits.set()
        await go_on.wait()
        yield b"id: e-3\nevent: B\ndata: {}\n\n"

    def answer(request: httpx.Request) -> httpx.Response:
        came.append(request)
        return streaming(content())

    async with AsyncClient("http://test", transport=httpx.MockTransport(answer)) as client:
        stream = client.stream(["item:1"])
        assert await anext(stream) == Event("A", {}, "e-2")
        waiting = asyncio.ensure_future(anext(stream))
        await waits.wait()
        await given_up(waiting)
        assert stream.state == "live"
        go_on.set()
        assert await anext(stream) == Event("B", {}, "e-3")
        assert len(came) == 1, "by the same connection"
        await stream.aclose()


async def test_who_waits_again_and_again_asks_a_service_that_is_full_no_sooner():
    came: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        came.append(request)
        return httpx.Response(503, headers={"retry-after": "25"})

    async with AsyncClient("http://test", transport=httpx.MockTransport(answer)) as client:
        stream = client.stream(["item:1"])
        for _ in range(10):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.wait([waiting], timeout=0.02)
            await given_up(waiting)
        assert len(came) == 1
        await stream.aclose()


async def test_who_gave_up_entering_a_stream_may_enter_it_again():
    go_on = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        await go_on.wait()
        return streaming(OPEN + b"id: e-2\nevent: A\ndata: {}\n\n")

    async with AsyncClient("http://test", transport=httpx.MockTransport(answer)) as client:
        stream = client.stream(["item:1"])
        entering = asyncio.ensure_future(stream.__aenter__())
        await asyncio.wait([entering], timeout=0.02)
        await given_up(entering)
        go_on.set()
        async with stream:
            assert stream.state == "live"
            assert await anext(stream) == Event("A", {}, "e-2")

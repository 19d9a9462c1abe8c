"""Streaming by a callback: what is sent arrives whole, and a reader who leaves ends the producer."""

import asyncio
import contextlib
import itertools
import re
import threading
import time
import types

import httpx
import pytest
from django.test import RequestFactory
from httpx_sse import EventSource, connect_sse

import streams
from project.demo_views import TEXT
from streams import sse
from streams.response import EventStream
from streams.sending import ReaderLeft
from tests.stack import eventually


def request(**headers):
    return RequestFactory().get("/", headers=headers)


async def read(response):
    """Return what a response streams, as a client parses it."""
    assert isinstance(response, EventStream)
    body = b"".join([chunk async for chunk in response.streaming_content])
    parsed = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=body)
    return [(each.event, each.data, each.id) for each in EventSource(parsed).iter_sse()]


def chunks_of(producer):
    """Return what the handler iterates and closes: Django's own wrapper would close nothing."""
    return streams.stream(request(), producer)._chunks


def both(*sends):
    """Return two producers, of either kind, that send the same."""

    async def asynchronous(send):
        for arguments, named in sends:
            await send(*arguments, **named)

    def synchronous(send):
        for arguments, named in sends:
            send(*arguments, **named)

    return [asynchronous, synchronous]


def sending(*arguments, **named):
    return (arguments, named)


@pytest.mark.parametrize("number", [0, 1], ids=["asynchronous", "synchronous"])
async def test_text_is_text_and_all_else_json_and_names_are_kept(number):
    producer = both(
        sending("Hello"),
        sending({"a": [1, None, "é"]}),
        sending([1, 2]),
        sending(3.5),
        sending(True),
        sending(),
        sending(""),
        sending(event="my_event", data={"x": 1}),
        sending("two", event="other"),
    )[number]

    got = await read(streams.stream(request(), producer))

    assert [(name, data) for name, data, _ in got[:-1]] == [
        ("message", "Hello"), ("message", '{"a":[1,null,"é"]}'), ("message", "[1,2]"), ("message", "3.5"),
        ("message", "true"), ("message", "null"), ("message", ""), ("my_event", '{"x":1}'), ("other", "two"),
    ]  # fmt: skip
    assert got[-1] == ("stream.end", '{"reason":"over"}', "over")


@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        ("a\nb", "a\nb"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("\n", "\n"),
        ("\n\n", "\n\n"),
        (" a ", " a "),
        ("data: x\nevent: y\n\nid: 1", "data: x\nevent: y\n\nid: 1"),
        ("a\u2028b\u0085", "a\u2028b\u0085"),
        (":", ":"),
    ],
)
def test_text_of_many_lines_stays_whole_and_is_never_a_field(text, arrives):
    frame = sse.message(text)
    event = types.SimpleNamespace(data=None, event="message", id="")
    # A parser by the letter of WHATWG HTML 9.2.6: httpx-sse splits at more line ends than there are.
    lines = re.split("\r\n|\n|\r", frame.decode())
    assert lines[-2:] == ["", ""]
    for line in lines[:-2]:
        name, _, value = line.partition(":")
        assert name == "data"
        event.data = (
            value.removeprefix(" ") if event.data is None else event.data + "\n" + value.removeprefix(" ")
        )
    assert event.data == arrives


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a:b", "stream.end", "x" * 65, "é"])
def test_an_events_name_that_could_be_taken_for_something_else_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        sse.message("x", event=name)


@pytest.mark.parametrize("data", [object(), {1, 2}, float("nan"), "\ud800", {"a": b""}])
def test_what_cannot_be_sent_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        sse.message(data)


@pytest.mark.parametrize("number", [0, 1], ids=["asynchronous", "synchronous"])
async def test_a_producer_that_fails_ends_the_stream_and_says_so(number, caplog):
    producer = both(sending("one"), sending(object()))[number]

    got = await read(streams.stream(request(), producer))

    assert [name for name, _, _ in got] == ["message", "stream.end"]
    assert got[-1][1:] == ('{"reason":"error"}', "over")
    assert "A producer failed." in caplog.text


def test_who_comes_back_after_the_end_is_told_that_it_is_over():
    response = streams.stream(request(**{"Last-Event-ID": "over"}), lambda send: None)

    assert response.status_code == 204


async def test_a_slow_reader_holds_the_producer_up():
    sent = 0

    async def produce(send):
        nonlocal sent
        for _ in range(100):
            await send("x")
            sent += 1

    chunks = chunks_of(produce)
    await anext(chunks)
    await asyncio.sleep(0.05)

    assert sent <= 3
    await chunks.aclose()


async def test_a_quiet_producer_is_kept_alive(settings):
    settings.STREAMS_HEARTBEAT_SECONDS = 0.05
    two = asyncio.Event()

    async def produce(send):
        await two.wait()
        await send("late")

    chunks = []
    async with asyncio.timeout(20):
        async for chunk in chunks_of(produce):
            chunks.append(chunk)
            if chunks.count(sse.KEEPALIVE) == 2:
                two.set()

    assert b"data: late\n\n" in chunks


async def test_a_reader_who_leaves_ends_an_asynchronous_producer_where_it_is():
    ended = asyncio.Event()

    async def produce(send):
        try:
            await send("one")
            await asyncio.sleep(3600)
        finally:
            ended.set()

    chunks = chunks_of(produce)
    await anext(chunks)
    await chunks.aclose()

    assert ended.is_set()


async def test_a_reader_who_leaves_ends_a_synchronous_producer_where_it_sends():
    ended = threading.Event()
    told = []

    def produce(send):
        try:
            for n in itertools.count():
                send(str(n))
        except ReaderLeft:
            told.append("left")
            raise
        finally:
            ended.set()

    chunks = chunks_of(produce)
    await anext(chunks)
    await chunks.aclose()

    assert await asyncio.to_thread(ended.wait, 20)
    assert told == ["left"]


async def test_a_thread_that_sends_after_the_reader_left_ends_too():
    go_on, ended = threading.Event(), threading.Event()

    def produce(send):
        send("one")
        go_on.wait(20)
        with contextlib.suppress(ReaderLeft):
            send("two")
            return
        ended.set()

    chunks = chunks_of(produce)
    await anext(chunks)
    await chunks.aclose()
    go_on.set()

    assert await asyncio.to_thread(ended.wait, 20)


# --- On both servers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/demo/tokens/", "/demo/tokens/thread/"])
def test_the_demo_streams_a_text_token_by_token(stack, server, path):
    began = time.monotonic()
    at = []
    with httpx.Client(base_url=server, timeout=20) as client, connect_sse(client, "GET", path) as source:
        assert source.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        got = []
        for each in source.iter_sse():
            got.append((each.event, each.data, each.id))
            at.append(time.monotonic() - began)

        tokens = [data for name, data, _ in got if name == "message"]
        assert "".join(tokens) == TEXT
        assert [name for name, _, _ in got[-2:]] == ["usage", "stream.end"]
        assert at[-1] - at[0] > 0.5, "one by one, and not all at the end"
        assert client.get(path, headers={"Last-Event-ID": "over"}).status_code == 204


@pytest.mark.parametrize("path", ["/demo/tokens/", "/demo/tokens/thread/"])
def test_readers_who_leave_leave_nothing_behind(stack, server, path):
    import psutil

    [process] = [
        process
        for name, process in stack.processes.items()
        if name in stack.ports and stack.url(name) == server
    ]

    def threads():
        every = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        return sum(each.num_threads() for each in every)

    with httpx.Client(base_url=server, timeout=20) as client:
        before = threads()
        for _ in range(10):
            with client.stream("GET", path) as response:
                next(response.iter_raw())
        eventually(lambda: threads() <= before + 3)

"""The response: it streams after its request, stops with its client, and cuts off who takes nothing."""

import asyncio

import pytest

from streams.connection import Connection
from streams.response import EventStream


class Server:
    """The server's side of one ASGI connection; a write waits while `full`."""

    def __init__(self):
        self.sent = []
        self.incoming = asyncio.Queue()
        self.room = asyncio.Event()
        self.room.set()
        self.aborted = False
        self.waiting = 100

    async def send(self, message):
        self.sent.append(message)
        if message["type"] == "http.response.body":
            await self.room.wait()

    def outstanding(self):
        return self.waiting

    def abort(self):
        self.aborted = True

    def connection(self):
        scope = {"type": "http", "extensions": {"tickertape": self}}
        return Connection(scope, self.incoming.get, self.send)

    @property
    def body(self):
        return b"".join(m["body"] for m in self.sent if m["type"] == "http.response.body")


@pytest.fixture
async def server():
    return Server()


class Chunks:
    """An endless or a given stream that knows whether it was closed."""

    def __init__(self, *chunks, endless=False):
        self.chunks = chunks
        self.endless = endless
        self.closed = False

    async def __call__(self):
        try:
            for chunk in self.chunks:
                yield chunk
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def begun(server):
    async with asyncio.timeout(20):
        while not server.body:
            await asyncio.sleep(0)


async def test_it_writes_to_the_end_and_finishes(server):
    chunks = Chunks(b"a", b"b")
    await EventStream(chunks()).stream(server.connection())
    start, *_, last = server.sent
    assert start["status"] == 200
    assert (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
    assert (b"cache-control", b"no-store") in start["headers"]
    assert (b"x-accel-buffering", b"no") in start["headers"]
    assert server.body == b"ab"
    assert last["more_body"] is False
    assert chunks.closed


async def test_a_client_that_leaves_ends_it(server):
    chunks = Chunks(b"a", endless=True)
    streaming = asyncio.create_task(EventStream(chunks()).stream(server.connection()))
    await begun(server)
    await server.incoming.put({"type": "http.disconnect"})
    async with asyncio.timeout(20):
        await streaming
    assert chunks.closed


async def test_a_server_that_cancels_it_is_obeyed(server):
    chunks = Chunks(b"a", endless=True)
    streaming = asyncio.create_task(EventStream(chunks()).stream(server.connection()))
    await begun(server)
    streaming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await streaming
    assert chunks.closed


async def test_a_large_chunk_is_written_in_pieces_that_a_slow_reader_can_hold_back(server):
    await EventStream(Chunks(b"x" * 200_000)()).stream(server.connection())
    sizes = [len(m["body"]) for m in server.sent if m["type"] == "http.response.body"]
    assert max(sizes) <= 64 * 1024
    assert sum(sizes) == 200_000


async def test_a_reader_that_takes_nothing_is_cut_off(server, settings):
    settings.STREAMS_STALL_SECONDS = 0.2
    chunks = Chunks(b"a", b"b", endless=True)
    server.room.clear()
    async with asyncio.timeout(20):
        await EventStream(chunks()).stream(server.connection())
    assert server.aborted
    assert chunks.closed


async def test_a_reader_that_takes_a_little_is_not(server, settings):
    settings.STREAMS_STALL_SECONDS = 4.0  # looked at every second
    chunks = Chunks(b"a", endless=True)
    server.room.clear()
    streaming = asyncio.create_task(EventStream(chunks()).stream(server.connection()))
    for _ in range(4):
        await asyncio.sleep(1.2)  # so that some looks find nothing taken since the one before
        server.waiting -= 1
    assert not server.aborted
    assert not streaming.done()
    streaming.cancel()
    await asyncio.gather(streaming, return_exceptions=True)


async def test_a_disconnect_that_the_request_heard_is_not_forgotten(server):
    connection = server.connection()
    await server.incoming.put({"type": "http.disconnect"})
    await connection.receive()
    assert connection.over


async def test_a_stream_that_fails_is_cut_off_and_not_left_hanging(server, caplog):
    async def chunks():
        yield b"a"
        raise ValueError("a bug")

    async with asyncio.timeout(20):
        await EventStream(chunks()).stream(server.connection())
    assert server.aborted
    assert "A stream failed." in caplog.text

"""A connection that was taken over is written to by its descriptor: whole, in order, and never another's."""

import asyncio
import os
import socket
import struct
from types import SimpleNamespace

import pytest
import uvloop

from project.by_uvicorn import AsyncioSink
from streams import sse
from streams.audience import Crowd
from streams.parked import Parked

FRAME = b"id: e-1\nevent: Told\ndata: " + b"x" * 4_000 + b"\n\n"


class Reader:
    """A subscriber as far as what is handed to its connection goes, and its client."""

    def __init__(self, client, sink):
        self.client = client
        self.outlet = self.sink = sink
        self.pushed = []
        self.heard = []

    def push(self, frames, first, last):
        self.pushed.append(frames)
        return True

    def unpark(self):
        self.outlet = None

    def leave(self):
        self.heard.append("left")

    def full(self):
        self.heard.append("full")
        self.outlet = None

    def lost(self):
        """Note whether the descriptor is still this connection's, and still to be written to."""
        there = os.fstat(self.number)
        self.heard.append(("lost", self.sink.fd, there.st_ino == self.inode))
        self.outlet = None


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request):
    """Run a coroutine in a loop of either kind."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(work):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)

    return run


async def connect(number):
    """Return so many readers, whose connections were taken over."""
    loop = asyncio.get_running_loop()
    came = asyncio.Queue()

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            came.put_nowait(transport)

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    server = await loop.create_server(Server, sock=listener)
    readers = []
    for _ in range(number):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        transport = await came.get()
        owner = SimpleNamespace()
        sink = AsyncioSink(transport, owner)
        reader = Reader(client, sink)
        owner.full, owner.lost = reader.full, reader.lost
        reader.number, reader.inode = sink.fd, os.fstat(sink.fd).st_ino
        transport.set_protocol(sink)
        transport.set_write_buffer_limits(high=0)
        readers.append(reader)
    server.close()
    return readers


def crowd_of(readers):
    crowd = Crowd()
    for reader in readers:
        crowd[reader] = None
    return crowd


async def read(client, size):
    """Return so many bytes that came."""
    loop, got = asyncio.get_running_loop(), b""
    async with asyncio.timeout(20):
        while len(got) < size:
            piece = await loop.sock_recv(client, size - len(got))
            assert piece
            got += piece
    return got


def reset(client):
    """Close a connection so that its peer is told of an error."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("by", ["hand", "write"])
@pytest.mark.parametrize("size", [100, 4_000, 15_000])  # of which the kernel takes all or nothing, or a part
def test_each_is_sent_all_of_it_and_what_the_kernel_does_not_take_follows_in_order(run, size, by):
    async def work():
        (slow,) = await connect(1)
        try:
            sent, rounds = b"", 0
            while "full" not in slow.heard:
                rounds += 1
                frame = b"id: e-%d\ndata: %s\n\n" % (rounds, b"x" * size)
                sent += sse.chunked(frame)
                if by == "hand":
                    assert Parked().hand(crowd_of([slow]), frame, rounds, rounds) == 1
                else:
                    Parked.write(slow, frame)
            assert slow.heard == ["full"]
            assert slow.sink.is_full
            # From now on it is told to keep what comes.
            Parked().hand(crowd_of([slow]), FRAME, 1, 1)
            assert slow.pushed == [FRAME]
            assert await read(slow.client, len(sent)) == sent
            async with asyncio.timeout(20):
                await slow.sink.drained()
        finally:
            slow.client.close()

    run(work())


def test_one_that_is_gone_is_no_fault_and_keeps_nothing_from_the_others(run, caplog):
    async def work():
        gone, there = await connect(2)
        crowd = crowd_of([gone, there])
        reset(gone.client)
        for _ in range(2):
            Parked().hand(crowd, FRAME, 1, 1)
            Parked.write(gone, FRAME)
        wire = sse.chunked(FRAME)
        assert await read(there.client, 2 * len(wire)) == 2 * wire
        async with asyncio.timeout(20):
            while not gone.heard:
                await asyncio.sleep(0.01)
        there.client.close()

    run(work())
    assert caplog.records == []


def test_a_descriptor_is_given_up_before_its_number_can_be_anothers(run):
    async def work():
        (one,) = await connect(1)
        crowd = crowd_of([one])
        Parked().hand(crowd, FRAME, 1, 1)  # notes who is parked
        reset(one.client)
        async with asyncio.timeout(20):
            while not one.heard:
                await asyncio.sleep(0.01)
        assert one.heard == [("lost", -1, True)]
        # Somebody else has the number now, and those who were noted are handed something.
        other, others = socket.socketpair()
        if other.fileno() != one.number:
            os.dup2(other.fileno(), one.number)
        others.setblocking(False)
        Parked().hand(crowd, FRAME, 1, 1)
        with pytest.raises(BlockingIOError):
            others.recv(1)
        if other.fileno() != one.number:
            os.close(one.number)
        other.close()
        others.close()

    run(work())

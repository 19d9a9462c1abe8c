"""Hundreds of streams in one process, at the lowest cost an event: bare connections, a parser of our own.

What a client gets is said as it came: nothing is put in order and nothing left out here.
"""

import asyncio
import json
import random
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.chaos import pipes

RETRY_SECONDS = 1.0  # until the server has said another
CONNECT_SECONDS = 10.0  # on loopback: as long as nobody is there
MOST_SECONDS = 4.0  # between tries, so that a recovery is not the client's own waiting
SLOW_BYTES = 1000  # a second
WINDOW_BYTES = 4 * 1024  # of who reads little: the kernel would take megabytes for it
FOR_GOOD = {204, 400, 401, 403, 404}
OPENING = 3  # times as long as a silence may last, an answer may take
ABANDONED = 3  # sockets that a vanishing client keeps, as nobody's


class Body:
    """A response's body: out of chunks (RFC 9112, 7.1), by its length, or as it comes."""

    def __init__(self) -> None:
        self.status = 0
        self.over = False
        self._rest = b""
        self._chunked = False
        self._length: int | None = None
        self._left = 0  # of the chunk that is under way, its line end included

    def feed(self, data: bytes) -> bytes:
        """Return what more of the body is there."""
        data = self._rest + data
        self._rest = b""
        if not self.status:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return b""
            self.status = int(head.split(b" ", 2)[1])
            head = head.lower() + b"\r\n"
            self._chunked = b"transfer-encoding: chunked" in head
            length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            self._length = int(length) if length else None
        if self._chunked:
            return b"".join(self._chunks(data))
        if self._length is not None:
            self._length -= len(data)
            self.over = self._length <= 0
        return data

    def _chunks(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                # The last two bytes of a chunk are its line end; a piece may have one of them.
                yield piece[: max(0, self._left - 2)]
                self._left -= len(piece)
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = data[at:]
                return
            size = int(data[at:end].partition(b";")[0], 16)
            at = end + 2
            self._left = size + 2
            if not size:
                self.over = True
                return


def fields(block: bytes) -> dict[bytes, bytes]:
    """Return a block's fields (WHATWG HTML 9.2.6); of comments nothing is kept."""
    found: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name:
            value = value[1:] if value[:1] == b" " else value
            found[name] = found[name] + b"\n" + value if name == b"data" and name in found else value
    return found


class Client:
    """One subscriber, over all its connections."""

    def __init__(self, crowd: "Crowd", said: dict[str, Any]) -> None:
        self.crowd = crowd
        self.name: str = said["name"]
        self.habit: str = said.get("habit", "steady")
        self.watchdog: float | None = said.get("watchdog")
        self.random = random.Random(said.get("seed", 0))
        self.last: str | None = said.get("last")
        self.retry = RETRY_SECONDS
        self.stream: Stream | None = None
        base = urlsplit(said["base"])
        self._where = base.hostname, base.port
        self._cookie = f"Cookie: {said['cookie']}\r\n" if said.get("cookie") else ""
        self._request = f"GET {said['path']} HTTP/1.1\r\nHost: {base.netloc}\r\nAccept: text/event-stream\r\n"
        self._abandoned: deque[Stream] = deque()
        self._refused = 0
        self._over = False
        self._timer: asyncio.TimerHandle | None = None  # of the habit
        self._task: asyncio.Task[None] | None = None

    def say(self, kind: str, **facts: Any) -> None:
        """Report an observation."""
        self.crowd.voice.say(json.dumps({"c": self.name, "t": time.time(), "k": kind, **facts}))

    def request(self) -> bytes:
        """Return what to ask with."""
        last = f"Last-Event-ID: {self.last}\r\n" if self.last else ""
        return f"{self._request}{self._cookie}{last}\r\n".encode()

    def connect(self, seconds: float) -> None:
        """Connect after a time."""
        if not self._over:
            self._task = asyncio.get_running_loop().create_task(self._connect(seconds))

    async def _connect(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        loop = asyncio.get_running_loop()
        stream = Stream(self)
        try:
            # Not on a socket of ours: uvloop and we would both close it where it is reset at once.
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: stream, *self._where)
        except Exception as error:
            if not stream.over:  # else it said so itself, and comes back
                stream.over = True
                self.stream = None
                self.say("cut", why=f"refused: {type(error).__name__}")
                self.again(refused=True)
            return
        if self._over or stream.over:
            stream.abort()
            return
        self.behave(stream)

    def behave(self, stream: "Stream") -> None:
        """Do what the habit is, for this connection."""
        loop = asyncio.get_running_loop()
        if self.habit == "flaky":
            self._timer = loop.call_later(self.random.uniform(1, 20), stream.lose, "left")
        elif self.habit == "vanishing":
            self._timer = loop.call_later(self.random.uniform(5, 40), self._vanish, stream)
        elif self.habit == "never":
            self._timer = loop.call_later(self.random.uniform(30, 90), stream.lose, "never read")

    def _vanish(self, stream: "Stream") -> None:
        """Leave without a FIN: keep the connection, read nothing of it, and be elsewhere."""
        stream.freeze()
        stream.over = True
        self._abandoned.append(stream)
        if len(self._abandoned) > ABANDONED:
            self._abandoned.popleft().abort()
        self.lost(stream, "vanished")

    def lost(self, stream: "Stream", why: str) -> None:
        """Come back after a connection ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.stream = None
        self.say("cut", why=why)
        if stream.body.status in FOR_GOOD:
            self._over = True
            self.say("gaveup", why=f"status {stream.body.status}")
        else:
            # Nothing said is as good as refused, also by a proxy that has nobody behind it.
            self.again(refused=not stream.heard_something)

    def again(self, *, refused: bool) -> None:
        """Wait as the server asked, longer where it is not there, and connect."""
        self._refused = self._refused + 1 if refused else 0
        seconds = self.retry if not refused else min(MOST_SECONDS, self.retry * 2 ** (self._refused - 1))
        self.connect(seconds * self.random.uniform(1.0, 1.25))

    def settle(self) -> None:
        """Be steady from now on: come back at once, with the last id, and read at full speed."""
        if self.habit == "steady":
            return
        self.habit = "steady"
        for stream in self._abandoned:
            stream.abort()
        self._abandoned.clear()
        if self.stream is not None:
            self.stream.lose("settled")

    def check(self, now: float) -> None:
        """Leave a connection that has been silent for too long: it may be half-open."""
        stream = self.stream
        if stream is None or self.watchdog is None or stream.frozen:
            return
        # A server that is slow to open hundreds of streams is not helped by being asked again.
        patience = self.watchdog if stream.heard_something else OPENING * self.watchdog
        if now - stream.heard > patience:
            stream.lose("silence")

    def close(self) -> None:
        """Leave for good."""
        self._over = True
        for stream in (self.stream, *self._abandoned):
            if stream is not None:
                stream.abort()

    def take(self, block: bytes) -> None:
        """Report a block, and remember where it leaves us."""
        found = fields(block)
        if b"id" in found:
            self.last = found[b"id"].decode()
        if b"retry" in found:
            self.retry = int(found[b"retry"]) / 1000
        cursor = found[b"id"].decode() if b"id" in found else None
        if b"data" not in found:
            self.say("frame", id=cursor, event=None, token=None)
            return
        data = json.loads(found[b"data"])
        event = found.get(b"event", b"message").decode()
        token = data.get("text") if event == "CommentAdded" else data.get("token")
        facts = {"data": data} if event.startswith("stream.") or event == "PresenceChanged" else {}
        self.say("frame", id=cursor, event=event, token=token, **facts)


class Stream(asyncio.BufferedProtocol):
    """One connection of a client."""

    _shared = bytearray(64 * 1024)  # what is read is used up before the next read

    def __init__(self, client: Client) -> None:
        self.client = client
        self.body = Body()
        self.over = False
        self.heard = time.monotonic()
        self.heard_something = False
        self.frozen = False
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        client = self.client
        client.stream = self
        if client.habit in ("slow", "never"):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        client.say("connect", last=client.last)
        transport.write(client.request())
        # It first learns where it is, so that there is a place to come back to.
        if client.habit == "never" and client.last is not None:
            self.freeze()

    def get_buffer(self, sizehint: int) -> memoryview:
        view = memoryview(self._shared)
        return view[:SLOW_BYTES] if self.client.habit == "slow" else view

    def buffer_updated(self, nbytes: int) -> None:
        if self.over:
            return
        client = self.client
        self.heard = time.monotonic()
        text = self._rest + self.body.feed(bytes(memoryview(self._shared)[:nbytes]))
        if self.body.status not in (0, 200):
            self.lose(f"status {self.body.status}")
            return
        *blocks, self._rest = text.split(b"\n\n")
        for block in blocks:
            self.heard_something = True
            client.take(block)
        if self.body.over:
            self.lose("ended")
        elif client.habit == "slow":
            self._rest_for(nbytes / SLOW_BYTES)
        elif client.habit == "never" and client.last is not None:
            self.freeze()

    def _rest_for(self, seconds: float) -> None:
        assert self._transport is not None
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def freeze(self) -> None:
        """Read nothing any more."""
        self.frozen = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over:
            self.over = True
            self.client.lost(self, type(error).__name__ if error else "closed")

    def lose(self, why: str) -> None:
        """End the connection, and have the client come back."""
        if not self.over:
            self.over = True
            self.abort()
            self.client.lost(self, why)

    def abort(self) -> None:
        """Close at once."""
        self.over = True
        if self._transport is not None:
            self._transport.abort()


class Crowd:
    """All clients of the process."""

    def __init__(self, said: list[dict[str, Any]]) -> None:
        self.voice = pipes.Voice()
        self._clients = [Client(self, each) for each in said]

    async def run(self) -> None:
        """Connect everyone, and obey until told to stop."""
        for number, client in enumerate(self._clients):
            client.connect(number / 200)  # not as a storm: that is another test's
        watch = asyncio.create_task(self._watch())
        async for line in pipes.lines():
            if line == "stop":
                break
            if line == "settle":
                for client in self._clients:
                    client.settle()
        watch.cancel()
        for client in self._clients:
            client.close()
        self.voice.flush()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            for client in self._clients:
                client.check(now)


async def main() -> None:
    """Read who to be, and be it."""
    await Crowd(pipes.configuration()["clients"]).run()


if __name__ == "__main__":
    pipes.run(main)

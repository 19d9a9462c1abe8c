"""A connection that was taken over from its server, as far as a stream sees it."""

import asyncio
from typing import Any

from streams import sse
from streams.hub import Hub
from streams.subscriber import Subscriber
from streams.takeover import TakenOver


class Pipe:
    """A socket whose kernel has room for so many pieces; whoever reads takes all that is in it.

    What was sent is kept with where the hub stood, and its ring began, at that moment.
    """

    def __init__(self, hub: Hub, *, room: int = 1) -> None:
        self.hub = hub
        self.room = room
        self.fd = -1  # so all is written through this
        self.sent: list[tuple[bytes, Any, int]] = []
        self.is_full = False
        self.closed = False
        self.aborted = False
        self.owner: TakenOver
        self._drained: asyncio.Future[None] | None = None
        self._unacknowledged = 10**9
        self._begun = b""

    def write(self, data: bytes) -> None:
        assert not self.closed, "sent after the end"
        if data == sse.LAST_CHUNK:
            return
        size, _, data = data.partition(b"\r\n")
        data = data.removesuffix(b"\r\n")
        assert len(data) == int(size, 16)
        data = self._begun + data
        self._begun = b"" if data.endswith(b"\n\n") else data
        if self._begun:
            return  # a piece of a frame
        self.sent.append((data, self.hub.cursor, self.hub.ring.start))
        if len(self.sent) >= self.room and not self.is_full:
            self.is_full = True
            self.owner.full()

    async def drained(self) -> None:
        while self.is_full:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def close(self) -> None:
        self.closed = True

    def outstanding(self) -> int:
        self._unacknowledged -= 1  # a reader that is slow, and not gone
        return self._unacknowledged

    def silent(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True

    def take(self) -> list[tuple[bytes, Any, int]]:
        """Read what is there."""
        taken, self.sent = self.sent, []
        self.is_full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        return taken


def begin(subscriber: Subscriber, last_event_id: str | None, *, room: int = 1) -> tuple[Pipe, Any]:
    """Return a pipe, and what writes a subscriber's stream to it; await that, or make a task of it."""
    pipe = Pipe(subscriber.hub, room=room)
    pipe.owner = TakenOver(subscriber)
    return pipe, pipe.owner.begin(pipe, last_event_id)

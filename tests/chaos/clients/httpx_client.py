"""httpx and httpx-sse, which leave coming back to their user: done as the documentation of httpx-sse has it.

Habits are `steady` and `flaky`; every other one is `steady` here.
"""

import asyncio
import json
import random
import time
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse

from tests.chaos import pipes
from tests.chaos.clients.lean import FOR_GOOD, MOST_SECONDS, RETRY_SECONDS


class Client:
    """One subscriber, over all its connections."""

    def __init__(self, voice: pipes.Voice, said: dict[str, Any]) -> None:
        self._voice = voice
        self._said = said
        self._habit = said.get("habit", "steady")
        self._random = random.Random(said.get("seed", 0))
        self._last: str | None = said.get("last")
        self._retry = RETRY_SECONDS
        self._refused = 0

    def _say(self, kind: str, **facts: Any) -> None:
        self._voice.say(json.dumps({"c": self._said["name"], "t": time.time(), "k": kind, **facts}))

    def settle(self) -> None:
        """Be steady from now on."""
        self._habit = "steady"

    async def run(self) -> None:
        """Stay connected until refused for good, or cancelled."""
        headers = {"Cookie": self._said["cookie"]} if self._said.get("cookie") else {}
        timeout = httpx.Timeout(10, read=self._said.get("watchdog"))
        async with httpx.AsyncClient(
            base_url=self._said["base"], headers=headers, timeout=timeout, trust_env=False
        ) as client:
            while True:
                self._refused += 1
                status = await self._connect(client)
                if status in FOR_GOOD:
                    self._say("gaveup", why=f"status {status}")
                    return
                seconds = min(MOST_SECONDS, self._retry * 2 ** max(0, self._refused - 1))
                await asyncio.sleep(seconds * self._random.uniform(1.0, 1.25))

    async def _connect(self, client: httpx.AsyncClient) -> int:
        """Report a connection from its beginning to its end; return the status."""
        status = 0
        why = "closed"
        headers = {} if self._last is None else {"Last-Event-ID": self._last}
        self._say("connect", last=self._last)
        stay = self._random.uniform(1, 20) if self._habit == "flaky" else None
        try:
            async with (
                asyncio.timeout(stay),
                aconnect_sse(client, "GET", self._said["path"], headers=headers) as source,
            ):
                status = source.response.status_code
                if status == 200:
                    async for event in source.aiter_sse():
                        self._refused = 0
                        self._take(event)
                else:
                    why = f"status {status}"
        except TimeoutError:
            why = "left"
        except httpx.ReadTimeout:
            why = "silence"
        except (httpx.TransportError, SSEError, OSError, AttributeError) as error:
            # The last two are anyio's, of a connection that was reset while it was made.
            why = type(error).__name__
        self._say("cut", why=why)
        return status

    def _take(self, event: ServerSentEvent) -> None:
        last, self._last = self._last, event.id or self._last
        if event.retry is not None:
            self._retry = event.retry / 1000
        if not event.data:
            self._say("frame", id=event.id or None, event=None, token=None)
            return
        data = event.json()
        token = data.get("text") if event.event == "CommentAdded" else data.get("token")
        transient = event.event == "PresenceChanged"
        facts = {"data": data} if transient or event.event.startswith("stream.") else {}
        # The library gives the last id to a frame that has none.
        cursor = None if transient and event.id == last else event.id or None
        self._say("frame", id=cursor, event=event.event, token=token, **facts)


async def main() -> None:
    """Read who to be, and be it."""
    voice = pipes.Voice()
    clients = [Client(voice, said) for said in pipes.configuration()["clients"]]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()) for client in clients]
        async for line in pipes.lines():
            if line == "stop":
                break
            if line == "settle":
                for client in clients:
                    client.settle()
        for task in tasks:
            task.cancel()
    voice.flush()


if __name__ == "__main__":
    pipes.run(main)

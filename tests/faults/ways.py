"""Every way to listen, as one: a stream, a WebSocket and long polls, each read in a thread into a queue."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.stack import Got, Listener

LEFT_OUT = {"PresenceChanged"}  # it comes at any time


class Socket(Listener):
    """An open WebSocket."""

    def __init__(self, client: httpx.Client, query: str, **options: Any) -> None:
        self.all: list[Got] = []
        self.cursors: list[str] = []
        self.opened: Got | None = None
        self.error: BaseException | None = None
        self.closed: int | None = None  # the close's code
        self._queue: queue.Queue[Got | None] = queue.Queue()
        self._held = contextlib.ExitStack()
        self.socket = self._held.enter_context(web_socket(client, query, **options))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for text in self.socket:
                said = json.loads(text)
                assert said.keys() >= {"id", "event", "data"}
                if said["id"]:
                    self.cursors.append(said["id"])
                if said["event"] and said["event"] not in LEFT_OUT:
                    got = Got(said["id"] or "", said["event"], said["data"], time.perf_counter())
                    self.all.append(got)
                    self._queue.put(got)
        except ConnectionClosed as error:
            self.error = error
        except BaseException as error:
            self.error = error
        finally:
            self.closed = self.socket.close_code
            self._queue.put(None)

    def say(self, **message: Any) -> None:
        """Send what a reader may ask for."""
        self.socket.send(json.dumps(message))

    def close(self) -> None:
        self._held.close()
        self._thread.join(5)


def web_socket(client: httpx.Client, query: str, **options: Any) -> AbstractContextManager[ClientConnection]:
    """Open a WebSocket with a client's cookies, which nobody reads yet."""
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    url = f"ws://{client.base_url.host}:{client.base_url.port}/ws/streams/?{query}"
    headers = {"Cookie": cookies} | options.pop("headers", {})
    return connect(url, additional_headers=headers, compression=None, max_size=None, **options)


class Polls(Listener):
    """Long polls, one after the other, as a client does who goes on from each answer's cursor."""

    WAIT = 20

    def __init__(self, client: httpx.Client, query: str) -> None:
        self.all: list[Got] = []
        self.cursors: list[str] = []
        self.opened: Got | None = None
        self.error: BaseException | None = None
        self._queue: queue.Queue[Got | None] = queue.Queue()
        self._query = query
        self._leaving = False
        self._client = httpx.Client(base_url=client.base_url, cookies=client.cookies, timeout=70)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        after = None
        try:
            while not self._leaving:
                query = (
                    self._query
                    if after is None
                    else f"{self._query.partition('&last_event_id=')[0]}&after={after}"
                )
                answer = self._client.get(f"/streams/poll/?{query}&wait={0 if after is None else self.WAIT}")
                at = time.perf_counter()
                said = answer.json()
                if answer.status_code != 200:
                    self._queue.put(Got("", "stream.end", said, at))
                    return
                assert said.keys() == {"events", "cursor", "reset"}
                if after is None:
                    mode = "reset" if said["reset"] else "resumed" if "last_event_id" in query else "live"
                    self._put(Got(said["cursor"], "stream.open", {"mode": mode}, at))
                if said["reset"]:
                    self._put(Got(said["cursor"], "stream.reset", {"reason": said["reset"]}, at))
                for event in said["events"]:
                    if event["event"] in LEFT_OUT:
                        continue
                    self._put(Got(event["id"] or "", event["event"], event["data"], at))
                self.cursors.append(said["cursor"])
                after = said["cursor"]
        except BaseException as error:
            self.error = error
        finally:
            self._queue.put(None)

    def _put(self, got: Got) -> None:
        self.all.append(got)
        self._queue.put(got)

    def close(self) -> None:
        self._leaving = True
        self._client.close()


class Sse(Listener):
    """An open event stream."""

    def __init__(self, client: httpx.Client, query: str) -> None:
        super().__init__(client, f"/streams/?{query}")


WAYS = {"stream": Sse, "socket": Socket, "polls": Polls}


def query_of(*channels: str, last_event_id: str | None = None) -> str:
    pairs = [("channel", channel) for channel in channels]
    return urlencode(pairs + ([] if last_event_id is None else [("last_event_id", last_event_id)]))


@contextlib.contextmanager
def listening_by(
    way: str, client: httpx.Client, *channels: str, last_event_id: str | None = None
) -> Iterator[Listener]:
    """Listen by one of the ways, and wait until it is open."""
    listener = WAYS[way](client, query_of(*channels, last_event_id=last_event_id))
    try:
        listener.opened = listener.next()
        yield listener
    finally:
        listener.close()

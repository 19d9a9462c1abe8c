"""Clients that other people wrote, as their documentation has them: what each hands on, and who one can be.

What they do when a connection breaks is held in `tests/chaos/test_clients.py`; the browser's are in
`tests/browser/test_neutral.py`.
"""

import contextlib
import json
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from httpx_sse import connect_sse
from tickertape_client import Client, Event
from websockets.sync.client import connect

from streams.tokens import COOKIE
from tests import neutral, node
from tests.neutral import BEAT_SECONDS, CLIENTS
from tests.stack import eventually
from tests.test_end_to_end import comment, item_of

LEFT_OUT = {"PresenceChanged"}  # it comes at any time


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client hands on, heartbeats included where it does."""

    event: str | None
    data: str
    id: str | None


Hear = Callable[[Heard], None]
Leave = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, and by whom."""

    base: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def url(self) -> str:
        return f"{self.base}/streams/?{urlencode(self.query)}"


@contextlib.contextmanager
def reading(command: list[str | Path], hear: Callable[[str], None]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:

        def read() -> None:
            for line in running.stdout:
                hear(line.rstrip("\n"))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield
        running.kill()
        thread.join(10)


@contextlib.contextmanager
def curl(asked: Asked, hear: Hear) -> Iterator[None]:
    """Read what it prints block by block, as it is."""
    block: list[str] = []

    def take(line: str) -> None:
        if line:
            block.append(line)
            return
        fields = dict(each.split(": ", 1) for each in block if ": " in each)
        hear(Heard(fields.get("event"), fields.get("data", ""), fields.get("id")))
        block.clear()

    given = [part for name, value in asked.headers.items() for part in ("-H", f"{name}: {value}")]
    with reading(["curl", "-sN", *given, asked.url], take):
        yield


@contextlib.contextmanager
def httpx_sse(asked: Asked, hear: Hear) -> Iterator[None]:
    client = httpx.Client(headers=asked.headers, timeout=httpx.Timeout(10, read=60))

    def read() -> None:
        with contextlib.suppress(httpx.HTTPError, OSError), connect_sse(client, "GET", asked.url) as source:
            for sse in source.iter_sse():
                hear(Heard(sse.event, sse.data, sse.id))

    with in_thread(read, client.close):
        yield


@contextlib.contextmanager
def in_thread(read: Callable[[], None], leave: Leave) -> Iterator[None]:
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        leave()
        thread.join(10)


@contextlib.contextmanager
def npm(asked: Asked, hear: Hear) -> Iterator[None]:
    script = Path(__file__).parent / "js/neutral.mjs"
    with reading(
        [node.need(), script, asked.url, json.dumps(asked.headers)],
        lambda line: hear(Heard(**json.loads(line))),
    ):
        yield


@contextlib.contextmanager
def websocket(asked: Asked, hear: Hear) -> Iterator[None]:
    url = asked.url.replace("http://", "ws://").replace("/streams/", "/ws/streams/")
    with connect(url, additional_headers=asked.headers) as socket:

        def read() -> None:
            for text in socket:
                said = json.loads(text)
                data = "" if said["data"] is None else json.dumps(said["data"])
                hear(Heard(said["event"], data, said["id"]))

        with in_thread(read, socket.close):
            yield


@contextlib.contextmanager
def python(asked: Asked, hear: Hear) -> Iterator[None]:
    """Our own client, which takes a token by itself and keeps the stream's own frames for itself."""
    _, _, token = asked.headers.get("Authorization", "").partition(" ")
    client = Client(asked.base, token=token or None, heartbeat_seconds=BEAT_SECONDS)
    if "Cookie" in asked.headers:
        client.http.headers["Cookie"] = asked.headers["Cookie"]
    stream = client.stream([asked.query["channel"]], last_event_id=asked.query.get("last_event_id"))

    def read() -> None:
        with contextlib.suppress(httpx.HTTPError, OSError):
            for event in stream:
                if isinstance(event, Event):
                    hear(Heard(event.type, json.dumps(event.data), event.id))
                else:
                    hear(Heard("stream.reset", json.dumps({"reason": event.reason}), event.id))

    def leave() -> None:
        stream.close()
        client.close()

    with in_thread(read, leave):
        yield


DRIVERS = {
    "curl": curl,
    "httpx-sse": httpx_sse,
    "eventsource of npm": npm,
    "WebSocket": websocket,
    "clients/python": python,
}


class Listening:
    """A client at work, and what it handed on."""

    def __init__(self) -> None:
        self.all: list[Heard] = []
        self._queue: queue.Queue[Heard] = queue.Queue()

    def hear(self, heard: Heard) -> None:
        self.all.append(heard)
        self._queue.put(heard)

    def until(self, event: str, *, seconds: float = 20) -> Heard:
        deadline = time.monotonic() + seconds
        while (heard := self._queue.get(timeout=max(0.01, deadline - time.monotonic()))).event != event:
            pass
        return heard

    def texts(self) -> list[str]:
        return [json.loads(heard.data)["text"] for heard in self.all if heard.event == "CommentAdded"]

    def blank(self) -> list[Heard]:
        return [heard for heard in self.all if not heard.data]


@pytest.fixture(scope="module")
def base(stack):
    with neutral.beating(stack, "uvicorn5") as url:
        yield url


@pytest.fixture
def alice(stack, base):
    return stack.login("alice", base)


@pytest.fixture(params=DRIVERS)
def client(request) -> str:
    if request.param == "curl" and not shutil.which("curl"):
        pytest.skip("curl is not installed: apt-get install curl")
    return request.param


@pytest.fixture
def item(alice) -> str:
    return item_of(alice)


@contextlib.contextmanager
def listening(
    name: str, alice: httpx.Client, item: str, way: str = "cookie", **query: Any
) -> Iterator[Listening]:
    """Have a client listen as alice, who is known in one of the ways."""
    token = alice.post("/api/tokens", json={"channels": [f"item:{item}"]}).json()["token"]
    headers = {}
    if way == "header":
        headers["Authorization"] = f"Bearer {token}"
    elif way == "token":
        query["token"] = token
    elif way == "session":
        headers["Cookie"] = f"sessionid={alice.cookies['sessionid']}"
    else:
        headers["Cookie"] = f"{COOKIE}={token}"
    listening = Listening()
    asked = Asked(str(alice.base_url).rstrip("/"), {"channel": f"item:{item}", **query}, headers)
    with DRIVERS[name](asked, listening.hear):
        yield listening


def test_it_hears_what_was_from_the_query_cursor_then_what_is_and_no_heartbeat(client, alice, item):
    began = alice.get(f"/api/items/{item}/comments").json()["cursor"]
    comment(alice, item, "one")
    comment(alice, item, "two")
    with listening(client, alice, item, last_event_id=began) as heard:
        heard.until("CommentAdded")
        heard.until("CommentAdded")
        if CLIENTS[client].heartbeats == "not seen":
            time.sleep(5 * BEAT_SECONDS)  # in which it beats four times or so
        else:
            eventually(lambda: len(heard.blank()) >= 2)
        comment(alice, item, "three")
        heard.until("CommentAdded")
        assert heard.texts() == ["one", "two", "three"]
        said = [each for each in heard.all if each.event not in LEFT_OUT]
        blank = heard.blank()
    assert all(each.id for each in blank)
    match CLIENTS[client].heartbeats:
        case "not seen":
            assert blank == []
        case "shown as they are" | "an object without event":
            assert {each.event for each in blank} == {None}
        case "an empty message with the id":
            assert {each.event for each in blank} == {"message"}
    if client != "clients/python":  # which keeps these for itself
        assert said[0].event == "stream.open"
        assert "stream.live" in [each.event for each in said]


def test_what_cannot_be_continued_is_a_reset(client, alice, item):
    with listening(client, alice, item, last_event_id="0123456789-7") as heard:
        said = heard.until("stream.reset")
        assert json.loads(said.data)["reason"] == "epoch"
        comment(alice, item, "then")
        heard.until("CommentAdded")


@pytest.mark.parametrize(
    ("client", "way"),
    [(name, way) for name in DRIVERS for way in ["session", *sorted(CLIENTS[name].who)]],
    indirect=["client"],
)
def test_one_can_say_who_one_is(client, way, alice, item):
    with listening(client, alice, item, way, last_event_id="earliest") as heard:
        comment(alice, item, "here")
        heard.until("CommentAdded")


@pytest.mark.parametrize("client", ["curl"], indirect=True)
def test_curl_goes_on_from_an_id_in_the_header_and_that_beats_the_query(client, alice, item):
    comment(alice, item, "one")
    with listening(client, alice, item, last_event_id="earliest") as heard:
        place = heard.until("CommentAdded").id
    comment(alice, item, "two")
    token = alice.post("/api/tokens", json={"channels": [f"item:{item}"]}).json()["token"]
    headers = {"Authorization": f"Bearer {token}", "Last-Event-ID": place}
    again = Listening()
    query = {"channel": f"item:{item}", "last_event_id": "earliest"}
    with curl(Asked(str(alice.base_url).rstrip("/"), query, headers), again.hear):
        again.until("CommentAdded")
    assert again.texts() == ["two"]


def test_the_readme_says_of_each_client_what_is_so():
    assert neutral.table() == CLIENTS

"""What the tests do with a stack: items, comments, streams on both servers at once."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import httpx

from tests.stack import Got, Listener, Stack, eventually, listening

SERVERS = ("daphne", "uvicorn")
LOOK_SECONDS = 0.05
STANDSTILL_SECONDS = 0.25  # less does not explain why what is promised was missed

T = TypeVar("T")


def new_item(client: httpx.Client, **fields: str) -> str:
    """Make an item and return its id."""
    answer = client.post("/api/items", json={"title": "A thing", **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def say(client: httpx.Client, item: str, text: str) -> str:
    """Comment on an item and return the comment's id."""
    answer = client.post(f"/api/items/{item}/comments", json={"text": text})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def settle(stack: Stack) -> str:
    """Wait until all that was committed is placed; return the head's cursor."""
    with stack.connect() as connection:

        def placed() -> bool:
            """All is placed."""
            row = connection.execute("SELECT count(*) FROM events_event WHERE position IS NULL").fetchone()
            return row[0] == 0

        eventually(placed)
        epoch, head = connection.execute("SELECT epoch, head FROM events_logstate").fetchone()
        return f"{epoch}-{head}"


@contextlib.contextmanager
def on_both(
    stack: Stack, clients: dict[str, httpx.Client], path: str, *, last_event_id: str | None = None
) -> Iterator[dict[str, Listener]]:
    """Open the same stream on both servers."""
    with contextlib.ExitStack() as opened:
        yield {
            name: opened.enter_context(listening(clients[name], path, last_event_id=last_event_id))
            for name in clients
        }


def both(stack: Stack, user: str) -> dict[str, httpx.Client]:
    """Log a user in once on each server."""
    return {name: stack.login(user, stack.url(name)) for name in SERVERS}


def notes(got: list[Got]) -> list[Any]:
    """Return what was noted (see `wire.append`), in the order in which it came."""
    return [each.data.get("n") for each in got if each.event == "Noted"]


def noted(n: object) -> Any:
    """Return a test for the event that notes something."""
    return lambda got: got.event == "Noted" and got.data.get("n") == n


class Standstill:
    """While it is entered, a thread sleeps a little at a time and notes by how much it overslept at most."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            time.sleep(LOOK_SECONDS)
            self.seconds = max(self.seconds, time.monotonic() - began - LOOK_SECONDS)


def at_best(measure: Callable[[], T], good: Callable[[T], bool], *, tries: int = 3) -> T:
    """Measure once, and return what was found; again only where the machine stood still meanwhile.

    What is promised comes each time: a miss on a machine that went on all the while is final.
    """
    for _ in range(tries):
        with Standstill() as standstill:
            found = measure()
        if good(found) or standstill.seconds < STANDSTILL_SECONDS:
            break
    return found


def retries(body: bytes) -> list[int]:
    """Return the reconnection times that a body gives, in milliseconds."""
    return [int(found) for found in re.findall(rb"^retry: (\d+)$", body, re.MULTILINE)]

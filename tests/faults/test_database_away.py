"""PostgreSQL goes away and comes back: requests are told so, streams wait, nothing is lost."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.faults.people import both, new_item, on_both, say
from tests.faults.wire import Wire
from tests.stack import eventually


@pytest.fixture
def item(alone):
    """An item of alice's."""
    return new_item(alone.login("alice"))


@pytest.fixture
def stopped(alone):
    """Stop the database as a crash does; start it again when called, or at the end."""

    def start() -> None:
        alone.postgres.start()

    def stop():
        alone.postgres.process.send_signal(signal.SIGQUIT)
        alone.postgres.process.wait(10)
        return start

    yield stop
    start()


def write_is_refused(client, item: str) -> None:
    answer = client.post(f"/api/items/{item}/comments", json={"text": "lost"})
    assert_unavailable(answer)


def read_is_refused(client, item: str) -> None:
    answer = client.get(f"/api/items/{item}")
    assert_unavailable(answer)


def assert_unavailable(answer) -> None:
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"


def is_alive_and_not_ready(client, item: str) -> None:
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def stream_says_why_it_ends(client, item: str) -> None:
    with Wire(client, f"/streams/items/{item}/") as wire:
        body = wire.to_end()
    assert wire.status == 200  # on any other, EventSource would give up
    assert b'event: stream.end\ndata: {"reason":"database"}\n\n' in body


CHECKS = (write_is_refused, read_is_refused, is_alive_and_not_ready, stream_says_why_it_ends)


def test_streams_stay_open_while_postgresql_restarts(alone, item, stopped):
    alice = both(alone, "alice")
    with on_both(alone, alice, f"/streams/items/{item}/") as streams:
        say(alice["daphne"], item, "seen before")
        for stream in streams.values():
            stream.until(lambda got: got.data.get("text") == "seen before")
        say(alice["uvicorn"], item, "just before")
        start = stopped()

        with ThreadPoolExecutor() as pool:  # each waits for a connection for as long as it may
            list(pool.map(lambda check: check[0](check[1], item), product(CHECKS, alice.values())))
        assert all(stream.error is None for stream in streams.values())

        start()
        back = time.monotonic()

        def posted() -> bool:
            """Posting works again."""
            answer = alice["daphne"].post(f"/api/items/{item}/comments", json={"text": "after"})
            return answer.status_code == 201

        eventually(posted, seconds=5)
        for stream in streams.values():
            stream.until(lambda got: got.data.get("text") == "after", seconds=5)
            texts = [got.data["text"] for got in stream.all if got.event == "CommentAdded"]
            assert texts == ["seen before", "just before", "after"]
            assert all(got.event != "stream.reset" for got in stream.all)
            assert stream.error is None
        assert time.monotonic() - back < 10


def test_a_replay_waits_for_the_database_and_goes_on(alone, item, stopped):
    # So slow a reader that the database goes away in the middle of its replay.
    alice = alone.login("alice", alone.url("uvicorn"))
    texts = [f"<{number}>" + "x" * 19_000 for number in range(60)]
    for text in texts:
        say(alice, item, text)
    alone.stop("uvicorn")  # with it the ring, so that the log is read
    alone.start("uvicorn", STREAMS_RING_BYTES="100000")

    with Wire(alice, f"/streams/items/{item}/?last_event_id=earliest", receive_buffer=4_096) as wire:
        wire.until(texts[0].encode())
        start = stopped()
        reader = threading.Thread(target=wire.until, args=(texts[-1].encode(),), kwargs={"seconds": 30})
        reader.start()
        time.sleep(1)  # it reads what was on its way, then what says that it must wait
        start()
        reader.join(30)
    body = wire.body
    assert [body.count(text.encode()) for text in texts] == [1] * len(texts)
    places = [body.index(text.encode()) for text in texts]
    assert places == sorted(places)
    assert b"stream.reset" not in body
    alone.stop("uvicorn")
    alone.start("uvicorn")

"""Limits as a client meets them, on both servers, with little of everything."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.people import SERVERS, new_item
from tests.faults.wire import Wire, memory
from tests.stack import Stack, eventually

MEGABYTE = 2**20
BODY = 50 * MEGABYTE
SYSTEM = "/streams/?channel=system"


@pytest.fixture(scope="module")
def limited(postgres, valkey, tmp_path_factory) -> Iterator[Stack]:
    """A stack with room for little, behind a proxy that this machine is."""
    few = {
        "EVENTS_POSTS_PER_MINUTE": "10",
        "STREAMS_MAX_CONNECTIONS": "7",
        "STREAMS_MAX_PER_USER": "5",
        "STREAMS_MAX_PER_ADDRESS": "4",
        "STREAMS_MAX_PER_CHANNEL": "3",
        "STREAMS_HEARTBEAT_SECONDS": "1",
        "SERVE_TRUSTED_PROXIES": "127.0.0.1",
    }
    with Stack(postgres, valkey, tmp_path_factory.mktemp("limited"), name="limited", **few) as stack:
        stack.start(*SERVERS)
        yield stack


@pytest.fixture(params=SERVERS)
def name(request) -> str:
    """Each server in turn."""
    return request.param


def forget_counts(limited: Stack) -> None:
    with limited.connect() as connection:
        connection.execute("TRUNCATE events_allowance")


# --- Bodies --------------------------------------------------------------------------------------


def written(pid: int) -> int:
    """Return the bytes that a process wrote to whatever it wrote to."""
    return int(re.search(r"wchar: (\d+)", Path(f"/proc/{pid}/io").read_text())[1])


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_of_50_megabytes_is_kept_nowhere(limited, name, chunked, kind):
    forget_counts(limited)
    alice = limited.login("alice", limited.url(name))
    item = new_item(alice)
    pid = limited.processes[name].pid
    path = f"/api/items/{item}/comments"
    assert alice.post(path, json={"text": "warms up"}).status_code == 201
    before, wrote = memory(pid), written(pid)

    def pieces() -> Iterator[bytes]:
        for _ in range(BODY // MEGABYTE):
            most.append(memory(pid))
            yield b"x" * MEGABYTE

    most: list[int] = []
    headers = {"Content-Type": f"{kind}; boundary=x"} | ({} if chunked else {"Content-Length": str(BODY)})
    answer = alice.post(path, content=pieces(), headers=headers)
    assert answer.status_code == 413, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "payload_too_large"
    assert max(most) - before < 16 * MEGABYTE
    assert written(pid) - wrote < 4 * MEGABYTE
    # The connection is as good as before.
    assert alice.get("/api/session").status_code == 200


def test_who_is_not_logged_in_is_told_that_first(limited, name):
    with httpx.Client(base_url=limited.url(name), timeout=15) as nobody:
        answer = nobody.post("/api/items", content=b"x" * (5 * MEGABYTE))
        assert (answer.status_code, answer.json()["code"]) == (401, "not_logged_in")
        answer = nobody.post(
            "/api/session", content=b"x" * (5 * MEGABYTE), headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_a_body_of_just_the_most_is_read(limited, name):
    with httpx.Client(base_url=limited.url(name), timeout=15) as nobody:
        for size, status in ((MEGABYTE, 422), (MEGABYTE + 1, 413)):
            body = b'{"username":"' + b"x" * (size - 15) + b'"}'
            assert len(body) == size
            for content in (body, iter([body[:100], body[100:]])):
                answer = nobody.post(
                    "/api/session", content=content, headers={"Content-Type": "application/json"}
                )
                assert answer.status_code == status, (size, answer.text)


def test_a_stream_with_a_body_streams(limited, name):
    bob = limited.login("bob", limited.url(name))
    with bob.stream("GET", "/streams/me/", content=b"x" * (2 * MEGABYTE)) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: stream.open"
        assert any(line == ":" for line in lines)  # a heartbeat: it goes on


# --- Posts ---------------------------------------------------------------------------------------


def test_posts_are_counted_across_servers(limited):
    forget_counts(limited)
    clients = [limited.login("carol", limited.url(name)) for name in SERVERS]
    answers = [clients[n % 2].post("/api/items", json={"title": "x"}) for n in range(14)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:10] == [201] * 10
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 2
    for answer in refused:
        assert answer.json()["code"] == "rate_limited"
        assert 1 <= int(answer.headers["retry-after"]) <= 6
    assert clients[0].get("/api/items").status_code == 200


# --- Streams -------------------------------------------------------------------------------------


def streams(limited: Stack, name: str) -> int:
    text = httpx.get(limited.url(name) + "/metrics").text
    return int(re.search(r"(?m)^tickertape_connections (\d+)$", text)[1])


@contextlib.contextmanager
def opened(limited: Stack, name: str, people: list[tuple[str, str]], path: str) -> Iterator[list[Wire]]:
    """Open a stream for each user and address; each is open."""
    eventually(lambda: streams(limited, name) == 0)
    with contextlib.ExitStack() as stack:
        wires = []
        for user, address in people:
            client = limited.login(user, limited.url(name))
            wire = stack.enter_context(Wire(client, path, headers={"X-Forwarded-For": address}))
            wire.until(b"event: stream.open\n")
            wires.append(wire)
        yield wires


@pytest.mark.parametrize(
    ("people", "path", "more"),
    [
        # Each in a row of others that are all different.
        ([("alice", f"192.0.2.{n}") for n in range(5)], SYSTEM, ("alice", "192.0.2.9")),
        ([(("alice", "bob")[n % 2], "192.0.2.1") for n in range(4)], SYSTEM, ("carol", "192.0.2.1")),
        (
            [("alice", "192.0.2.1"), ("bob", "192.0.2.2"), ("carol", "192.0.2.3")],
            "item",
            ("admin", "192.0.2.4"),
        ),
        ([(("alice", "bob")[n % 2], f"192.0.2.{n}") for n in range(7)], SYSTEM, ("carol", "192.0.2.9")),
    ],
    ids=["user", "address", "channel", "all"],
)
def test_who_finds_no_room_is_told_to_come_back_and_gets_in_when_one_left(limited, name, people, path, more):
    if path == "item":
        path = f"/streams/items/{item_of(limited)}/"
    user, address = more
    client = limited.login(user, limited.url(name))
    headers = {"X-Forwarded-For": address}
    with opened(limited, name, people, path) as wires:
        with Wire(client, path, headers=headers) as refused:
            body = refused.to_end()
            assert refused.status == 200
            assert b'event: stream.end\ndata: {"reason":"capacity"}' in body
            assert b"stream.open" not in body
            assert 5_000 <= int(re.search(rb"retry: (\d+)", body)[1]) <= 15_000
        wires[0].close()  # without a word
        eventually(lambda: streams(limited, name) == len(people) - 1)
        with Wire(client, path, headers=headers) as again:
            again.until(b"event: stream.open\n")
    eventually(lambda: streams(limited, name) == 0)


def item_of(limited: Stack) -> str:
    with limited.connect() as connection:
        row = connection.execute(
            "INSERT INTO events_item (title, owner_id, visibility, created_at)"
            " VALUES ('x', 1, 'public', now()) RETURNING id"
        ).fetchone()
    return str(row[0])


def test_a_crowd_that_comes_at_once_finds_no_more_room(limited, name):
    client = limited.login("alice", limited.url(name))
    eventually(lambda: streams(limited, name) == 0)
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(Wire(client, SYSTEM, headers={"X-Forwarded-For": f"192.0.2.{n}"}))
            for n in range(30)
        ]
        bodies = [wire.until(b"event: stream.") for wire in crowd]
        assert sum(b"event: stream.open" in body for body in bodies) == 5
        assert streams(limited, name) == 5


# --- Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("&".join(["channel=system"] * 50), 200),
        ("&".join(["channel=system"] * 51), 400),
        ("&".join(f"a{n}=1" for n in range(1001)), 400),
        ("channel=system&" + "&".join(f"a{n}=1" for n in range(2000)), 400),
        ("channel=group:" + "g" * 150, 403),
        ("channel=group:" + "g" * 151, 400),
        ("channel=" + "s" * 10_000, 400),
    ],
)
def test_names_and_their_number_have_an_end(limited, name, query, status):
    bob = limited.login("bob", limited.url(name))
    with bob.stream("GET", f"/streams/?{query}") as answer:
        assert answer.status_code == status
        if status != 200:
            assert answer.headers["content-type"] == "application/problem+json"

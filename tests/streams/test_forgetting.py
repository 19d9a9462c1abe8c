"""What the log forgets, every process forgets: over HTTP, beside clients that go on reading."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from django.db import transaction

from events import erasure, log
from events.channels import Channel
from events.registry import ACTOR, EventType
from tests.faults.people import new_item, settle
from tests.stack import ROOT, eventually, listening

FORGET_SECONDS = 1.0  # from the end of the erasing until no process has the text any more
SECRET = "Zanzibar"


class StreamWritten(EventType):
    """A person of a test wrote something."""

    personal: ClassVar = {"text": ACTOR}

    text: str


# --- The hub -----------------------------------------------------------------------------------


@pytest.fixture
def write(world):
    """Append and place texts, each by a user's id, and tell nobody."""

    async def work(*texts):
        def append():
            for user_id, text in texts:
                with transaction.atomic():
                    log.append(StreamWritten(text=text), channels=[Channel("item:42")], actor_id=user_id)
            log.place()

        await world.run(append)

    return work


def texts_in(ring):
    return [json.loads(e.frame.partition(b"data: ")[2])["text"] for e in ring.after(["item:42"], ring.start)]


async def test_the_ring_forgets_what_was_erased_and_keeps_what_came_after(world, hub, quiet, write):
    await write((1, "alice's"), (2, SECRET), (1, "later"))
    hub.apply(await world.batch(hub.position))
    assert SECRET in texts_in(hub.ring)
    before = hub.position

    await world.run(lambda: list(erasure._erase_log(2)))
    hub.apply(await world.batch(hub.position))

    assert texts_in(hub.ring) == ["later"]
    assert hub.position == before + 1
    assert hub.oldest <= before - 2, "the log has them still"


async def test_who_comes_back_reads_the_erased_version_in_the_same_place(world, hub, quiet, write, subscribe):
    start = hub.cursor
    await write((1, "alice's"), (2, SECRET), (1, "later"))
    hub.apply(await world.batch(hub.position))
    await world.run(lambda: list(erasure._erase_log(2)))
    hub.apply(await world.batch(hub.position))

    async with subscribe("item:42", cursor=start) as stream:
        got = [await stream.next() for _ in range(3)]

    assert [frame.data["text"] for frame in got] == ["alice's", erasure.ERASED, "later"]
    assert [frame.position for frame in got] == [start.position + n for n in (1, 2, 3)]


async def test_who_is_live_does_not_notice(world, hub, quiet, write, subscribe):
    async with subscribe("item:42") as stream:
        await stream.frame()
        await write((2, SECRET))
        hub.apply(await world.batch(hub.position))
        await world.run(lambda: list(erasure._erase_log(2)))
        hub.apply(await world.batch(hub.position))
        await write((1, "later"))
        hub.apply(await world.batch(hub.position))
        assert [(await stream.frame()).data["text"] for _ in range(2)] == [SECRET, "later"]


# --- Over HTTP ---------------------------------------------------------------------------------


def manage(stack, *arguments):
    """Run a command that fails; return its exit status and what it says."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=stack.environment,
        check=False,
        text=True,
        capture_output=True,
    )
    return done.returncode, done.stdout, done.stderr


def say(client, item, *texts):
    """Comment, and return the ids that the API gave."""
    return [client.post(f"/api/items/{item}/comments", json={"text": text}).json()["id"] for text in texts]


def texts_of(events):
    return [got.data.get("text", got.data.get("new_text")) for got in events]


def test_live_readers_get_everything_while_the_log_is_pruned_under_them(stack, server):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    item = new_item(alice)
    settle(stack)
    with listening(bob, f"/streams/items/{item}/") as stream:
        say(alice, item, *(f"before {n}" for n in range(20)))
        stream.take(20)
        pruning = subprocess.Popen(
            [sys.executable, "manage.py", "prune_log", "--older-than", "0s", "--batch", "5"],
            cwd=ROOT, env=stack.environment, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wanted = []
        while pruning.poll() is None:
            wanted.append(f"during {len(wanted)}")
            say(alice, item, wanted[-1])
        wanted.append("after")
        say(alice, item, "after")
        assert pruning.returncode == 0
        got = stream.take(len(wanted))

    assert texts_of(got) == wanted
    assert [each.event for each in stream.all if each.event.startswith("stream.")] == ["stream.open"]


def test_a_later_cursor_goes_on_and_an_earlier_one_is_reset(stack, server):
    alice = stack.login("alice", server)
    item = new_item(alice)
    path = f"/streams/items/{item}/"
    settle(stack)
    with listening(alice, path) as stream:
        say(alice, item, "one", "two")
        one, two = stream.take(2)
        stack.manage("prune_log", "--older-than", "0s")

    def forgotten():
        """Tell whether this process has heard of it."""
        with listening(alice, path, last_event_id=one.id) as late:
            return late.opened.data["mode"] == "reset" and late.next().data["reason"] == "pruned"

    # `one` itself is not needed to go on after it: only where `two` is gone is something missing.
    eventually(forgotten)
    head = settle(stack)
    say(alice, item, "three")
    with listening(alice, path, last_event_id=head) as stream:
        assert stream.opened.data["mode"] == "resumed"
        assert texts_of(stream.take(1)) == ["three"]
    assert two.position > one.position


def test_a_replay_under_way_is_reset_where_the_log_was_pruned_under_it(stack, server):
    alice = stack.login("alice", server)
    item = new_item(alice)
    since = settle(stack)
    with stack.connect() as connection:
        connection.execute(
            "INSERT INTO events_event (type, version, data, channels)"
            " SELECT 'Noted', 1, json_build_object('n', n, 'text', repeat('x', 4000))::text, ARRAY[%s]"
            " FROM generate_series(1, 4000) n",
            [f"item:{item}"],
        )
        connection.execute("SELECT tickertape_place(100000)")
        head = connection.execute("SELECT head FROM events_logstate").fetchone()[0]

    with contextlib.closing(slow_reader(alice, f"/streams/items/{item}/", since)) as reader:
        read_until(reader, b'"n" : 3,')
        said = stack.manage("prune_log", "--older-than", "0s")
        assert f"position {head + 1} is the oldest now" in said or "Pruned" in said
        rest = read_until(reader, b"event: stream.reset", b"\n\n")
        say(alice, item, "after")
        after = read_until(reader, b'"text":"after"')

    assert b'"reason":"pruned"' in rest
    assert b'"n" : 4000,' not in rest, "it had been read to the end before the log was pruned"
    assert b"stream.reset" not in after


def slow_reader(client, path, since):
    """Open a stream on a socket with a small buffer, from which a test reads when it likes."""
    parts = urlsplit(str(client.base_url))
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    reader.settimeout(20)
    reader.connect((parts.hostname, parts.port))
    reader.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nLast-Event-ID: {since}\r\n"
        f"Cookie: sessionid={client.cookies['sessionid']}\r\n\r\n".encode()
    )
    return reader


def read_until(reader, *wanted):
    """Read on until the pieces came, one after the other."""
    body = b""
    for piece in wanted:
        at = len(body)
        while piece not in body[max(0, at - 200) :]:
            chunk = reader.recv(64 * 1024)
            assert chunk, f"the stream ended: {body[-500:]!r}"
            body += chunk
    return body


@pytest.fixture
def dora(stack):
    """Somebody to be erased, on both servers."""
    stack.manage(
        "shell", "-c",
        "from django.contrib.auth.models import User;"
        " User.objects.filter(username='dora').exists()"
        " or User.objects.create_user('dora', password='demo-dora')",
    )  # fmt: skip
    return {name: stack.login("dora", stack.url(name)) for name in ("daphne", "uvicorn")}


def test_erased_text_leaves_every_process_within_a_second(stack, dora):
    alice = {name: stack.login("alice", stack.url(name)) for name in dora}
    item = new_item(alice["daphne"])
    path = f"/streams/items/{item}/"
    since = settle(stack)
    with contextlib.ExitStack() as opened:
        live = {name: opened.enter_context(listening(alice[name], path)) for name in alice}
        hers = {name: opened.enter_context(listening(dora[name], path)) for name in dora}
        [first] = say(dora["daphne"], item, f"added {SECRET}")
        assert (
            dora["uvicorn"].patch(f"/api/comments/{first}", json={"text": f"edited {SECRET}"}).status_code
            == 200
        )
        say(alice["uvicorn"], item, "Alice's words")
        before = {name: live[name].take(3) for name in live}

        stack.manage("erase_user", "dora", "--yes", "--no-vacuum")
        erased_at = time.monotonic()
        for name in alice:

            def forgotten(name=name):
                """Tell whether a replay has the erased version."""
                with listening(alice[name], path, last_event_id=since) as stream:
                    return texts_of(stream.take(3)) == [erasure.ERASED, erasure.ERASED, "Alice's words"]

            eventually(forgotten, seconds=10)
            assert time.monotonic() - erased_at < 2 * FORGET_SECONDS, "with the time that asking takes"
            with listening(alice[name], path, last_event_id=since) as stream:
                again = stream.take(3)
            assert [got.id for got in again] == [got.id for got in before[name]]
            assert again[0].data["author_name"] == erasure.ERASED
            assert hers[name].ended()[-1].data == {"reason": "revoked"}

        say(alice["daphne"], item, "and on it goes")
        for name in alice:
            assert texts_of(live[name].take(1)) == ["and on it goes"], "who was live went on"

        listed = alice["daphne"].get(f"/api/items/{item}/comments").json()["results"]
        assert [each["text"] for each in listed] == [erasure.ERASED, "Alice's words", "and on it goes"]
        assert dora["uvicorn"].get("/api/items").status_code == 401


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["prune_log"],
            2,
            "CommandError: Give --older-than, as in 30d: EVENTS_RETENTION_DAYS keeps everything.",
        ),
        (["prune_log", "--older-than", "soon"], 2, "CommandError: --older-than must be an age such as 30d, "),
        (["erase_user", "nobody", "--yes"], 1, "CommandError: There is no user 'nobody'."),
        (["erase_user", "alice"], 1, "CommandError: Not confirmed; nothing was erased."),
        (["rebuild", "nothing"], 2, "CommandError: There is no read model 'nothing'; there is: "),
    ],
)
def test_a_command_that_is_refused_says_why_in_one_line(stack, arguments, status, message):
    code, _, error = manage(stack, *arguments)
    assert code == status
    assert error.startswith(message)
    assert len(error.splitlines()) == 1

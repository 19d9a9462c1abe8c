"""The promises of a stream, whichever way it goes: event stream, WebSocket or long polls."""

import contextlib
import json
import re
import signal
import threading
import time
from dataclasses import replace

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from streams import tokens
from tests.faults.people import SERVERS, at_best, new_item, noted, notes, settle
from tests.faults.ways import WAYS, Socket, listening_by, query_of, web_socket
from tests.faults.wire import Wire, append, memory, threads, unread
from tests.stack import eventually

TOTAL = 300


@pytest.fixture(params=SERVERS)
def alice(request, rough):
    """Alice on each server in turn."""
    return rough.login("alice", rough.url(request.param))


@pytest.fixture(params=WAYS)
def way(request) -> str:
    return request.param


@pytest.fixture
def tape(rough):
    """Two channels with events of both and of others between, and their ids by what they note."""
    alice = rough.login("alice")
    one, two, other = (f"item:{new_item(alice)}" for _ in range(3))
    with rough.connect() as connection, connection.transaction():
        for n, channels in enumerate([[one], [other], [two], [one, two], [other], [one]]):
            append(connection, *channels, data={"n": n})
    settle(rough)
    with rough.connect() as connection:
        rows = connection.execute(
            "SELECT (data::json->>'n')::int, l.epoch || '-' || position FROM events_event, events_logstate l"
            " WHERE type = 'Noted' AND channels && %s ORDER BY position",
            [[one, two, other]],
        ).fetchall()
    return one, two, dict(rows)


def test_what_was_missed_comes_once_in_order_and_then_what_happens(rough, alice, way, tape):
    one, two, ids = tape
    with listening_by(way, alice, one, two, last_event_id=ids[0]) as stream, rough.connect() as connection:
        assert stream.opened.data["mode"] == "resumed"
        got = stream.take(3)
        assert [(each.id, each.data["n"]) for each in got] == [(ids[n], n) for n in (2, 3, 5)]
        append(connection, two, data={"n": 6})
        assert notes(stream.take(1)) == [6]


def test_earliest_is_all_that_is_kept(alice, way, tape):
    one, two, ids = tape
    with listening_by(way, alice, one, two, last_event_id="earliest") as stream:
        assert [each.id for each in stream.until(noted(5)) if each.event == "Noted"] == [
            ids[n] for n in (0, 2, 3, 5)
        ]


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("epoch", lambda cursor: "0123456789-" + cursor.partition("-")[2]),
        ("ahead", lambda cursor: cursor.partition("-")[0] + "-" + str(10**12)),
        ("malformed", lambda cursor: "garbage"),
        ("malformed", lambda cursor: cursor.replace("-", "-0")),
    ],
)
def test_an_id_that_proves_nothing_is_reset_then_live(rough, alice, way, tape, reason, make):
    one, _, ids = tape
    with listening_by(way, alice, one, last_event_id=make(ids[0])) as stream, rough.connect() as connection:
        reset = stream.next()
        assert (stream.opened.data["mode"], reset.event, reset.data["reason"]) == (
            "reset",
            "stream.reset",
            reason,
        )
        append(connection, one, data={"n": "then"})
        assert notes(stream.take(1)) == ["then"]


def test_me_is_what_concerns_the_user_beside_what_is_named(rough, alice, way):
    mine = f"user:{alice.get('/api/session').json()['user']['id']}"
    item = f"item:{new_item(alice)}"
    settle(rough)
    with listening_by(way, alice, "me", item) as stream, rough.connect() as connection:
        for n, channel in enumerate([mine, "user:999999", "system", item]):
            append(connection, channel, data={"n": n})
        assert notes(stream.until(noted(3))) == [0, 2, 3]


def test_who_drops_and_comes_back_all_the_while_gets_each_event_once(rough, alice, way):
    channel = f"item:{new_item(alice)}"
    cursor = settle(rough)

    def write() -> None:
        with rough.connect() as connection:
            for n in range(TOTAL):
                append(connection, channel, data={"n": n})
                time.sleep(0.004)

    writing = threading.Thread(target=write)
    writing.start()
    found: list[int] = []
    while not found or found[-1] != TOTAL - 1:
        with listening_by(way, alice, channel, last_event_id=cursor) as stream:
            assert stream.opened.data["mode"] == "resumed"
            for _ in range(20):
                got = stream.next()
                cursor = got.id or cursor
                found += notes([got])
                if found[-1:] == [TOTAL - 1]:
                    break
    writing.join()
    assert found == list(range(TOTAL))


def test_what_is_too_much_to_push_is_read_from_the_log(rough, alice, way):
    # Far past the inbox, the page and what the kernel holds, while nobody reads.
    channel = f"item:{new_item(alice)}"
    settle(rough)
    with listening_by(way, alice, channel) as stream, rough.connect() as connection:
        with connection.transaction():
            for n in range(120):
                append(connection, channel, data={"n": n, "text": "x" * 20_000})
        assert notes(stream.take(120)) == list(range(120))


def test_a_quiet_stream_moves_its_reader_on(rough, alice, way, monkeypatch):
    monkeypatch.setattr(WAYS["polls"], "WAIT", 1)
    quiet, busy = f"item:{new_item(alice)}", f"item:{new_item(alice)}"
    with listening_by(way, alice, quiet) as stream, rough.connect() as connection:
        for n in range(3):
            append(connection, busy, data={"n": n})
        head = int(settle(rough).rpartition("-")[2])

        def moved() -> bool:
            """The reader was given a place at the head."""
            places = getattr(stream, "cursors", None)
            if places is None:  # an EventSource shows nothing of it: the next connection does
                return True
            return bool(places) and int(places[-1].rpartition("-")[2]) >= head

        eventually(moved)


REFUSALS = [
    ("user:999999", 403, "channel_forbidden"),
    ("item:999999999", 404, "channel_unknown"),
    ("nonsense", 400, "channel_malformed"),
    ("internal:access", 400, "channel_malformed"),
    ("item:%ED%A0%80", 400, "channel_malformed"),
]


def refused(way: str, client: httpx.Client, query: str) -> tuple[int, dict]:
    """Return the status and the problem of a refusal; a WebSocket's says both its own way."""
    if way != "socket":
        path = "/streams/" if way == "stream" else "/streams/poll/"
        answer = client.get(f"{path}?{query}")
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()
    socket = Socket(client, query)
    told = socket.ended()
    assert [got.event for got in told] == ["stream.error"], (socket.closed, socket.error)
    [error] = told
    return socket.closed - 4000, error.data


@pytest.mark.parametrize(("channel", "status", "code"), REFUSALS)
def test_what_may_not_be_read_is_refused(alice, way, channel, status, code):
    for query in (f"channel={channel}", f"channel=system&channel={channel}"):
        got, problem = refused(way, alice, query)
        assert (got, problem["status"], problem["code"]) == (status, status, code)
        assert problem.keys() >= {"type", "title", "detail", "errors"}


def test_no_channel_and_too_many_are_refused(alice, way):
    assert refused(way, alice, "")[1]["errors"][0]["field"] == "channel"
    many = query_of(*(f"group:g{number}" for number in range(51)))
    status, problem = refused(way, alice, many)
    assert (status, problem["code"]) == (400, "too_many_channels")


def test_who_is_not_logged_in_is_told_so(alice, way):
    with httpx.Client(base_url=alice.base_url) as nobody:
        status, problem = refused(way, nobody, "channel=system")
    assert (status, problem["code"]) == (401, "not_logged_in")


def test_access_taken_away_ends_it_and_nothing_later_comes(rough, alice, way):
    def took() -> float:
        item = new_item(alice, visibility="members")
        bob = rough.login("bob", str(alice.base_url))
        bob_id = bob.get("/api/session").json()["user"]["id"]
        assert alice.put(f"/api/items/{item}/members/{bob_id}").status_code == 204
        settle(rough)
        channel = f"item:{item}"
        with listening_by(way, bob, channel) as stream, rough.connect() as connection:
            append(connection, channel, data={"n": "before"})
            stream.until(noted("before"))
            assert alice.delete(f"/api/items/{item}/members/{bob_id}").status_code == 204
            taken = time.perf_counter()
            append(connection, channel, data={"n": "secret"})
            end = stream.ended()[-1]
            assert end.event == "stream.end"
            assert end.data.get("reason") == "revoked" or end.data["status"] == 403
            assert "secret" not in str(stream.all)
        assert refused(way, bob, f"channel={channel}")[0] == 403
        return end.at - taken

    assert at_best(took, lambda found: found < 1.5) < 1.5


def test_a_logout_ends_it(rough, way, alice):
    def took() -> float:
        mine = rough.login("carol", str(alice.base_url))
        settle(rough)
        with listening_by(way, mine, "system") as stream:
            assert mine.delete("/api/session").status_code == 204
            left = time.perf_counter()
            end = stream.ended()[-1]
            assert end.data.get("reason") == "revoked" or end.data["status"] == 401
        return end.at - left

    assert at_best(took, lambda found: found < 2) < 2


@pytest.mark.parametrize("name", ["daphne8", "uvicorn8"])
def test_a_stopping_server_sends_it_elsewhere(rough, way, name):
    rough.start(name)
    try:
        alice = rough.login("alice", rough.url(name))
        with listening_by(way, alice, "system") as stream:
            time.sleep(0.3)  # the next poll waits
            began = time.perf_counter()
            process = rough.processes[name]
            process.terminate()
            ended = stream.ended(seconds=20)
            if way != "polls":
                assert ended[-1].data == {"reason": "drain"}
            if way == "socket":
                assert stream.closed == 1001
        assert process.wait(8) == 0
        assert time.perf_counter() - began < 5
        assert "Traceback" not in rough.log(name).read_text()
    finally:
        rough.kill(name)


# --- Tokens ------------------------------------------------------------------------------------------


def token_of(client: httpx.Client, *channels: str) -> str:
    answer = client.post("/api/tokens", json={"channels": list(channels)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@contextlib.contextmanager
def with_token(alice: httpx.Client, way: str, token: str, *channels: str):
    """Listen without a session, by a token in the query."""
    with httpx.Client(base_url=alice.base_url) as nobody:
        listener = WAYS[way](nobody, f"{query_of(*channels)}&token={token}")
        try:
            listener.opened = listener.next()
            yield listener
        finally:
            listener.close()


def test_a_token_opens_it_and_is_in_no_log(rough, alice, way):
    channel = f"item:{new_item(alice, visibility='members')}"
    settle(rough)
    token = token_of(alice, channel)
    with with_token(alice, way, token, channel) as stream, rough.connect() as connection:
        append(connection, channel, data={"n": 1})
        assert notes(stream.take(1)) == [1]
    with httpx.Client(base_url=alice.base_url) as nobody:
        status, problem = refused(way, nobody, f"channel=system&token={token}")
        assert (status, problem["code"]) == (403, "channel_forbidden")
        status, problem = refused(way, nobody, f"channel={channel}&token={token}x")
        assert (status, problem["code"]) == (401, "token_invalid")
    for name in SERVERS:
        assert token[:40] not in rough.log(name).read_text()


def test_what_is_added_outside_of_a_token_is_refused_alike_whether_it_exists_or_not(rough, alice):
    inside, outside = (f"item:{new_item(alice, visibility='members')}" for _ in range(2))
    with with_token(alice, "socket", token_of(alice, inside), inside) as stream:
        said = []
        for channel in (outside, "item:999999", "job:nonsense", "user:999999", "group:none", "system"):
            stream.say(add=[channel])
            said.append(stream.until(lambda got: got.event == "stream.error")[-1].data)
    assert said == said[:1] * 6
    assert (said[0]["status"], said[0]["errors"][0]["field"]) == (403, "add")


def test_a_token_that_ends_ends_it(rough, alice, way, figure):
    def took() -> float:
        mine = rough.login("carol", str(alice.base_url))
        settle(rough)
        token = token_of(mine, "system")
        with with_token(alice, way, token, "system") as stream:
            left = time.perf_counter()
            assert mine.delete("/api/session").status_code == 204  # and its tokens with it
            end = stream.ended()[-1]
            assert end.data.get("reason") == "revoked" or end.data["code"] == "token_invalid"
        return end.at - left

    found = at_best(took, lambda found: found < 1.5)
    figure(f"{way}: ended {1000 * found:.0f} ms after its token's session")
    assert found < 1.5


def test_a_token_that_expires_ends_it(rough, alice, way):
    def late() -> float:
        """How late the end was."""
        expires = time.time() + 6
        token = short_token(rough, alice, seconds=6)
        with with_token(alice, way, token, "system") as stream:
            end = stream.ended(seconds=30)[-1]
            found = time.time() - expires
            assert found > -1.5
            assert end.data.get("reason") == "revoked" or end.data["code"] == "token_expired"
        return found

    assert at_best(late, lambda found: found < 1.5) < 1.5


def short_token(rough, client: httpx.Client, *, seconds: int) -> str:
    """Return a token such as would be had only by waiting."""
    grant = tokens.read(token_of(client, "system"))
    return tokens.sign(replace(grant, expires_at=int(time.time()) + seconds))


# --- WebSockets alone ----------------------------------------------------------------------------------


def test_channels_come_and_go_on_a_web_socket(rough, alice):
    one, two = (f"item:{new_item(alice)}" for _ in range(2))
    began = settle(rough)
    with rough.connect() as connection, listening_by("socket", alice, one) as stream:
        append(connection, two, data={"n": 1})
        append(connection, one, data={"n": 2})
        assert notes(stream.take(1)) == [2]
        stream.say(add=[two], after=began)
        stream.until(lambda got: got.event == "stream.channels")
        assert notes(stream.until(lambda got: got.event == "stream.live")) == [1]
        stream.say(drop=[one])
        stream.until(lambda got: got.event == "stream.live")
        append(connection, one, data={"n": 3})
        append(connection, two, data={"n": 4})
        assert notes(stream.take(1)) == [4]
        stream.socket.send("nonsense")
        [error] = stream.until(lambda got: got.event == "stream.error")
        assert error.data["code"] == "malformed_json"
        stream.socket.send(b"bytes")
        [error] = stream.until(lambda got: got.event == "stream.error")
        assert error.data["code"] == "malformed_json"


@pytest.mark.parametrize(("origin", "code"), [("https://evil.example", 4403), ("null", 4403), (None, None)])
def test_a_page_of_a_foreign_origin_is_refused(alice, origin, code):
    origin = str(alice.base_url) if origin is None else origin
    socket = Socket(alice, "channel=system", origin=origin)
    try:
        if code is None:
            assert socket.next().event == "stream.open"
        else:
            assert socket.ended() == []
            assert socket.closed == code
    finally:
        socket.close()


def test_elsewhere_there_is_no_web_socket(alice):
    url = f"ws://{alice.base_url.host}:{alice.base_url.port}/ws/nothing/"
    with connect(url) as socket, pytest.raises(ConnectionClosed):
        socket.recv(timeout=20)
    assert socket.close_code == 4404


def test_a_message_that_is_too_large_ends_it(alice, settings):
    with listening_by("socket", alice, "system") as stream:
        stream.socket.send("x" * (settings.STREAMS_MAX_MESSAGE_BYTES + 1))
        stream.ended(seconds=20)
        assert stream.closed == 1009


def test_who_says_much_and_reads_nothing_is_not_heard_on_and_on(rough, alice):
    name = next(name for name in SERVERS if rough.url(name) == str(alice.base_url).rstrip("/"))
    before = memory(rough.processes[name].pid)
    with web_socket(alice, "channel=system", max_queue=1) as socket:
        socket.recv(timeout=20)
        sent = 0
        with contextlib.suppress(TimeoutError, OSError, ConnectionClosed):
            socket.socket.settimeout(1)
            for _ in range(3_000):
                socket.send(json.dumps({"add": ["x" * 30_000]}))
                sent += 30_000
        assert sent < 60_000_000 or memory(rough.processes[name].pid) - before < 30_000_000
    assert alice.get("/readyz").status_code == 200


def connections(alice: httpx.Client) -> int:
    return int(re.search(r"(?m)^tickertape_connections (\d+)$", alice.get("/metrics").text)[1])


def test_a_flood_of_small_messages_is_refused_and_stays_in_the_kernel(rough, alice, figure):
    name = next(name for name in SERVERS if rough.url(name) == str(alice.base_url).rstrip("/"))
    channel = f"item:{new_item(alice)}"
    settle(rough)
    empty = b"\x81\x80\0\0\0\0"  # a text of no bytes, masked: 6 for each, as few as there can be
    with contextlib.ExitStack() as opened, rough.connect() as connection:
        patient = {"ping_interval": None, "close_timeout": 0.1}  # of the client's own
        sockets = [opened.enter_context(web_socket(alice, query_of(channel), **patient)) for _ in range(40)]
        for socket in sockets:
            assert "stream.open" in socket.recv(timeout=20)
        before = memory(rough.processes[name].pid)
        for socket in sockets:
            socket.socket.sendall(empty * 10_000)
        for socket in sockets:
            while '"rate_limited"' not in socket.recv(timeout=20):
                pass
        grown = memory(rough.processes[name].pid) - before
        figure(f"{name}: 40 x 10,000 messages at once: {grown / 1e6:+.0f} MB")
        assert grown < 40_000_000
        append(connection, channel, data={"n": 1})
        for socket in sockets:
            while json.loads(socket.recv(timeout=20))["event"] != "Noted":
                pass
    assert alice.get("/readyz").status_code == 200


def test_who_closes_in_the_middle_of_a_message_leaves_no_trace(rough, alice):
    name = next(name for name in SERVERS if rough.url(name) == str(alice.base_url).rstrip("/"))
    channel = f"item:{new_item(alice)}"
    settle(rough)
    began = rough.log(name).stat().st_size
    before = connections(alice)
    with contextlib.ExitStack() as opened, rough.connect() as connection:
        sockets = [opened.enter_context(web_socket(alice, query_of(channel), max_queue=1)) for _ in range(10)]
        for socket in sockets:
            assert "stream.open" in socket.recv(timeout=20)
        append(connection, channel, data={"text": "x" * 900_000})
        settle(rough)
        time.sleep(0.5)  # until each is written as far as the kernel takes it
        for socket in sockets:
            # A close, 1000, behind messages that wait for this one to be written.
            socket.socket.sendall(b"\x81\x80\0\0\0\0" * 3 + b"\x88\x82\0\0\0\0\x03\xe8")
        time.sleep(0.5)
        for socket in sockets:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    socket.recv(timeout=5)
    eventually(lambda: connections(alice) <= before, seconds=4)  # Daphne kills after 5 who does not end
    with rough.log(name).open() as said:
        said.seek(began)
        assert "Traceback" not in said.read()


def test_a_reader_that_is_slow_is_bounded_and_gets_all_of_it(rough, alice, figure):
    name = next(name for name in SERVERS if rough.url(name) == str(alice.base_url).rstrip("/"))
    channel = f"item:{new_item(alice)}"
    settle(rough)
    with contextlib.ExitStack() as opened, rough.connect() as connection:
        sockets = [opened.enter_context(web_socket(alice, query_of(channel), max_queue=1)) for _ in range(20)]
        for socket in sockets:
            assert "stream.open" in socket.recv(timeout=20)
        before = memory(rough.processes[name].pid)
        for n in range(60):
            size = 900_000 if n % 20 == 7 else 100_000
            append(connection, channel, data={"n": n, "text": "x" * size})
        settle(rough)
        time.sleep(2)
        grown = memory(rough.processes[name].pid) - before
        figure(f"{name}: 8 MB past 20 WebSockets that do not read: {grown / 1e6:+.0f} MB")
        assert grown < 20 * 1_000_000 + 40_000_000
        found: list[int] = []
        while len(found) < 60:
            said = json.loads(sockets[0].recv(timeout=20))
            if said["event"] == "Noted":
                found.append(said["data"]["n"])
        assert found == list(range(60))


def test_a_slow_web_socket_is_cut_off_when_its_access_ends(rough, alice):
    def took() -> float:
        item = new_item(alice, visibility="members")
        channel = f"item:{item}"
        bob = rough.login("bob", str(alice.base_url))
        bob_id = bob.get("/api/session").json()["user"]["id"]
        assert alice.put(f"/api/items/{item}/members/{bob_id}").status_code == 204
        settle(rough)
        name = next(name for name in SERVERS if rough.url(name) == str(alice.base_url).rstrip("/"))
        with web_socket(bob, query_of(channel), max_queue=1) as socket, rough.connect() as connection:
            port = socket.socket.getsockname()[1]
            for n in range(60):
                append(connection, channel, data={"n": n, "text": "x" * 100_000})
            settle(rough)
            time.sleep(0.5)
            assert alice.delete(f"/api/items/{item}/members/{bob_id}").status_code == 204
            taken = time.perf_counter()

            def cut() -> bool:
                """The server closed the connection."""
                return port not in unread(rough.ports[name])

            eventually(cut)
            return time.perf_counter() - taken

    assert at_best(took, lambda found: found < 1.5) < 1.5


# --- Polls alone --------------------------------------------------------------------------------------


def test_a_poll_waits_and_answers_when_something_comes(rough, alice):
    channel = f"user:{alice.get('/api/session').json()['user']['id']}"

    def in_vain() -> float:
        """How long a poll of a second takes."""
        path = f"/streams/poll/?{query_of(channel)}&after={settle(rough)}"
        began = time.perf_counter()
        said = alice.get(f"{path}&wait=1").json()
        took = time.perf_counter() - began
        assert (said["events"], said["reset"]) == ([], None)
        return took

    assert 0.9 < at_best(in_vain, lambda found: found < 2.5) < 2.5

    def post() -> None:
        time.sleep(0.5)
        with rough.connect() as connection:
            append(connection, channel, data={"n": 1})

    def answered() -> float:
        """How long one takes that something comes for."""
        path = f"/streams/poll/?{query_of(channel)}&after={settle(rough)}"
        posting = threading.Thread(target=post)
        posting.start()
        began = time.perf_counter()
        answer = alice.get(f"{path}&wait=20", timeout=30)
        took = time.perf_counter() - began
        posting.join()
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        [event] = answer.json()["events"]
        assert (event["event"], event["data"], event["id"]) == ("Noted", {"n": 1}, answer.json()["cursor"])
        return took

    assert at_best(answered, lambda found: found < 3) < 3


def test_a_poll_answers_by_pieces_of_a_bounded_size(rough, alice):
    channel = f"item:{new_item(alice)}"
    after = settle(rough)
    with rough.connect() as connection, connection.transaction():
        for n in range(30):
            append(connection, channel, data={"n": n, "text": "x" * 5_000})
    settle(rough)
    found, answers = [], 0
    while len(found) < 30:
        answer = alice.get(f"/streams/poll/?{query_of(channel)}&after={after}&wait=5")
        assert len(answer.content) < 64 * 1024
        found += [event["data"]["n"] for event in answer.json()["events"] if event["event"] == "Noted"]
        after = answer.json()["cursor"]
        answers += 1
    assert found == list(range(30))
    assert answers > 3


@pytest.mark.parametrize("wait", ["-1", "60.1", "nan", "inf", "soon", ""])
def test_a_wait_that_is_none_is_refused_by_name(alice, wait):
    answer = alice.get(f"/streams/poll/?channel=system&wait={wait}")
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["wait"]


def test_polls_that_wait_hold_no_thread_and_no_connection_and_leave_with_their_client(rough, alice):
    name = next(name for name in SERVERS if rough.url(name) == str(alice.base_url).rstrip("/"))
    pid = rough.processes[name].pid
    after = settle(rough)

    eventually(lambda: connections(alice) == 0, seconds=20)  # who flooded and left is found by a heartbeat
    before = threads(pid)
    path = f"/streams/poll/?channel=system&after={after}&wait=60"
    with contextlib.ExitStack() as opened, rough.connect() as connection:
        for _ in range(100):
            opened.enter_context(Wire(alice, path))
        eventually(lambda: connections(alice) == 100)
        eventually(lambda: threads(pid) <= before + 8)
        held = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchone()[0]
        assert held < 60
    eventually(lambda: connections(alice) == 0)


def test_a_poll_finds_a_database_away_and_says_so_as_problem_json(alone):
    alice = alone.login("alice")
    alone.postgres.process.send_signal(signal.SIGQUIT)
    alone.postgres.process.wait(10)
    try:
        eventually(lambda: alice.get("/streams/poll/?channel=system").status_code == 503, seconds=10)
        answer = alice.get("/streams/poll/?channel=system")
        assert answer.json()["code"] == "unavailable"
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        alone.postgres.start()

"""Promise 3: who comes back gets exactly what was missed, or is told that this cannot be proven."""

import shutil
import subprocess
import threading
import time

import pytest

from tests.faults.people import SERVERS, both, new_item, noted, notes, on_both, settle
from tests.faults.wire import append, blocks
from tests.stack import Stack, eventually, listening


class Curl:
    """The real program, reading a stream until a test has seen enough."""

    def __init__(self, client, path: str, *options: str) -> None:
        program = shutil.which("curl")
        assert program, "install curl"
        self._process = subprocess.Popen(
            [program, "-sN", "--max-time", "20", "-b", f"sessionid={client.cookies['sessionid']}", *options,
             f"{client.base_url}{path}"],
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def until(self, wanted: bytes) -> list[dict]:
        """Return the events up to the one whose block holds some bytes."""
        body = b""
        assert self._process.stdout
        while not (wanted in body and body.endswith(b"\n\n")):
            line = self._process.stdout.readline()
            assert line, f"curl ended: {body!r}"
            body += line
        self._process.terminate()
        self._process.communicate(timeout=5)
        return blocks(body)


@pytest.fixture
def client(rough, request):
    """Alice on one of the servers."""
    return rough.login("alice", rough.url(request.param))


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
    return f"/streams/?channel={one}&channel={two}", dict(rows)


on_each_server = pytest.mark.parametrize("client", SERVERS, indirect=True)


@on_each_server
def test_promise_3_curl_gets_exactly_the_later_events_of_its_channels(client, tape):
    path, ids = tape
    got = Curl(client, path, "-H", f"Last-Event-ID: {ids[0]}").until(b"stream.live")

    assert [each["event"] for each in got] == ["stream.open", "Noted", "Noted", "Noted", "stream.live"]
    assert got[0]["data"]["mode"] == "resumed"
    assert got[0]["id"] == got[0]["data"]["cursor"] == ids[0]
    assert [(each["id"], each["data"]["n"]) for each in got[1:4]] == [(ids[n], n) for n in (2, 3, 5)]


@on_each_server
def test_promise_3_earliest_is_all_that_is_kept(client, tape):
    path, ids = tape
    got = Curl(client, path, "-H", "Last-Event-ID: earliest").until(b"stream.live")

    assert [each["id"] for each in got if each["event"] == "Noted"] == [ids[n] for n in (0, 2, 3, 5)]


@on_each_server
def test_promise_3_the_header_beats_the_query_and_an_empty_one_is_none(client, tape):
    path, ids = tape

    def replayed(query: str, *options: str) -> list[int]:
        got = Curl(client, path + query, *options).until(b"stream.live")
        return [each["data"]["n"] for each in got if each["event"] == "Noted"]

    assert replayed(f"&last_event_id={ids[2]}") == [3, 5]
    assert replayed(f"&lastEventId={ids[3]}") == [5]
    assert replayed(f"&last_event_id={ids[0]}", "-H", f"Last-Event-ID: {ids[3]}") == [5]
    assert replayed(f"&last_event_id={ids[3]}", "-H", "Last-Event-ID;") == [5]
    [opened] = Curl(client, path + "&last_event_id=", "-H", "Last-Event-ID;").until(b"stream.open")
    assert opened["data"]["mode"] == "live"


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("epoch", lambda cursor: "0123456789-" + cursor.partition("-")[2]),
        ("ahead", lambda cursor: cursor.partition("-")[0] + "-" + str(10**12)),
        ("malformed", lambda cursor: "garbage"),
        ("malformed", lambda cursor: cursor + "-1"),
        ("malformed", lambda cursor: cursor.replace("-", "-0")),
        ("malformed", lambda cursor: "9" * 5000),
    ],
)
def test_promise_3_an_id_that_proves_nothing_is_reset_then_live(rough, tape, reason, make):
    path, ids = tape
    assert_reset(rough, path, make(ids[0]), reason)


def test_promise_3_a_pruned_id_is_reset_and_the_last_one_kept_is_not(rough, tape):
    path, ids = tape
    _, _, position = ids[2].partition("-")
    with rough.connect() as connection:
        while not connection.execute("SELECT done FROM tickertape_prune(%s, 1000)", [position]).fetchone()[0]:
            pass

    for name in SERVERS:
        client = rough.login("alice", rough.url(name))

        def forgotten(client=client) -> bool:
            """The hub, which may still hold what was pruned, has looked at the log."""
            with listening(client, path, last_event_id=ids[0]) as stream:
                return stream.opened.data["mode"] == "reset"

        eventually(forgotten)
        for cursor in (ids[2], "earliest"):  # what comes next is still there
            with listening(client, path, last_event_id=cursor) as stream:
                got = stream.until(lambda got: got.event == "stream.live")
                assert stream.opened.data["mode"] == "resumed"
                assert notes(got) == [3, 5]
    assert_reset(rough, path, ids[0], "pruned")


def test_promise_3_a_new_epoch_resets_open_streams_and_old_ids(rough, tape):
    path, ids = tape
    alice = both(rough, "alice")
    with on_both(rough, alice, path, last_event_id=ids[3]) as streams:
        for stream in streams.values():
            stream.until(lambda got: got.event == "stream.live")
        rough.manage("shell", "--verbosity=0", "-c", "from events import log; log.new_epoch()")
        for stream in streams.values():
            [*before, reset] = stream.until(lambda got: got.event == "stream.reset")
            assert not notes(before)
            assert reset.data["reason"] == "epoch"
            assert reset.id.partition("-")[0] != ids[0].partition("-")[0]
        with rough.connect() as connection:
            append(connection, path.partition("channel=")[2].partition("&")[0], data={"n": "new"})
        for stream in streams.values():
            assert notes(stream.until(noted("new"))) == ["new"]
    assert_reset(rough, path, ids[5], "epoch")


def test_promise_3_events_placed_while_others_replay_arrive_once(rough):
    # Writers go on all the while readers come, drop and come back with their last id.
    alice = both(rough, "alice")
    channel = f"item:{new_item(alice['daphne'])}"
    path = f"/streams/?channel={channel}"
    total = 400
    begin = settle(rough)

    def write() -> None:
        with rough.connect() as connection:
            for n in range(total):
                append(connection, channel, data={"n": n})
                time.sleep(0.005)

    def read(name: str) -> None:
        cursor = begin
        while not found[name] or found[name][-1] != total - 1:
            with listening(alice[name], path, last_event_id=cursor) as stream:
                for _ in range(30):
                    got = stream.next()
                    cursor = got.id
                    found[name] += notes([got])
                    if found[name][-1:] == [total - 1]:
                        break

    found: dict[str, list[int]] = {name: [] for name in SERVERS}
    running = [threading.Thread(target=write)]
    running += [threading.Thread(target=read, args=(name,)) for name in SERVERS]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(40)
    assert found == {name: list(range(total)) for name in SERVERS}


def assert_reset(stack: Stack, path: str, cursor: str, reason: str) -> None:
    """Check that a cursor is answered with a reset on both servers, and that the stream then lives."""
    alice = both(stack, "alice")
    channel = path.partition("channel=")[2].partition("&")[0]
    with on_both(stack, alice, path, last_event_id=cursor) as streams, stack.connect() as connection:
        mark = f"after {reason} of {time.monotonic()}"
        for stream in streams.values():
            reset = stream.next()
            assert (stream.opened.event, stream.opened.data["mode"]) == ("stream.open", "reset")
            assert (reset.event, reset.data["reason"]) == ("stream.reset", reason)
            assert reset.id == stream.opened.id == stream.opened.data["cursor"]
            assert reset.data["oldest"]
        append(connection, channel, data={"n": mark})
        for stream in streams.values():
            assert notes(stream.until(noted(mark))) == [mark]

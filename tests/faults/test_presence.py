"""Who has an item open, as people see it: over both servers, and gone when they are, however they went."""

import contextlib
import ctypes
import socket
import struct
import time

import pytest
import redis

from tests.faults.people import at_best, both, new_item
from tests.faults.wire import Wire
from tests.stack import Got, Listener, Stack, eventually, listening

GONE_SECONDS = 30  # however somebody left
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27


@pytest.fixture(scope="module")
def apart(postgres, valkey, tmp_path_factory):
    """A stack as production has it, with heartbeats and all, to lose processes of."""
    with Stack(postgres, valkey, tmp_path_factory.mktemp("apart"), name="apart") as stack:
        stack.start("daphne", "uvicorn", "worker")
        yield stack


def users(got: Got) -> set[str]:
    return {user["username"] for user in got.data["users"]}


def shows(stream: Listener, *names: str, seconds: float = 20) -> Got:
    """Wait until a stream shows just these, and all of them counted."""
    wanted = set(names)
    got = stream.until(
        lambda got: got.event == "PresenceChanged" and users(got) == wanted, seconds=seconds
    )[-1]  # fmt: skip
    assert got.data["total"] == len(wanted)
    return got


def asked(client, item):
    answer = client.get(f"/api/items/{item}/presence")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"users", "total"}
    return sorted(user["username"] for user in body["users"]), body["total"]


def watching(client, item):
    return listening(client, f"/streams/items/{item}/", presence=True)


def test_two_people_on_two_servers_see_each_other_come_and_go(apart):
    alice, bob = both(apart, "alice"), both(apart, "bob")
    item = new_item(alice["daphne"])
    with contextlib.ExitStack() as tabs, watching(alice["daphne"], item) as one:
        assert shows(one, "alice").data["item_id"] == item
        second = tabs.enter_context(watching(alice["uvicorn"], item))
        shows(second, "alice")

        def gone() -> float:
            """How long it is until one who was there is seen no more."""
            with watching(bob["uvicorn"], item) as other, watching(bob["daphne"], item) as another:
                for stream in (one, second, other, another):
                    shows(stream, "alice", "bob")
                eventually(
                    lambda: (
                        asked(bob["daphne"], item) == asked(alice["uvicorn"], item)
                        and asked(bob["daphne"], item) == (["alice", "bob"], 2)
                    )
                )
            began = time.monotonic()
            shows(one, "alice")
            return time.monotonic() - began

        assert at_best(gone, lambda found: found < 4) < 4
        eventually(lambda: asked(alice["daphne"], item) == (["alice"], 1), seconds=20)


def test_who_hides_is_shown_to_nobody_on_any_server_until_they_show_themselves(apart):
    alice, bob = both(apart, "alice"), both(apart, "bob")
    item = new_item(alice["daphne"])
    with watching(alice["daphne"], item) as one, watching(bob["uvicorn"], item) as other:
        shows(one, "alice", "bob")
        try:
            assert bob["daphne"].put("/api/preferences", json={"presence": "hidden"}).status_code == 204
            shows(one, "alice")
            shows(other, "alice")
            with watching(bob["daphne"], item) as another:
                shows(another, "alice")
                eventually(lambda: asked(bob["daphne"], item) == (["alice"], 1), seconds=20)
        finally:
            assert bob["daphne"].put("/api/preferences", json={"presence": "shown"}).status_code == 204
        shows(one, "alice", "bob")


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_who_may_not_read_the_item_learns_no_name(apart, server):
    alice, bob = apart.login("alice", apart.url(server)), apart.login("bob", apart.url(server))
    item = new_item(alice, visibility="members")
    with watching(alice, item) as one:
        shows(one, "alice")
        refused = bob.get(f"/api/items/{item}/presence")
        assert (refused.status_code, refused.json()["code"]) == (403, "item_forbidden")
        assert "alice" not in refused.text
        assert bob.get("/api/items/999999/presence").json()["code"] == "item_unknown"
        assert bob.get("/api/items/0/presence").status_code == 404
        bob.cookies.clear()
        assert bob.get(f"/api/items/{item}/presence").status_code == 401


def removed(stack, owner, user_id, item):
    assert owner.delete(f"/api/items/{item}/members/{user_id}").status_code == 204


def disabled(stack, owner, user_id, item):
    with stack.connect() as connection:
        connection.execute("UPDATE auth_user SET is_active = false WHERE id = %s", [user_id])


def erased(stack, owner, user_id, item):
    stack.manage("erase_user", user_id, "--id", "--yes", "--by", "admin", "--no-vacuum")


@pytest.mark.parametrize("how", [removed, disabled, erased])
def test_whose_right_was_taken_away_is_seen_no_more(apart, how):
    alice = apart.login("alice")
    item = new_item(alice, visibility="members")
    name = f"mallory-{how.__name__}"
    apart.manage(
        "shell", "-c",
        "from django.contrib.auth.models import User;"
        f"User.objects.create_user({name!r}, password='demo-{name}')",
    )  # fmt: skip
    mallory = apart.login(name, apart.url("uvicorn"))
    with apart.connect() as connection:
        [user_id] = connection.execute("SELECT id FROM auth_user WHERE username = %s", [name]).fetchone()
    assert alice.put(f"/api/items/{item}/members/{user_id}").status_code == 204
    with watching(alice, item) as one, watching(mallory, item):
        shows(one, "alice", name)
        how(apart, alice, str(user_id), item)
        shows(one, "alice", seconds=20)
        assert asked(alice, item) == (["alice"], 1)
        server = redis.Redis.from_url(apart.valkey.url)
        assert all(name.encode() not in value for value in server.hvals(f"apart:present:item:{item}"))
        server.close()


def test_the_people_of_a_process_that_was_killed_are_gone(apart, figure):
    alice, bob = apart.login("alice", apart.url("daphne")), apart.login("bob", apart.url("uvicorn"))
    item, unseen = new_item(alice), new_item(alice)
    with watching(alice, item) as one, watching(bob, item), watching(bob, unseen):
        shows(one, "alice", "bob")
        eventually(lambda: asked(alice, unseen) == (["bob"], 1))
        began = time.monotonic()
        apart.kill("uvicorn")
        try:
            shows(one, "alice", seconds=GONE_SECONDS)
            figure(f"presence: a killed process' people are gone after {time.monotonic() - began:.1f} s")
            assert asked(alice, item) == (["alice"], 1)
            # Nobody else has this one open, so it is left to expire.
            left = GONE_SECONDS - (time.monotonic() - began)
            eventually(lambda: asked(alice, unseen) == ([], 0), seconds=left, every=0.5)
            figure(f"presence: where nobody else looks, after {time.monotonic() - began:.1f} s")
        finally:
            apart.start("uvicorn")


def lose(sock: socket.socket) -> None:
    """Have the kernel drop whatever comes for a socket before TCP sees it: nobody acknowledges any more."""
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HL", 1, ctypes.addressof(drop))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def test_who_lost_the_network_without_a_word_is_gone_and_who_is_slow_is_not(apart, figure):
    alice, bob = apart.login("alice"), apart.login("bob", apart.url("daphne"))
    carol, slow = apart.login("carol", apart.url("uvicorn")), apart.login("admin")
    item = new_item(alice)
    path = f"/streams/items/{item}/"
    with (
        watching(alice, item) as one,
        Wire(bob, path) as lost,
        Wire(carol, path) as lost_too,
        Wire(slow, path, receive_buffer=2048) as full,
    ):
        everyone = ("alice", "bob", "carol", "admin")
        shows(one, *everyone)
        # A slow peer acknowledges, or says that it has no room.
        for _ in range(20):
            answer = alice.post(f"/api/items/{item}/comments", json={"text": "x" * 19_000})
            assert answer.status_code == 201
        for wire in (lost, lost_too):
            wire.until(b"CommentAdded")
            lose(wire.socket)
        began = time.monotonic()
        shows(one, "alice", "admin", seconds=GONE_SECONDS)
        figure(f"presence: who is on a half-open connection is gone after {time.monotonic() - began:.1f} s")
        assert asked(alice, item) == (["admin", "alice"], 2)
        for wire in (lost, lost_too):
            wire.socket.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)  # the network is back
        shows(one, *everyone, seconds=GONE_SECONDS)
        assert not full.closed


def test_redis_emptied_heals_by_itself(apart):
    alice, bob = apart.login("alice", apart.url("daphne")), apart.login("bob", apart.url("uvicorn"))
    item = new_item(alice)
    with watching(alice, item) as one, watching(bob, item) as other:
        shows(one, "alice", "bob")
        server = redis.Redis.from_url(apart.valkey.url)
        server.flushall()
        server.close()
        eventually(lambda: asked(alice, item) == (["alice", "bob"], 2))
        time.sleep(2)
        for stream in (one, other):
            assert users([got for got in stream.all if got.event == "PresenceChanged"][-1]) == {
                "alice",
                "bob",
            }

"""The JavaScript client where a stream does not come through: a WebSocket, and where that does not, polls."""

import pytest

from tests.browser.hoarding import Hoarder
from tests.stack import eventually, listening
from tests.test_end_to_end import comment, item_of


@pytest.mark.parametrize(("websockets", "way"), [(True, "/ws/streams/"), (False, "/streams/poll/")])
def test_behind_a_proxy_that_keeps_streams_back_the_next_way_is_gone(
    stack, server, open_app, websockets, way
):
    alice = stack.login("alice", server)
    items = [item_of(alice) for _ in range(2)]
    cursor = alice.get(f"/api/items/{items[0]}/comments").json()["cursor"]
    comment(alice, items[0], "before")
    with Hoarder(server, websockets=websockets) as hoarder:
        apps = [open_app(at=hoarder.url) for _ in range(2)]
        sockets: list[str] = []
        for app in apps:
            app.page.on("websocket", lambda socket: sockets.append(socket.url))
        for app, item in zip(apps, items, strict=True):
            app.subscribe(f"item:{item}", after=cursor)
        for app in apps:
            app.ready()
            app.becomes("live", seconds=60)

        comment(alice, items[0], "now")
        comment(alice, items[1], "elsewhere")
        apps[0].hears("before", "now")
        apps[1].hears("elsewhere")
        hoarder.cut()
        comment(alice, items[0], "while it was cut")
        hoarder.restore()

        apps[0].hears("before", "now", "while it was cut", seconds=60)
        apps[0].becomes("live")
        asked = [*sockets, *(url for app in apps for url in app.streams)]
        assert any(way in url for url in asked)
        assert [app.said("resets") for app in apps] == [[], []]


@pytest.mark.parametrize("way", ["websocket", "poll"])
def test_a_place_that_cannot_be_gone_on_from_is_said_on_every_way(stack, server, open_app, way):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=server, way=way)

    app.subscribe(f"item:{item}", after="nonsense")
    app.ready()
    comment(alice, item, "on")

    app.hears("on")
    assert app.said("resets") == ["malformed"]


@pytest.mark.parametrize(("websockets", "way"), [(True, "/ws/streams/"), (False, "/streams/poll/")])
def test_ones_own_stream_falls_back_too(stack, server, open_app, websockets, way):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    hers, his = item_of(alice), item_of(bob)
    with Hoarder(server, websockets=websockets) as hoarder:
        app = open_app(at=hoarder.url)
        sockets: list[str] = []
        app.page.on("websocket", lambda socket: sockets.append(socket.url))
        app.subscribe("me", name="mine")
        app.subscribe(f"item:{his}", name="item")
        app.ready("mine")
        app.ready("item")

        comment(bob, hers, "for her")
        comment(bob, his, "beside it")

        app.hears("beside it", name="item")
        eventually(lambda: [each["data"]["item_id"] for each in app.got("mine")] == [str(hers)])
        assert [each["type"] for each in app.got("mine")] == ["NotificationRaised"]
        assert any(way in url for url in [*sockets, *app.streams])


@pytest.mark.parametrize("way", ["websocket", "poll"])
def test_a_refusal_is_told_on_every_way(stack, server, open_app, way):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    hers, his = item_of(alice), item_of(bob, visibility="members")
    app = open_app(at=server, way=way)
    app.subscribe(f"item:{his}", name="his")
    app.subscribe(f"item:{hers}", name="hers")

    eventually(lambda: app.said("overs", "his") == [403])
    app.ready("hers")
    comment(alice, hers, "on")

    app.hears("on", name="hers")


def test_polls_wait_for_what_happens_where_somebody_is_present(stack, server, open_app):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    item = item_of(alice)
    with listening(bob, f"/streams/items/{item}/", presence=True) as present:
        present.until(lambda got: got.event == "PresenceChanged")  # of which each poll is told first
        app = open_app(at=server, way="poll")
        cursor = alice.get(f"/api/items/{item}/comments").json()["cursor"]
        app.subscribe(f"item:{item}", after=cursor, types=["CommentAdded", "PresenceChanged"])

        app.becomes("live")
        comment(alice, item, "heard")
        app.hears("heard")

    assert "PresenceChanged" in [event["type"] for event in app.got()]
    asked = [url for url in app.streams if "/streams/poll/" in url]
    assert len(asked) < 10

"""The inbox of two people with two devices each, on both servers: what one device does, the other hears."""

import contextlib

from tests.stack import eventually, listening
from tests.test_end_to_end import comment, item_of

DEVICES = ("daphne", "uvicorn")


def heard(stream, event):
    """Return the next event of a kind that a stream hears."""
    return stream.until(lambda got: got.event == event)[-1]


def test_a_click_on_one_device_is_on_every_stream_of_that_person(stack):
    """Alice and bob, each with a stream open on either server."""
    alice, bob = ({name: stack.login(who, stack.url(name)) for name in DEVICES} for who in ("alice", "bob"))
    item = item_of(alice["daphne"], title="Shared")
    stack.rest()  # nothing of before is counted or told
    before = alice["daphne"].get("/api/notifications/count").json()["unread"]
    with contextlib.ExitStack() as open_:
        streams = {
            who: [open_.enter_context(listening(client, "/streams/me/")) for client in clients.values()]
            for who, clients in (("alice", alice), ("bob", bob))
        }
        comment(bob["uvicorn"], item, "Look here")
        raised = [
            stream.until(lambda got: got.event == "NotificationRaised")[-1] for stream in streams["alice"]
        ]

        assert raised[0].data == raised[1].data
        assert raised[0].id == raised[1].id
        notification = raised[0].data["notification_id"]
        assert (raised[0].data["kind"], raised[0].data["item_id"]) == ("comment", item)
        assert raised[0].data["message"] == "bob commented on “Shared”"

        # Grouped, under the same id, on both.
        comment(bob["daphne"], item, "And here")
        again = [
            stream.until(lambda got: got.event == "NotificationRaised")[-1] for stream in streams["alice"]
        ]
        assert {(got.data["notification_id"], got.data["count"]) for got in again} == {(notification, 2)}

        # Read on the phone: the other device hears it, and both count the same.
        marked = alice["uvicorn"].post(f"/api/notifications/{notification}/read")
        assert marked.status_code == 204
        for stream in streams["alice"]:
            assert heard(stream, "NotificationsRead").data["notification_ids"] == [notification]
        for client in alice.values():
            assert client.get("/api/notifications/count").json()["unread"] == before

        # Bob hears of none of it, and a mention of him reaches both of his devices.
        comment(alice["daphne"], item, "Thanks, @bob")
        for stream in streams["bob"]:
            [mine] = stream.take(1)
            assert (mine.event, mine.data["kind"]) == ("NotificationRaised", "mention")
        assert bob["daphne"].post(f"/api/notifications/{notification}/read").status_code == 404


def test_a_device_that_was_away_hears_what_it_missed(stack, server):
    """The list's cursor is where its stream goes on: nothing between them, nothing twice."""
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    item = item_of(alice, title="Away")
    comment(bob, item, "one")

    def told():
        """The first is in the inbox."""
        rows = alice.get("/api/notifications?unread=true").json()
        return rows if any(row["item_id"] == item for row in rows["results"]) else None

    listed = eventually(told)
    comment(bob, item, "two")
    assert alice.post(f"/api/items/{item}/seen").status_code == 204

    with listening(alice, "/streams/me/", last_event_id=listed["cursor"]) as stream:
        seen = heard(stream, "NotificationsRead")

    assert stream.opened.data["mode"] == "resumed"
    assert seen.data["item_id"] == item
    assert seen.position > int(listed["cursor"].rpartition("-")[2])

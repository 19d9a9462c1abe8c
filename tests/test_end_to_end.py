"""The main job over HTTP, on both servers: post, stream, drop, resume."""

import httpx

from tests.stack import listening


def item_of(client: httpx.Client, **fields: str) -> str:
    """Make an item and return its id."""
    answer = client.post("/api/items", json={"title": "A thing", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def comment(client: httpx.Client, item: str, text: str) -> str:
    """Comment on an item and return the comment's id."""
    answer = client.post(f"/api/items/{item}/comments", json={"text": text})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_a_comment_reaches_who_looks_at_the_item(stack, server):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    item = item_of(alice)

    with listening(bob, f"/streams/items/{item}/") as stream:
        posted = comment(alice, item, "Hello")
        # The item's own event may come before.
        [*_, got] = stream.until(lambda got: got.event == "CommentAdded")

    assert stream.opened.event == "stream.open"
    assert stream.opened.data["mode"] == "live"
    assert (got.event, got.data["comment_id"], got.data["text"]) == ("CommentAdded", posted, "Hello")


def test_a_client_that_dropped_gets_exactly_what_it_missed(stack, server):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    item = item_of(alice)
    with listening(bob, f"/streams/items/{item}/") as stream:
        first = comment(alice, item, "one")
        [*_, seen] = stream.until(lambda got: got.event == "CommentAdded")
    second = comment(alice, item, "two")
    assert alice.patch(f"/api/comments/{first}", json={"text": "one!"}).status_code == 200
    assert alice.delete(f"/api/comments/{second}").status_code == 204

    with listening(bob, f"/streams/items/{item}/", last_event_id=seen.id) as stream:
        missed = stream.take(3)
        comment(alice, item, "three")
        [live] = stream.take(1)

    assert stream.opened.data["mode"] == "resumed"
    assert [got.event for got in missed] == ["CommentAdded", "CommentUpdated", "CommentDeleted"]
    assert live.data["text"] == "three"
    positions = [got.position for got in (seen, *missed, live)]
    assert positions == sorted(set(positions))

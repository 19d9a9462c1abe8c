"""How long an event is on its way, from the POST's answer into a client's hands."""

import time
from statistics import quantiles

from tests.stack import listening
from tests.test_end_to_end import item_of

COMMENTS = 200


def test_a_comment_is_there_at_once(stack, server, request, figure):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    item = item_of(alice)
    waits = []
    with listening(bob, f"/streams/items/{item}/") as stream:
        for number in range(COMMENTS):
            text = f"comment {number}"
            answer = alice.post(f"/api/items/{item}/comments", json={"text": text})
            answered = time.perf_counter()
            [got] = stream.until(lambda got, text=text: got.data.get("text") == text)[-1:]
            assert answer.json()["id"] == got.data["comment_id"]
            waits.append(max(0.0, got.at - answered) * 1000)

    p50, p99 = quantiles(waits, n=100)[49], quantiles(waits, n=100)[98]
    name = request.node.callspec.params["server"]
    figure(
        f"{name}: from a POST's answer to the event, {COMMENTS} comments: p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )
    assert p50 < 100

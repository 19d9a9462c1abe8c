"""A job's stream over HTTP, on both servers: the state first, then live, and over with the job."""

import json
import time
import uuid

import httpx
import pytest
from httpx_sse import connect_sse

from tests.stack import Listener, eventually, listening


@pytest.fixture
def alice(stack, server):
    return stack.login("alice", server)


def ask(client, **params):
    answer = client.post("/api/jobs/slow", json=params)
    assert answer.status_code == 202, answer.text
    return answer.json()


def ended(client, job):
    def over():
        found = client.get(f"/api/jobs/{job['id']}").json()
        return found if found["state"] in ("complete", "failed", "cancelled") else None

    return eventually(over, seconds=30, every=0.05)


def whole(client, path, *, last_event_id=None):
    """Read a stream to its end."""
    listener = Listener(client, path, last_event_id=last_event_id)
    got = listener.ended(seconds=30)
    listener.close()
    return got


def events(got):
    return [each.event for each in got]


def test_a_job_is_followed_from_the_queue_to_its_end(stack, alice):
    stack.freeze("worker")  # it begins when somebody listens
    try:
        job = ask(alice, steps=4, seconds=2)
        with listening(alice, job["stream"]) as stream:
            stack.thaw("worker")
            got = [stream.opened, *stream.ended(seconds=30)]
    finally:
        stack.thaw("worker")

    assert got[0].event == "stream.open"
    assert got[1].event == "JobState"
    assert [each.event for each in got[-2:]] == ["TaskComplete", "stream.end"]
    assert got[-1].data == {"reason": "over"}
    steps = [each.data["done"] for each in got if each.event == "JobProgressed"]
    assert steps == sorted(steps)
    assert steps[-1] == 4
    assert got[-2].data["result"] == {"steps": 4, "tries": 1}


def test_who_comes_late_gets_the_state_first_and_then_what_happens(alice):
    job = ask(alice, steps=20, seconds=6)
    eventually(lambda: (alice.get(f"/api/jobs/{job['id']}").json()["progress"] or {}).get("done", 0) > 2)

    with listening(alice, job["stream"]) as stream:
        state = stream.next()
        assert (state.event, state.data["state"], state.data["task_type"]) == ("JobState", "running", "slow")
        assert state.data["progress"]["done"] > 2
        told = stream.next()
        assert told.event == "JobProgressed"
        assert told.data["done"] == state.data["progress"]["done"]
        [*_, last] = stream.until(lambda got: got.event == "TaskComplete")
    assert last.data["job_id"] == job["id"]


def test_who_comes_after_the_end_gets_the_state_and_the_end(alice):
    job = ask(alice, steps=1, seconds=0)
    ended(alice, job)

    got = whole(alice, job["stream"])

    assert events(got) == ["stream.open", "JobState", "TaskComplete", "stream.end"]
    assert got[0].data["mode"] == "live"
    assert got[1].data["state"] == "complete"
    assert got[1].data["result"] == {"steps": 1, "tries": 1}
    assert got[2].position == got[0].position + 1, "who drops in between comes back before the end"


def test_a_reconnect_at_or_after_the_end_is_204_and_before_it_gets_the_rest(alice):
    job = ask(alice, steps=1, seconds=0)
    ended(alice, job)
    [*_, final, _over] = whole(alice, job["stream"])
    epoch, _, position = final.id.rpartition("-")

    for place in (int(position), int(position) + 1):
        # One above it is a place only once the log reaches there.
        eventually(
            lambda place=place: place <= int(position) or ended(alice, ask(alice, steps=1, seconds=0)),
            every=0,
        )
        answer = alice.get(job["stream"], headers={"Last-Event-ID": f"{epoch}-{place}"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert alice.get(job["stream"], params={"last_event_id": f"{epoch}-{place}"}).status_code == 204

    got = whole(alice, job["stream"], last_event_id=f"{epoch}-{int(position) - 1}")
    assert events(got) == ["stream.open", "TaskComplete", "stream.end"]
    assert got[0].data["mode"] == "resumed"
    every = whole(alice, job["stream"], last_event_id="earliest")
    assert events(every) == ["stream.open", "JobQueued", "JobStarted", "TaskComplete", "stream.end"]


@pytest.mark.parametrize(
    ("place", "reason"), [("nonsense", "malformed"), ("deadbeef-1", "epoch"), ("{epoch}-999999999", "ahead")]
)
def test_a_place_that_proves_nothing_is_reset_and_gets_the_state_and_the_end(alice, place, reason):
    job = ask(alice, steps=1, seconds=0)
    ended(alice, job)
    epoch = whole(alice, job["stream"])[0].id.rpartition("-")[0]

    got = whole(alice, job["stream"], last_event_id=place.format(epoch=epoch))

    assert events(got) == ["stream.open", "stream.reset", "JobState", "TaskComplete", "stream.end"]
    assert (got[0].data["mode"], got[1].data["reason"]) == ("reset", reason)


def test_a_stream_that_was_open_over_the_end_is_not_taken_up_again(alice):
    """As an EventSource does it: whatever it got last is where it comes back."""
    job = ask(alice, steps=2, seconds=1)
    with listening(alice, job["stream"]) as stream:
        got = [stream.opened, *stream.ended(seconds=30)]
    last = [each.id for each in got if each.id][-1]

    assert alice.get(job["stream"], headers={"Last-Event-ID": last}).status_code == 204


def test_a_cancelled_job_ends_its_streams_too(alice):
    job = ask(alice, steps=10, seconds=60)
    eventually(lambda: alice.get(f"/api/jobs/{job['id']}").json()["state"] == "running")
    with listening(alice, job["stream"]) as stream:
        assert alice.delete(f"/api/jobs/{job['id']}").status_code == 204
        assert events(stream.ended(seconds=20))[-2:] == ["JobCancelled", "stream.end"]


@pytest.mark.parametrize("job_id", ["1", "nope", str(uuid.UUID(int=3)), "x" * 65, "a_b"])
def test_a_forged_id_is_404_or_400(alice, job_id):
    answer = alice.get(f"/streams/jobs/{job_id}/")

    assert answer.status_code in (400, 404)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_another_users_job_is_404(stack, server, alice):
    job = ask(alice, steps=1, seconds=0)
    for name in ("bob", "admin"):
        other = stack.login(name, server)
        assert other.get(job["stream"]).status_code == 404
        assert other.get("/streams/", params={"channel": f"job:{job['id']}"}).status_code == 404
    assert httpx.get(str(alice.base_url) + job["stream"]).status_code == 401


def test_its_owner_hears_of_its_life_on_their_own_channel(alice):
    with listening(alice, "/streams/me/") as stream:
        job = ask(alice, steps=1, seconds=0)
        mine = [
            got
            for got in stream.until(
                lambda got: got.event == "TaskComplete" and got.data["job_id"] == job["id"]
            )
            if got.data.get("job_id") == job["id"]
        ]
    assert events(mine) == ["JobQueued", "JobStarted", "TaskComplete"]


def test_a_stream_of_many_channels_is_told_the_state_and_goes_on_after_the_end(alice):
    first, second = ask(alice, steps=1, seconds=0), ask(alice, steps=4, seconds=5)
    path = f"/streams/?channel=job:{first['id']}&channel=job:{second['id']}"
    states = set()
    with listening(alice, path) as stream:
        while states != {first["id"], second["id"]}:
            got = stream.next()
            assert got.event in ("JobState", "JobProgressed")
            if got.data["job_id"] not in states:
                assert got.event == "JobState", "what is comes before what happens"
            states.add(got.data["job_id"])
        stream.until(lambda got: got.event == "TaskComplete" and got.data["job_id"] == second["id"])


# --- In the answer ---------------------------------------------------------------------------------------


def asked_and_heard(client, name="slow", **params):
    with connect_sse(
        client, "POST", f"/api/jobs/{name}", json=params, headers={"Accept": "text/event-stream"}, timeout=30
    ) as source:
        assert source.response.status_code == 200, source.response.read()
        return [(each.event, json.loads(each.data), each.id) for each in source.iter_sse()]


def test_a_job_is_heard_in_the_answer_to_who_asked(alice):
    got = asked_and_heard(alice, steps=4, seconds=2)

    names = [name for name, _, _ in got]
    assert names[0] == "start"
    assert names[-1] == "complete"
    assert set(names[1:-1]) == {"progress"}
    start, end = got[0][1], got[-1][1]
    assert start == {
        "workflow_id": "slow", "version": "1", "job_id": start["job_id"],
        "stream": f"/streams/jobs/{start['job_id']}/", "timestamp": start["timestamp"],
    }  # fmt: skip
    assert set(end) == {"result", "timestamp"}
    assert end["result"] == {"steps": 4, "tries": 1}
    assert abs(end["timestamp"] - time.time()) < 30
    assert alice.get(start["stream"], headers={"Last-Event-ID": got[-1][2]}).status_code == 204


def test_inputs_are_taken_there_too_and_an_error_is_the_end(alice):
    got = asked_and_heard(alice, inputs={"fail": "error", "seconds": 0})

    name, data, _ = got[-1]
    assert name == "error"
    assert set(data) == {"error", "error_type", "timestamp"}
    assert (data["error"], data["error_type"]) == ("It was told to fail at step 1.", "ToldTo")


def test_what_is_refused_is_refused_before_anything_is_streamed(alice):
    answer = alice.post("/api/jobs/slow", json={"steps": 0}, headers={"Accept": "text/event-stream"})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "steps"


def test_leaving_does_not_cancel(alice):
    with connect_sse(
        alice,
        "POST",
        "/api/jobs/slow",
        json={"steps": 5, "seconds": 2},
        headers={"Accept": "text/event-stream"},
    ) as source:
        start = next(iter(source.iter_sse())).json()

    assert ended(alice, {"id": start["job_id"]})["state"] == "complete"


def test_a_cancel_from_elsewhere_is_heard_as_an_error(alice, stack):
    other = stack.login("alice")
    with connect_sse(
        alice, "POST", "/api/jobs/slow", json={"seconds": 60}, headers={"Accept": "text/event-stream"}
    ) as source:
        heard = source.iter_sse()
        start = next(heard).json()
        assert other.delete(f"/api/jobs/{start['job_id']}").status_code == 204
        *_, last = heard
    assert (last.event, last.json()["error_type"]) == ("error", "Cancelled")


def test_sent_again_with_its_key_it_joins_the_same_job(alice):
    key = str(uuid.uuid4())
    heard = []
    for _ in range(2):
        headers = {"Accept": "text/event-stream", "Idempotency-Key": key}
        with connect_sse(
            alice, "POST", "/api/jobs/slow", json={"steps": 1, "seconds": 0}, headers=headers
        ) as source:
            heard.append([(each.event, each.json()) for each in source.iter_sse()])

    assert heard[0][0][1]["job_id"] == heard[1][0][1]["job_id"]
    assert [each[-1][0] for each in heard] == ["complete", "complete"]

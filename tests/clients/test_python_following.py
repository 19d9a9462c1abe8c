"""What the Python client does next, without a network: waits, ids, tokens, ends."""

import json

import pytest
from tickertape_client import Event, NotLoggedIn, Refused, Reset
from tickertape_client.following import MOST_SECONDS, Following, JobFollowing
from tickertape_client.requests import Attempts, Call, Unavailable

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def frame(event: str, last_id: str = "", **data: object) -> bytes:
    head = f"id: {last_id}\n" if last_id else ""
    return f"{head}event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def opened(mode: str = "live", last_id: str = "e-1", retry: int = 2000) -> bytes:
    return f"retry: {retry}\n".encode() + frame("stream.open", last_id, mode=mode, cursor=last_id, missed=0)


@pytest.fixture
def following():
    made = Following("/streams/", ["item:1"], None)
    made.headers()
    assert made.answered(200, STREAM, b"")
    return made


def test_an_id_counts_when_its_event_is_handed_out_and_not_before(following):
    items = following.feed(opened() + frame("A", "e-2") + frame("B", "e-3"))

    assert next(items) is None
    assert following.cursor == "e-1"
    assert next(items) == Event("A", {}, "e-2")
    assert following.headers() == {"Last-Event-ID": "e-2"}


def test_a_heartbeat_moves_the_id_and_what_is_transient_does_not(following):
    [*_, said] = following.feed(opened() + b":\nid: e-9\n\n" + frame("JobProgressed", done=1))

    assert said == Event("JobProgressed", {"done": 1}, "e-9")
    assert following.cursor == "e-9"


def test_a_reset_that_was_cut_off_before_it_was_said_is_asked_for_again():
    following = Following("/streams/", ["item:1"], "old-7")
    following.headers()
    list(following.feed(opened("reset", "new-3")))

    assert following.headers() == {"Last-Event-ID": "old-7"}
    [_, reset] = following.feed(
        opened("reset", "new-3") + frame("stream.reset", "new-3", reason="epoch", oldest="new-0")
    )
    assert reset == Reset("epoch", "new-0", "new-3")
    assert following.headers() == {"Last-Event-ID": "new-3"}


def test_half_an_event_is_forgotten_with_its_connection(following):
    list(following.feed(opened() + frame("A", "e-2")[:-4]))

    assert following.headers() == {"Last-Event-ID": "e-1"}
    assert list(following.feed(frame("A", "e-2"))) == [Event("A", {}, "e-2")]


def test_states_say_how_the_stream_stands(following):
    states = [following.state]
    list(following.feed(opened("resumed")))
    states.append(following.state)
    list(following.feed(frame("stream.live", "e-2")))
    states.append(following.state)
    following.broke()
    states.append(following.state)

    assert states == ["connecting", "catching-up", "live", "offline"]


def test_waits_are_anything_up_to_a_bound_that_doubles_and_has_an_end(following):
    bounds = []
    for _ in range(8):
        waits = []
        for _ in range(200):
            failures = following._failures
            waits.append(following.broke())
            following._failures = failures
        following.broke()
        bounds.append(max(waits))
        assert min(waits) < 0.2 * max(waits)

    for bound, most in zip(bounds, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert 0.8 * most < bound <= most <= MOST_SECONDS


def test_a_stream_that_opened_makes_the_waits_short_again(following):
    for _ in range(10):
        following.broke()
    following.headers()
    list(following.feed(opened(retry=100)))

    assert max(following.broke() for _ in range(1)) <= 0.1


def test_an_end_that_the_service_chose_has_the_services_wait(following):
    list(following.feed(opened() + b"retry: 1234\n" + frame("stream.end", reason="drain")))

    assert following.ended
    assert not following.over
    assert following.broke() == 1.234
    assert following.state == "connecting"


@pytest.mark.parametrize(
    ("status", "headers", "wait"), [(503, {"retry-after": "3"}, 3), (429, {"retry-after": "999"}, 30)]
)
def test_what_passes_is_waited_for_as_asked_within_reason(following, status, headers, wait):
    following.headers()

    assert not following.answered(status, headers, b"")
    assert following.broke() == wait


def test_204_is_the_end(following):
    following.headers()

    assert not following.answered(204, {}, b"")
    assert following.over


@pytest.mark.parametrize("status", [200, 302, 307])
def test_a_page_of_something_else_is_no_stream_and_passes_once_the_service_was_met(following, status):
    fresh = Following("/streams/", ["item:1"], None)
    fresh.headers()
    with pytest.raises(Refused, match=str(status)):
        fresh.answered(status, {"content-type": "text/html"}, b"<html>")

    following.headers()
    assert not following.answered(status, {"content-type": "text/html"}, b"<html>")
    assert not following.over
    assert following.broke() <= 1
    assert following.state == "offline"


def test_a_token_that_ran_out_is_renewed_once_and_then_refused():
    following = Following("/streams/", ["item:1"], None, renewable=True)
    following.headers()
    assert not following.answered(401, {}, b"")
    assert following.renew
    assert following.broke() == 0

    following.renewed()
    with pytest.raises(NotLoggedIn):
        following.answered(401, {}, b"")


def test_a_stream_that_ended_with_its_token_goes_on_with_another_one():
    following = Following("/streams/", ["item:1"], None, renewable=True)
    following.headers()
    list(following.feed(opened() + frame("stream.end", reason="revoked")))

    assert following.renew


def test_a_job_whose_last_event_is_no_longer_kept_ends_by_its_state():
    following = JobFollowing("7", None)
    following.headers()
    state = frame("JobState", state="complete", result=5, error=None)
    got = list(following.feed(opened() + state + frame("stream.end", reason="over")))

    assert got == [None, Event("complete", {"result": 5}, "e-1")]
    assert following.over


def test_a_request_is_tried_so_often_and_then_given_up():
    attempts = Attempts(Call("POST", "/", tries=3))

    waits = [attempts.heard(503, {"retry-after": "1"}, b""), attempts.failed("cannot be reached")]
    assert 1 <= waits[0] <= 1.5
    assert 0 <= waits[1] <= 1
    with pytest.raises(Unavailable):
        attempts.heard(500, {}, b"")

"""Who publishes: what is sent, how fast, and what is heard of it."""

import contextlib
import itertools
import json
import socket
import threading
from collections import Counter

import pytest

from bench import publishing
from bench.publishing import TICK_SECONDS, ByHttp, Way


class Kept(Way):
    def __init__(self):
        super().__init__()
        self.sent = []

    def send(self, events):
        self.sent += events


class Clock:
    """Time that passes where somebody sleeps, and nowhere else."""

    def __init__(self):
        self.now = 10**12

    def monotonic_ns(self):
        return self.now

    def monotonic(self):
        return self.now / 1e9

    def process_time(self):
        return 0.0

    def sleep(self, seconds):
        self.now += max(1, round(seconds * 1e9))


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(publishing, "time", made := Clock())
    return made


def test_events_are_numbered_by_channel_from_1_on():
    way = Kept()

    way.one("a")
    sent = way.burst("a", 3)
    way.one("b")

    assert [(channel, data.partition(",")[0]) for channel, data in way.sent] == [
        ("a", '{"n":1'), ("a", '{"n":2'), ("a", '{"n":3'), ("a", '{"n":4'), ("b", '{"n":1'),
    ]  # fmt: skip
    assert sent.last == {"a": 4}


def test_a_rate_is_kept_over_channels_by_turns(clock):
    way = Kept()

    sent = way.steady(["a", "b", "c"], rate=1_000, seconds=1.0)

    assert sent.seconds == pytest.approx(1.0, abs=TICK_SECONDS)
    assert sent.events == len(way.sent) == sent.due
    assert sent.due == 997, "those of the last tick are due when it is over"
    assert sum(sent.last.values()) == sent.events
    assert max(sent.last.values()) - min(sent.last.values()) <= 1


@pytest.mark.parametrize(("options", "tick"), [({}, TICK_SECONDS), ({"tick": 0.02}, 0.02)])
def test_what_is_due_in_a_tick_is_sent_together(clock, options, tick):
    way = Kept()

    way.steady(["a"], rate=1_000, seconds=0.2, **options)

    ticks = Counter(stamps(way))
    assert {later - earlier for earlier, later in itertools.pairwise(ticks)} == {int(tick * 1e9)}
    assert set(list(ticks.values())[1:-1]) == {1_000 * tick}


class Slow(Kept):
    """Takes so long to send whatever there is."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds = clock, list(seconds)
        self.now = []

    def send(self, events):
        super().send(events)
        self.now += [self.clock.monotonic_ns()] * len(events)
        self.clock.sleep(self.seconds.pop(0) if self.seconds else 0)


def stamps(way):
    return [json.loads(data)["t"] for _, data in way.sent]


def test_what_is_sent_late_is_late_from_when_it_was_due(clock):
    way = Slow(clock, [0.3])

    sent = way.steady(["a"], rate=100, seconds=0.6)

    due = stamps(way)
    assert {(later - earlier) / 1e6 for earlier, later in itertools.pairwise(due)} <= {8, 12}
    waited = [(now - stamp) / 1e6 for now, stamp in zip(way.now, due, strict=True)]
    assert waited[1] > 280 and 180 < waited[11] < waited[2]  # noqa: PT018 (all that was due in the stall)
    assert sent.late_ms == pytest.approx(waited[1], abs=20)
    assert sent.kept_up


def test_a_publisher_that_cannot_keep_up_says_so(clock):
    way = Slow(clock, [0.1] * 10)
    way.most = 5

    sent = way.steady(["a"], rate=100, seconds=0.5)

    assert not sent.kept_up
    assert sent.due == 50


@pytest.fixture
def peer():
    """Answer each post on one connection by `answer`, a byte at a time where asked to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = {"status": b"201 Created", "piece": 1_000_000}

        def serve():
            link, _ = listener.accept()
            with link, contextlib.suppress(OSError):  # whoever posts may have left
                waiting = b""
                while data := link.recv(65536):
                    waiting += data
                    for _ in range(waiting.count(b"POST ")):
                        answer = b"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nok" % answers["status"]
                        for begin in range(0, len(answer), answers["piece"]):
                            link.send(answer[begin : begin + answers["piece"]])
                    waiting = b""

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname(), answers


@pytest.mark.parametrize("piece", [1, 5, 1_000_000])
def test_every_post_is_answered_before_it_counts_as_sent(peer, piece):
    address, answers = peer
    answers["piece"] = piece

    with contextlib.closing(ByHttp(address, "/pub?channel=", 1)) as way:
        assert way.one("a") == 1
        assert way.one("a") == 2
        assert way._unanswered == [0]


@pytest.mark.parametrize("piece", [1, 1_000_000])
def test_a_post_that_is_refused_is_an_error(peer, piece):
    address, answers = peer
    answers.update(status=b"413 Too Large", piece=piece)

    with (
        contextlib.closing(ByHttp(address, "/pub?channel=", 1)) as way,
        pytest.raises(OSError, match="refused"),
    ):
        way.one("a")

"""Who publishes: what is sent, how fast, and what is heard of it."""

import contextlib
import socket
import threading
import time

import pytest

from bench.publishing import ByHttp, Way


class Kept(Way):
    def __init__(self):
        super().__init__()
        self.sent = []

    def send(self, events):
        self.sent += events


def test_events_are_numbered_by_channel_from_1_on():
    way = Kept()

    way.one("a")
    sent = way.burst("a", 3)
    way.one("b")

    assert [(channel, data.partition(",")[0]) for channel, data in way.sent] == [
        ("a", '{"n":1'), ("a", '{"n":2'), ("a", '{"n":3'), ("a", '{"n":4'), ("b", '{"n":1'),
    ]  # fmt: skip
    assert sent.last == {"a": 4}


def test_a_rate_is_kept_over_channels_by_turns():
    way = Kept()

    began = time.monotonic()
    sent = way.steady(["a", "b", "c"], rate=1_000, seconds=1.0)

    assert time.monotonic() - began > 0.9
    assert 500 <= sent.events == len(way.sent) <= 1_001
    assert sum(sent.last.values()) == sent.events
    assert max(sent.last.values()) - min(sent.last.values()) <= 1


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

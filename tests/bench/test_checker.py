"""The checker: what a stream brought wrongly is noticed, however its bytes are split."""

from collections import Counter

import pytest

from bench.checker import Alone, Follower, Tape
from bench.payload import payload

HEARTBEAT = b":\nid: abcd-7\n\n"
OPENING = b'retry: 1000\nid: abcd-0\nevent: stream.open\ndata: {"mode":"live"}\n\n'


def frame(number, *, at=1_000):
    return f"id: abcd-{number}\nevent: Ticked\ndata: {payload(number, at=at)}\n\n".encode()


def frames(*numbers):
    return b"".join(map(frame, numbers))


class Crowd:
    """Readers of one channel, of which the first is always right."""

    def __init__(self, number=2, *, last=None):
        self.faults = Counter()
        tape = Tape(last)
        self.readers = [Follower(tape, self.faults, sampled=True) for _ in range(number)]

    def feed(self, text, *, pieces=1, now=5_000):
        self.read(self.readers[0], text, pieces=1, now=now)
        for reader in self.readers[1:]:
            self.read(reader, text, pieces=pieces, now=now)

    def read(self, reader, text, *, pieces=1, now=5_000):
        size = -(-len(text) // pieces)
        for begin in range(0, len(text), size):
            reader.feed(text[begin : begin + size], now)
            if isinstance(reader, Follower):
                reader.mark(now)


@pytest.fixture(params=["of a crowd", "alone"])
def read(request):
    """Return what faults a reader has that gets these bytes, in so many pieces, after one got 1 to 9."""

    def read(text, *, pieces=1):
        if request.param == "alone":
            reader = Alone(Counter(), 0)
        else:
            crowd = Crowd(last=0)
            crowd.readers[0].feed(frames(*range(1, 10)), 0)
            reader = crowd.readers[1]
        Crowd.read(None, reader, text, pieces=pieces)
        return dict(reader.faults), reader.count

    return read


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 50, 10_000])
def test_what_is_right_has_no_faults_however_it_is_split(read, pieces):
    assert read(frames(*range(1, 10)), pieces=pieces) == ({}, 9)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 50, 10_000])
def test_a_gap_is_noticed_however_it_is_split(read, pieces):
    assert read(frames(1, 2, 5, 6), pieces=pieces) == ({"gap": 2}, 4)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 50, 10_000])
def test_a_duplicate_is_noticed_however_it_is_split(read, pieces):
    assert read(frames(1, 2, 2, 3), pieces=pieces) == ({"duplicate": 1}, 4)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 50, 10_000])
def test_disorder_is_noticed_however_it_is_split(read, pieces):
    assert read(frames(1, 3, 2, 4), pieces=pieces) == ({"gap": 1, "disorder": 1}, 4)


def test_the_first_event_of_all_is_missed_where_it_is_known(read):
    assert read(frames(2, 3)) == ({"gap": 1}, 2)


def test_a_fault_of_the_first_reader_is_not_the_measure_of_the_others():
    crowd = Crowd(3, last=0)

    crowd.readers[0].feed(frames(1, 3), 0)
    for reader in crowd.readers[1:]:
        reader.feed(frames(1, 2, 3), 0)

    assert dict(crowd.faults) == {"gap": 1}
    assert [reader.last for reader in crowd.readers] == [3, 3, 3]


def test_an_event_with_other_bytes_is_noticed():
    crowd = Crowd()
    crowd.readers[0].feed(frames(1, 2), 0)

    crowd.readers[1].feed(frame(1) + frame(2).replace(b"xxx", b"xyx", 1), 0)

    assert dict(crowd.faults) == {"altered": 1}


@pytest.mark.parametrize("pieces", [1, 3, 200])
def test_heartbeats_come_to_each_at_another_time(pieces):
    crowd = Crowd(3)
    one, two, three = crowd.readers

    crowd.read(one, OPENING + frames(1, 2) + HEARTBEAT + frames(3), pieces=pieces)
    crowd.read(two, OPENING + frame(1) + HEARTBEAT + frames(2, 3) + HEARTBEAT, pieces=pieces)
    crowd.read(three, OPENING + HEARTBEAT + HEARTBEAT + frames(1, 2, 3), pieces=pieces)
    crowd.feed(frames(4, 5), pieces=pieces)

    assert not crowd.faults
    assert [(reader.count, reader.last) for reader in crowd.readers] == [(5, 5)] * 3
    assert all(reader.alone is None for reader in crowd.readers)


def test_readers_take_the_lead_in_turns():
    crowd = Crowd(2)
    one, two = crowd.readers
    text = frames(*range(1, 21))

    for begin in range(0, len(text), 300):
        crowd.read(two, text[begin : begin + 300])
        crowd.read(one, text[begin : begin + 300])
        one, two = two, one

    assert not crowd.faults
    assert [reader.count for reader in crowd.readers] == [20, 20]


def test_a_mark_begins_to_count_anew_and_goes_on_with_the_numbers():
    crowd = Crowd()
    crowd.feed(frames(1, 2, 3))

    crowd.readers[0].tape.begin()
    for reader in crowd.readers:
        reader.begin()
    crowd.feed(frames(5))

    assert dict(crowd.faults) == {"gap": 2}  # 4 did not come to either
    assert [reader.count for reader in crowd.readers] == [1, 1]


def test_latency_is_that_of_each_event():
    crowd = Crowd()

    crowd.read(crowd.readers[0], frame(1, at=100) + frame(2, at=150), now=400)
    crowd.read(crowd.readers[1], frame(1, at=100), now=300)
    crowd.read(crowd.readers[1], frame(2, at=150), now=700)

    assert [reader.late for reader in crowd.readers] == [[300, 250], [200, 550]]


def test_an_event_has_200_bytes_whatever_its_number():
    assert {len(payload(number)) for number in (1, 99, 12_345, 10**9)} == {200}

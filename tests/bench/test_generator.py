"""The load generator's intake: what a piece did to one reader it does to the next, and to no other."""

from collections import Counter

import pytest

from bench.checker import Alone, Follower, Tape
from bench.generator import Group, Intake, Reader
from bench.payload import payload
from bench.wire import Body

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame(number):
    return f"id: abcd-{number}\nevent: Ticked\ndata: {payload(number, at=1)}\n\n".encode()


def chunk(*numbers):
    text = b"".join(map(frame, numbers))
    return b"%x\r\n%s\r\n" % (len(text), text)


class Crowd:
    """Readers of one channel and the buffers that they are read into."""

    def __init__(self, number):
        self.faults = Counter()
        self.intake, self.group = Intake(), Group(Tape(0))
        self.bodies = [Body() for _ in range(number)]
        self.checks = [Follower(self.group.tape, self.faults) for _ in range(number)]
        for body in self.bodies:
            body.feed(HEAD)

    def read(self, reader, raw):
        self.intake.buffer[: len(raw)] = raw
        self.intake.take(len(raw), self.group, self.bodies[reader], self.checks[reader])

    @property
    def counts(self):
        return [check.count for check in self.checks]


@pytest.fixture
def crowd():
    return Crowd(3)


def test_the_same_piece_does_the_same(crowd):
    for raw in (chunk(1), chunk(2) + chunk(3), chunk(4, 5)):
        for reader in range(3):
            crowd.read(reader, raw)

    assert crowd.counts == [5, 5, 5]
    assert not crowd.faults


def test_the_same_piece_twice_is_a_duplicate(crowd):
    crowd.read(0, chunk(1))
    crowd.read(1, chunk(1))
    crowd.read(1, chunk(1))

    assert dict(crowd.faults) == {"duplicate": 1}


def test_a_piece_of_another_place_is_a_gap(crowd):
    for number in (1, 2):
        crowd.read(0, chunk(number))
    crowd.read(1, chunk(2))

    assert dict(crowd.faults) == {"gap": 1}


def test_one_other_byte_is_noticed(crowd):
    raw = chunk(1) + chunk(2)
    crowd.read(0, raw)
    crowd.read(1, raw)
    crowd.read(2, raw.replace(b'xxx"}\n\n\r\n', b'xxy"}\n\n\r\n'))

    assert crowd.faults.total() == 1
    assert crowd.faults["altered"] == 1


@pytest.mark.parametrize("size", [1, 7, 100, 250, 700])
def test_who_is_at_another_place_is_compared_with_the_tape(crowd, size):
    raw = b"".join(chunk(number) for number in range(1, 10)) + chunk(10, 11, 12)
    crowd.read(0, raw)
    for begin in range(0, len(raw), size):
        crowd.read(1, raw[begin : begin + size])
    for number in range(1, 13):  # joined otherwise
        crowd.read(2, chunk(number))

    assert crowd.counts == [12, 12, 12]
    assert not crowd.faults


@pytest.mark.parametrize("size", [1, 7, 100, 250, 700])
def test_who_leads_may_have_half_an_event(crowd, size):
    raw = b"".join(chunk(number) for number in range(1, 10))
    for begin in range(0, len(raw), size):
        for reader in range(3):
            crowd.read(reader, raw[begin : begin + size])

    assert crowd.counts == [9, 9, 9]
    assert not crowd.faults


def test_a_piece_from_before_the_mark_says_nothing_of_what_comes_after(crowd):
    for reader in range(3):
        crowd.read(reader, chunk(1))
    crowd.group.tape.begin()
    for check in crowd.checks:
        check.begin()
    crowd.intake.forget()
    crowd.read(0, chunk(1))
    crowd.read(1, chunk(2))

    assert dict(crowd.faults) == {"duplicate": 1}
    assert crowd.counts == [1, 1, 0]


@pytest.mark.parametrize("size", [7, 100, 10_000])
def test_who_comes_alone_is_read_when_somebody_asks_and_every_byte_counts(size):
    faults = Counter()
    reader = Reader(None, Group(Tape(0)), Alone(faults, 0))
    reader.body.feed(HEAD)
    raw = chunk(1) + chunk(2, 3) + chunk(5) + chunk(5)
    for place in range(0, len(raw), size):
        reader.unread.append((raw[place : place + size], 1_000 + place))
    assert reader.check.count == 0

    checked = reader.checked
    assert (checked.count, checked.last, dict(faults)) == (5, 5, {"gap": 1, "duplicate": 1})
    ended = len(chunk(1)) - 1  # with the line's end that the event ends with, and not the chunk
    assert checked.late[0] == 1_000 + (ended - 2) // size * size - 1
    assert not reader.checked.rest
    assert checked.count == 5, "it was read once"

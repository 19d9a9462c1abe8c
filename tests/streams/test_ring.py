"""The ring: the newest events, by channel, bounded."""

import pytest

from streams.batch import Batch, Published
from streams.ring import OVERHEAD_BYTES, Ring


def event(position, *channels, size=10):
    return Published(position, channels or ("a",), b"x" * size)


def filled(*events, max_events=100, max_bytes=10**6):
    ring = Ring(max_events=max_events, max_bytes=max_bytes)
    for each in events:
        ring.extend([each], each.position)
    return ring


def positions(events):
    return [each.position for each in events]


def test_it_returns_what_is_above_a_position_in_order():
    ring = filled(event(1), event(2, "b"), event(3), event(4, "a", "b"))
    assert positions(ring.after(["a"], 0)) == [1, 3, 4]
    assert positions(ring.after(["a"], 3)) == [4]
    assert positions(ring.after(["a", "b"], 1)) == [2, 3, 4]
    assert ring.after(["c"], 0) == []


def test_it_holds_no_more_than_its_bounds_and_says_from_where():
    by_count = filled(*(event(n) for n in range(1, 11)), max_events=3)
    assert (by_count.start, by_count.end, len(by_count)) == (7, 10, 3)
    by_bytes = filled(*(event(n, size=100) for n in range(1, 11)), max_bytes=3 * (100 + OVERHEAD_BYTES))
    assert (by_bytes.start, len(by_bytes)) == (7, 3)
    assert positions(by_bytes.after(["a"], 7)) == [8, 9, 10]


def test_one_event_past_the_bound_leaves_it_empty_and_honest():
    ring = filled(event(1), event(2, size=10**6 + 1))
    assert (len(ring), ring.start, ring.end, ring.bytes) == (0, 2, 2, 0)


def test_forgetting_moves_the_start():
    ring = filled(event(1), event(2), event(5))
    ring.forget_below(3)
    assert (ring.start, positions(ring.after(["a"], 2))) == (2, [5])
    ring.forget_below(100)
    assert (ring.start, ring.end, len(ring)) == (5, 5, 0)


def test_a_page_is_bounded_and_says_what_it_covers():
    ring = filled(event(1, size=10), event(2, size=10), event(3, size=50))
    ring.extend([], 9)
    assert ring.page(["a"], 0, max_bytes=20) == ([b"x" * 10] * 2, 2)
    assert ring.page(["a"], 2, max_bytes=20) == ([b"x" * 50], 9)
    assert ring.page(["b"], 0, max_bytes=20) == ([], 9)
    assert ring.page(["a"], 12, max_bytes=20) == ([], 12)


def test_a_batch_reads_back():
    batch = Batch("abcd", 3, 9, (event(4), event(9, "a", "b")))
    assert Batch.unpack(batch.pack()) == batch


SHORT, LONG = (b"\x94\xa1x\x01\x02\x91" + event for event in (b"\x92\x01\x02", b"\x94\x01\x02\x03\x04"))


@pytest.mark.parametrize(
    "message", [b"", b"x", b"\x93\x01\x02\x03", b"\xc1", b"\x94\xa1x\x01\x02\x03", SHORT, LONG]
)
def test_a_message_that_is_no_batch_is_refused(message):
    with pytest.raises(ValueError, match="not a batch"):
        Batch.unpack(message)


@pytest.mark.parametrize("asked", [(), (2,), (5,), (2, 5, 7)])
def test_what_it_holds_does_not_depend_on_when_it_was_asked(asked):
    """Events are sorted by channel only when somebody asks: before, between or after those that it drops."""
    ring = Ring(max_events=4, max_bytes=10**6)
    for n in range(1, 9):
        ring.extend([event(2 * n - 1, "a"), event(2 * n, "a", "b")], 2 * n)
        if n in asked:
            ring.after(["a"], ring.start)
    ring.forget_below(14)
    assert (ring.start, len(ring), ring.bytes) == (13, 3, 3 * (10 + OVERHEAD_BYTES))
    assert positions(ring.after(["a"], 13)) == [14, 15, 16]
    assert positions(ring.after(["b"], 13)) == [14, 16]
    ring.forget_below(100)
    assert ring.after(["a", "b"], 16) == []
    ring.extend([event(17, "b")], 17)
    assert positions(ring.after(["a", "b"], 16)) == [17]

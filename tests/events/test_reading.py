"""Reading the log for some types: their events alone, and the others' positions covered all the same."""

import pytest
from django.db import transaction

from events import log, pages
from events.channels import Channel
from events.registry import EventType

A = Channel("item:1")


class Wanted(EventType):
    """A test's event that somebody reads the log for."""

    n: int
    text: str = ""


class AlsoWanted(EventType):
    """Another one."""

    n: int
    text: str = ""


class Unwanted(EventType):
    """A test's event that is read for nothing."""

    n: int
    text: str = ""


TYPES = {Wanted.name(), AlsoWanted.name()}


@pytest.fixture
def start(database):
    """The head before the test: positions go on from there."""
    while log.place().count:
        pass
    return log.head().position


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Let few positions be many."""
    monkeypatch.setattr(log, "WINDOW", 10)


def tape(pattern):
    """Place an event for each letter: w and a are wanted, W is long, and anything else is not wanted."""
    kinds = {"w": Wanted, "W": Wanted, "a": AlsoWanted}
    with transaction.atomic():
        log.append_all(
            [
                log.new(
                    kinds.get(letter, Unwanted)(n=n, text="x" * 100 if letter == "W" else ""), channels=[A]
                )
                for n, letter in enumerate(pattern, 1)
            ]
        )
    while log.place().count:
        pass


def places(page, start):
    return [entry.position - start for entry in page.entries]


def test_only_these_types_are_read_and_all_is_covered(start, monkeypatch):
    touched = []
    current = pages.current

    def spy(*stored):
        touched.append(stored[0])
        return current(*stored)

    monkeypatch.setattr(pages, "current", spy)
    tape(".w.a..w")

    page = log.read(start, types=TYPES)

    assert places(page, start) == [2, 4, 7]
    assert touched == ["Wanted", "AlsoWanted", "Wanted"]
    assert page.covered_to == page.head == start + 7


def test_a_page_looks_through_so_many_positions_and_no_more(start):
    tape("." * 9 + "w" + "w" + "." * 12)

    first = log.read(start, types=TYPES)
    second = log.read(first.covered_to, types=TYPES)
    third = log.read(second.covered_to, types=TYPES)

    assert (places(first, start), first.covered_to) == ([10], start + 10)
    assert (places(second, start), second.covered_to) == ([11], start + 20)
    assert (places(third, start), third.covered_to) == ([], start + 23)


def test_where_nothing_is_wanted_the_whole_log_is_covered(start):
    tape("." * 25)
    covered = [start]
    while covered[-1] < start + 25:
        page = log.read(covered[-1], types=[])
        assert page.entries == ()
        covered.append(page.covered_to)
    assert covered == [start, start + 10, start + 20, start + 25]


def test_above_the_head_nothing_is_covered(start):
    tape("w")
    assert log.read(start + 1, types=TYPES).covered_to == start + 1
    assert log.read(start + 5, types=TYPES).covered_to == start + 5


def test_what_is_cut_by_count_or_by_bytes_is_covered_up_to_there(start):
    tape(".W.W.W.w..")

    by_count = log.read(start, types=TYPES, limit=2)
    just_all = log.read(start, types=TYPES, limit=4)
    by_bytes = log.read(start, types=TYPES, max_bytes=250)
    too_large = log.read(start, types=TYPES, max_bytes=1)

    assert (places(by_count, start), by_count.covered_to) == ([2, 4], start + 4)
    assert places(just_all, start) == [2, 4, 6, 8]
    assert (places(by_bytes, start), by_bytes.covered_to) == ([2, 4, 6], start + 6)
    assert (places(too_large, start), too_large.covered_to) == ([2], start + 2)
    assert log.read(start + 6, types=TYPES, max_bytes=1).covered_to == start + 10


def test_a_pruned_beginning_takes_no_window(start):
    tape("." * 32 + "w" + "." * 20)
    log.prune(start + 30)

    page = log.read(0, types=TYPES)

    assert page.oldest == start + 31
    assert (places(page, start), page.covered_to) == ([33], start + 40)


def test_positions_that_are_missing_have_nothing_read_twice(start):
    """A log that was restored by hand, say: a window then reaches further than it was meant to."""
    tape("." * 5 + "w" * 20)
    with transaction.atomic(), log.connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = 'replica'")
        cursor.execute("DELETE FROM events_event WHERE position BETWEEN %s AND %s", [start + 1, start + 15])

    page = log.read(start, types=TYPES)

    assert places(page, start) == list(range(16, 26))
    assert page.covered_to == start + 25


@pytest.mark.parametrize("window", [1, 3, 10, 1_000])
@pytest.mark.parametrize("most", [{}, {"limit": 1}, {"limit": 3}, {"max_bytes": 300}, {"max_bytes": 1}])
@pytest.mark.parametrize("pruned", [0, 13])
def test_page_by_page_it_is_what_reading_everything_finds(start, monkeypatch, window, most, pruned):
    monkeypatch.setattr(log, "WINDOW", window)
    tape("w..Wa" + "." * 15 + "WWWWaaaa...wW" + "." * 12 + "a")
    log.prune(start + pruned)
    while log.place().count:
        pass

    wanted = [entry for entry in log.read(start, limit=1_000).entries if entry.type in TYPES]
    found = []
    after, head = start, log.head().position
    while after < head:
        page = log.read(after, types=TYPES, **most)
        assert after < page.covered_to <= head
        assert all(after < entry.position <= page.covered_to for entry in page.entries)
        found += page.entries
        after = page.covered_to
    assert found == wanted

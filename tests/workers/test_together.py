"""Reactions that take many events together: all that holds of one at a time holds of them."""

import threading

import pytest
from django.db import InterfaceError, OperationalError, connection

from events import log
from tests.workers.conftest import WorkTested
from tests.workers.test_reactions import echo, echoes, hurry, react  # noqa: F401 (react is a fixture)
from workers import reactions, together
from workers.models import Checkpoint, Delivery


@pytest.fixture(autouse=True)
def _unpractised(monkeypatch):
    """No event is in doubt, and how many are too many is not known yet."""
    monkeypatch.setattr(together.Held, "_few", {})
    monkeypatch.setattr(reactions, "_doubted", {})


@pytest.fixture
def taken():
    """What a reaction was given, call by call."""
    return []


@pytest.fixture
def all_of_them(react, taken):  # noqa: F811
    """A reaction that echoes many at once, but for those that a test says are broken."""
    broken = set()

    @react(WorkTested, together=True)
    def many(causes):
        taken.append([cause.event.n for cause in causes])
        for cause in causes:
            echo(cause)
        if broken & set(taken[-1]):
            raise ValueError(f"{broken} are broken")

    return broken


def test_they_are_given_many_and_each_is_done_once_in_order(all_of_them, taken, append):
    append(*range(900))
    log.place()
    reactions.run()

    assert echoes() == list(range(900))
    assert [n for some in taken for n in some] == list(range(900))
    assert len(taken) < 50
    Checkpoint.objects.update(position=0)
    reactions.run()
    assert echoes() == list(range(900))


def test_just_the_one_that_fails_waits_with_its_subject(all_of_them, append):
    all_of_them.add(70)
    for n in range(100):
        append(n, channel=f"item:{n % 10 + 10}")
    log.place()
    reactions.run()

    held_up = [70, 80, 90]
    assert echoes() == [n for n in range(100) if n not in held_up]
    assert list(Delivery.objects.order_by("position").values_list("tries", flat=True)) == [1, 0, 0]
    append(100, channel="item:10")
    append(101, channel="item:11")
    log.place()
    reactions.run()
    assert echoes()[-1] == 101, "what comes later waits, too"

    all_of_them.clear()
    hurry()
    reactions.run()
    assert echoes()[-4:] == [70, 80, 90, 100]
    assert not Delivery.objects.exists()


def test_each_that_fails_is_found_and_parked(all_of_them, append, settings):
    settings.WORKERS_REACTION_TRIES = 2
    all_of_them.update({3, 40, 41, 99})
    for n in range(100):
        append(n, channel=f"item:{n + 10}")
    log.place()
    for _ in range(6):
        reactions.run()
        hurry()

    assert sorted(echoes()) == [n for n in range(100) if n not in all_of_them]
    assert Delivery.objects.exclude(parked_at=None).count() == 4


def test_one_under_which_the_session_ends_is_found_and_stops_no_other(react, append, settings):  # noqa: F811
    settings.WORKERS_REACTION_TRIES = 2

    @react(WorkTested, together=True)
    def deadly(causes):
        for cause in causes:
            if cause.event.n == 17:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            echo(cause)

    for n in range(30):
        append(n, channel=f"item:{n + 10}")
    log.place()
    for _ in range(8):
        try:
            reactions.run()
        except (OperationalError, InterfaceError):
            connection.close()
        hurry()

    assert sorted(echoes()) == [n for n in range(30) if n != 17]
    assert Delivery.objects.get().parked_at is not None


def test_of_one_subject_they_come_before_what_another_reaction_does_later(react, append, taken):  # noqa: F811
    @react(WorkTested, together=True)
    def many(causes):
        taken.extend(("many", cause.event.n) for cause in causes)

    @react(WorkTested)
    def one(cause):
        taken.append(("one", cause.event.n))

    append(1, channel="item:1")
    append(2, channel="item:2")
    append(3, channel="item:1")
    log.place()
    reactions.run()
    for subject in ({1, 3}, {2}):
        of_one = [each for each in taken if each[1] in subject]
        assert of_one == [(name, n) for n in sorted(subject) for name in ("many", "one")]


def test_they_are_fewer_where_each_takes_long(react, append, taken, monkeypatch):  # noqa: F811
    """Else one turn would be many: what it locks, people wait for."""
    monkeypatch.setattr(reactions, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(together, "TOGETHER_SECONDS", 0.02)

    @react(WorkTested, together=True)
    def slow(causes):
        taken.append(len(causes))
        threading.Event().wait(0.01 * len(causes))

    append(*range(60))
    log.place()
    reactions.run()

    assert sum(taken) == 60
    assert taken[0] == together.FIRST_TOGETHER
    assert max(taken[1:]) <= 4


def test_a_crowd_after_many_that_were_cheap_is_not_taken_in_one_piece(all_of_them, taken, append):
    append(*range(1_000))
    log.place()
    reactions.run()

    assert max(map(len, taken)) <= together.MOST_TOGETHER
    assert len(taken[0]) == together.FIRST_TOGETHER


def test_halving_ends_with_the_turn(react, append, monkeypatch):  # noqa: F811
    """The clock is over its end when the first try of all fails."""
    tried = []

    @react(WorkTested, together=True)
    def failing(causes):
        tried.append(len(causes))
        monkeypatch.setattr(reactions.time, "monotonic", lambda: float("inf"))
        raise ValueError

    for n in range(8):
        append(n, channel=f"item:{n + 10}")
    log.place()
    reactions._react_to_new()

    assert tried == [8]
    assert set(Delivery.objects.values_list("tries", flat=True)) == {0}
    assert Delivery.objects.count() == 8


def test_two_that_take_many_keep_a_subjects_order(react, append):  # noqa: F811
    done = []

    @react(WorkTested, together=True)
    def one(causes):
        done.extend((cause.event.n, "one") for cause in causes)

    @react(WorkTested, together=True)
    def two(causes):
        done.extend((cause.event.n, "two") for cause in causes)

    append(0, 1, channel="item:10")
    log.place()
    reactions.run()

    assert done == [(0, "one"), (0, "two"), (1, "one"), (1, "two")]


@pytest.fixture
def soon(monkeypatch):
    """Whatever is taken together is done soon."""
    monkeypatch.setattr(together, "TOGETHER_SECONDS", 60)
    monkeypatch.setattr(reactions, "TURN_SECONDS", 60)


def test_many_more_are_taken_where_none_is_for_a_crowd(react, taken, append, soon):  # noqa: F811
    @react(WorkTested, together=True, crowds=lambda subjects: subjects & {"item:7"})
    def many(causes):
        taken.append([(cause.event.n, cause.entry.channels[0]) for cause in causes])

    for n in range(900):
        append(n, channel="item:7" if n in (650, 890) else f"item:{n % 5 + 10}")
    log.place()
    reactions.run()

    assert [n for some in taken for n, _ in some] == list(range(900))
    assert together.MOST_TOGETHER < max(map(len, taken)) <= together.MOST_FOR_FEW
    for some in taken:
        if "item:7" in {channel for _, channel in some}:
            assert len(some) <= together.MOST_TOGETHER
    assert sum("item:7" in {channel for _, channel in some} for some in taken) == 2


def test_whom_it_cannot_be_said_for_is_a_crowd(react, taken, append, soon):  # noqa: F811
    def broken(subjects):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    @react(WorkTested, together=True, crowds=broken)
    def many(causes):
        taken.append([cause.event.n for cause in causes])

    append(*range(300))
    log.place()
    reactions.run()

    assert [n for some in taken for n in some] == list(range(300))
    assert max(map(len, taken)) == together.MOST_TOGETHER

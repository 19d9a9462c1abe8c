"""How much a server sustains: which rates are tried, and which of them count."""

import pytest

from bench.figures import NCHAN
from bench.generator import Heard
from bench.publishing import Sent
from bench.scenarios.ramp import Found, its_own_limit, ramp, shares, wanting
from bench.usage import Usage


class Fake:
    """Server, crowd and publisher in one: late by a second above a limit, and lossy above another."""

    def __init__(self, *, limit, loses=1e9, keeps=1e9):
        self.limit, self.loses, self.keeps = limit, loses, keeps
        self.rate = 0.0

    def usage(self):
        return Usage(0.0, 0, 0)

    def mark(self):
        pass

    def steady(self, channels, *, rate, seconds, tick=None):
        self.rate, self.tick = rate, tick
        events = int(min(rate, self.keeps) * seconds)
        return Sent(events, seconds, 0.5, {"a": events}, int(rate * seconds), 0.0)

    def until(self, targets, *, seconds):
        return True

    def report(self):
        late = {99: 1.0, 100: 2_000.0 if self.rate > self.limit else 2.0}
        faults = {"gap": 1} if self.rate > self.loses else {}
        return Heard(int(self.rate), 1.0, 0.7, 0, faults, late)


def climb(fake, **more):
    options = {"first": 100.0, "factor": 4.0, "halvings": 2, "seconds": 1.0} | more
    steps = list(ramp(fake, fake, fake, ["a"], in_time=lambda heard: heard.late_ms[100] < 1_000, **options))
    found = Found()
    for step in steps:
        found.add(step)
    return [round(step.rate) for step in steps], found


def test_the_rate_is_raised_until_it_is_too_much_and_then_halved_towards_the_limit():
    rates, found = climb(Fake(limit=1_000))

    assert rates == [100, 400, 1_600, 800, 1_131]
    assert (round(found.best.rate), round(found.beyond.rate)) == (800, 1_131)


def test_a_step_whose_last_event_was_late_does_not_count():
    _, found = climb(Fake(limit=399), halvings=0)

    assert (found.best.rate, found.beyond.rate) == (100, 400)
    assert found.beyond.deliveries > found.best.deliveries


def test_a_rate_that_the_publisher_does_not_keep_up_with_does_not_count():
    _, found = climb(Fake(limit=1e9, keeps=300), halvings=0)

    assert (found.best.rate, found.beyond.rate) == (100, 400)


def test_where_the_first_is_too_much_it_gets_slower():
    rates, found = climb(Fake(limit=10), halvings=1)

    assert rates == [100, 25, 6, 12]
    assert found.best.rate == pytest.approx(6.25)


def test_what_sustains_nothing_is_given_up():
    rates, found = climb(Fake(limit=0))

    assert rates == [100, 25, 6, 2]
    assert found.best is None


def test_it_ends_where_something_was_lost():
    rates, found = climb(Fake(limit=1e9, loses=300))

    assert rates == [100, 400]
    assert found.best.rate == 100
    assert (found.best.complete, found.beyond.complete) == (True, False)
    assert "had faults: {'gap': 1}; its limit was not" in wanting(found.beyond)


def test_a_limit_is_shown_to_be_the_servers_own():
    _, found = climb(Fake(limit=1_000))

    said = {each.quantity: each.value for each in shares("many", NCHAN, found)}

    assert {aim.quantity for aim in its_own_limit("many", NCHAN)} <= set(said)
    assert said["CPU of the load generator at that"] == pytest.approx(70)


def test_what_the_parts_behind_a_server_used_stands_beside_its_own():
    used = iter(range(1_000))
    _, found = climb(Fake(limit=1_000), behind=lambda: {"worker": Usage(next(used) / 4, 0, 0)})

    said = {each.quantity: each.value for each in shares("most", NCHAN, found)}

    assert said["CPU of the worker at that"] == pytest.approx(25)


def test_the_publishers_tick_is_as_asked_for():
    fake = Fake(limit=1_000)

    climb(fake, tick=0.05)

    assert fake.tick == 0.05

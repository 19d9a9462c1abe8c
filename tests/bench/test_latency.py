"""From commit to client: what counts as a knee."""

import contextlib
from types import SimpleNamespace

import pytest

from bench.figures import UVICORN
from bench.generator import Heard
from bench.publishing import Sent
from bench.scenarios import latency
from bench.usage import Cores, Usage


class Fake:
    """Context, server, crowd and publisher in one: late above one rate, stuck above another."""

    quick, remarks, cores = True, (), Cores(0, 1)
    subject, address = UVICORN, ("", 0)
    cpu_share = 0.5  # of a core, of the publisher and of the crowd

    def __init__(self, *, late_above=1e9, keeps=1e9):
        self.late_above, self.keeps, self.rate, self.said = late_above, keeps, 0, []
        self.deployment = SimpleNamespace(behind=dict)

    def among(self, *subjects):
        return subjects[:1]

    def pick(self, quick, full):
        return quick

    def remark(self, line):
        self.said.append(line)

    @contextlib.contextmanager
    def _itself(self, *_):
        yield self

    serving = crowd = publisher = _itself

    def usage(self):
        return Usage(0.0, 0, 0)

    def opening(self, channel):
        return b""

    def mark(self, *_):
        pass

    open = mark

    def until(self, targets):
        return True

    def steady(self, channels, *, rate, seconds):
        self.rate = rate
        return Sent(
            int(min(rate, self.keeps) * seconds),
            seconds,
            self.cpu_share,
            {},
            int(rate * seconds),
            0.0,
        )

    def report(self):
        late = 90.0 if self.rate > self.late_above else 5.0
        return Heard(1, 1.0, self.cpu_share, 0, {}, {50: late, 99: late, 100: late})


@pytest.fixture
def cores(monkeypatch):
    """Say how busy both cores are, in % of the time that passes."""
    now = SimpleNamespace(seconds=0.0, share=40.0)

    def clock():
        now.seconds += 1.0
        return now.seconds

    monkeypatch.setattr(latency.time, "monotonic", clock)
    monkeypatch.setattr(latency, "busy", lambda core: now.seconds * now.share / 100)
    monkeypatch.setattr(latency, "stolen", lambda core: 0.0)
    return now


def knees(fake):
    return {each.quantity: each.value for each in latency.run(fake)}[latency.KNEES]


def test_what_comes_in_time_has_no_knee(cores):
    assert knees(Fake()) == 0


def test_late_events_are_a_knee_where_no_core_is_used_up(cores):
    assert knees(Fake(late_above=1_000)) == 1
    cores.share = 100.0
    assert knees(Fake(late_above=1_000)) == 0


def test_where_others_used_the_cores_it_says_that_nothing_is_known(cores):
    cores.share, fake = 100.0, Fake(late_above=1_000)
    knees(fake)
    alone = Fake(late_above=1_000)
    alone.cpu_share = 0.95
    knees(alone)

    assert ["cannot be told" in line for line in fake.said] == [True]
    assert alone.said == []


def test_a_rate_that_cannot_be_appended_is_a_knee_where_no_core_is_used_up(cores):
    fake = Fake(keeps=300)

    assert knees(fake) == 1
    assert "could not be appended" in fake.said[0]
    cores.share = 100.0
    assert knees(Fake(keeps=300)) == 0


def test_a_rate_that_was_not_kept_up_with_has_no_latency(cores):
    found = list(latency.run(Fake(keeps=300)))

    assert {each.at for each in found if each.quantity == latency.LATE} == {50}
    assert {each.at for each in found if each.quantity == "appended late, p99"} == {50, 500}

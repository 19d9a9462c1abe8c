"""Who died because it was told to is known exactly, however late it came by."""

import os
from types import SimpleNamespace

import pytest

from tests.chaos import points
from tests.chaos.faults import Breaker
from tests.chaos.ledger import Record
from tests.chaos.schedule import KINDS, Fault
from workers import clock, sequencer, tasks, wake


@pytest.fixture
def breaker(tmp_path):
    return Breaker(SimpleNamespace(points=tmp_path), Record(), ["item:1"], probed="item:2", seed=1)


def fault(number: int, kind: str = "worker dies while placing") -> Fault:
    return Fault(number, 0.0, KINDS[kind], 0.5, 0.0)


def test_one_worker_takes_a_point_and_is_told_from_all_others_for_good(tmp_path):
    assert not points.take(tmp_path, points.PLACING)
    (tmp_path / points.PLACING).touch()

    assert points.take(tmp_path, points.PLACING)
    assert not points.take(tmp_path, points.PLACING)

    assert points.told(tmp_path) == {os.getpgrp()}
    assert points.told(tmp_path, points.PLACED) == set()


def test_a_fault_knows_who_came_by_and_another_of_its_kind_waits_for_its_own(tmp_path, breaker):
    (tmp_path / points.PLACING).touch()
    assert breaker.reached(fault(1)) is None
    points.take(tmp_path, points.PLACING)

    assert breaker.reached(fault(1)) == os.getpgrp()
    assert breaker.reached(fault(2)) is None
    assert breaker.reached(fault(3, "worker dies in a batch")) is None
    assert breaker.reached(fault(1)) == os.getpgrp()


def test_a_point_is_taken_back_only_where_nobody_came_by(tmp_path, breaker):
    (tmp_path / points.PLACING).touch()
    assert breaker.disarm(fault(1))
    assert not points.take(tmp_path, points.PLACING)

    (tmp_path / points.PLACING).touch()
    points.take(tmp_path, points.PLACING)
    assert not breaker.disarm(fault(1))


def test_a_point_that_could_not_be_armed_is_not_waited_for(breaker):
    assert breaker.disarm(fault(1))


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Who places, by the clock and by the task, with the points put in; and who died."""
    for where, name in (
        (sequencer, "run"), (sequencer.log, "place"),
        (sequencer.Publisher, "_publish"), (sequencer.Publisher, "_move"),
    ):  # fmt: skip
        monkeypatch.setattr(where, name, getattr(where, name))
    works, dead = {}, []

    class Still:
        """A ticker that does not tick."""

        def __init__(self, name, work, **more):
            works[name] = work

        def start(self):
            pass

    monkeypatch.setattr(clock, "Ticker", Still)
    monkeypatch.setattr(points, "die", lambda: dead.append(1))
    monkeypatch.setattr(sequencer.Publisher, "publish", lambda self, placed: True)
    monkeypatch.setattr(sequencer.Publisher, "look", lambda self: None)
    monkeypatch.setattr(wake.Waker, "clear", lambda self, task: None)
    sequencer._here.__dict__.clear()
    counts = [0, 3]
    placed = lambda *args, **more: SimpleNamespace(count=counts[0])  # noqa: E731
    monkeypatch.setattr(sequencer.log, "place", placed)
    points.install(tmp_path)
    clock.Clock(SimpleNamespace()).start(None)
    yield SimpleNamespace(works={"clock": works["sequencer"], "task": tasks.place}, dead=dead, counts=counts)
    sequencer._here.__dict__.clear()


@pytest.mark.parametrize("way", ["clock", "task"])
def test_who_placed_dies_before_it_says_so_and_nobody_who_did_other_work(planted, tmp_path, way):
    (tmp_path / points.DONE).touch()
    tasks._work(lambda: 7)
    planted.works[way]()
    assert not planted.dead, "nothing was placed"

    planted.counts.pop(0)
    planted.works[way]()
    assert planted.dead

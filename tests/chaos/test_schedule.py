"""The schedule of faults: the same seed is the same faults, and a long run has all of them."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.chaos import schedule
from tests.chaos.faults import POINTS

SEEDS = [0, 1, 424_242]
LONG = 13 * 60.0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_schedule_and_another_seed_another(seed):
    assert schedule.plan(seed, LONG) == schedule.plan(seed, LONG)
    assert schedule.plan(seed, LONG) != schedule.plan(seed + 1, LONG)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_of_thirteen_minutes_has_two_hundred_faults_and_every_kind_several_times(seed):
    times = Counter(fault.kind.name for fault in schedule.plan(seed, LONG))

    assert times.total() >= 200
    assert set(times) == set(schedule.KINDS)
    assert min(times.values()) >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_of_three_minutes_has_every_kind(seed):
    assert {fault.kind.name for fault in schedule.plan(seed, 180.0)} == set(schedule.KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_of_one_target_never_overlap_and_some_of_others_do(seed):
    faults = schedule.plan(seed, LONG)
    by_target: dict[str, list[schedule.Fault]] = {}
    for fault in faults:
        by_target.setdefault(fault.kind.target, []).append(fault)

    for several in by_target.values():
        assert all(before.at + before.seconds < after.at for before, after in pairwise(several))
    assert any(before.at + before.seconds > after.at for before, after in pairwise(faults))


def test_every_fault_ends_within_the_run():
    assert all(fault.at + fault.seconds <= 30 for fault in schedule.plan(7, 30.0))


def test_only_what_is_asked_for_is_broken():
    faults = schedule.plan(7, 60.0, ["flush valkey", "kill daphne"])

    assert {fault.kind.name for fault in faults} == {"flush valkey", "kill daphne"}


def test_every_process_is_killed_and_frozen_and_every_point_is_one_of_the_schedule():
    for name in schedule.PROCESSES:
        assert {f"kill {name}", f"freeze {name}"} <= set(schedule.KINDS)
    assert set(POINTS) <= set(schedule.KINDS)

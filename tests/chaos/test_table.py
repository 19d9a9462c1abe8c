"""The table shows every count, also the ones that are 0, and says what is wrong in words."""

import json
from collections import Counter

import pytest

from tests.chaos import table
from tests.chaos.ledger import WRONGS, Verdict
from tests.chaos.recovery import Recovery
from tests.chaos.run import Result


@pytest.fixture
def result() -> Result:
    return Result(
        seed=7,
        seconds=60,
        faults=Counter({"flush valkey": 2, "kill daphne": 1}),
        slowest={"flush valkey": 0.44},
        subscribers=Counter({"lean": 285, "httpx": 6}),
        deliveries=1_234_567,
    )


def test_every_count_is_there_also_where_it_is_0(result):
    shown = table.lines(result)

    for what in WRONGS:
        [line] = [line for line in shown if line.startswith(what)]
        assert line.split()[-1] == "0"
    assert any(line.split() == ["deliveries", "1,234,567"] for line in shown)


def test_each_kind_of_fault_has_its_count_and_slowest_recovery(result):
    shown = [line.split() for line in table.lines(result)]

    assert ["flush", "valkey", "2", "0.4", "s"] in shown
    assert ["kill", "daphne", "1", "never"] in shown


def test_what_is_wrong_is_counted_in_full_and_told_in_part(result):
    for number in range(40):
        result.verdict.blame(Verdict.LOST, f"lean-{number} gave up")

    assert not result.verdict.good
    assert any(line.split() == ["lost", "40"] for line in table.lines(result))
    assert 0 < len(table.blames(result)) < 40
    assert table.blames(result)[0] == "lost: lean-0 gave up"


def test_ends_of_streams_are_counted_by_their_reason(result):
    result.ends.update({"max_age": 1_200, "database": 3})

    shown = [line.split() for line in table.lines(result)]

    assert ["streams", "ended", "by", "us:", "max_age", "1,200"] in shown
    assert ["streams", "ended", "by", "us:", "database", "3"] in shown


def test_a_program_can_read_all_of_it(result):
    result.verdict.blame(Verdict.DUPLICATED, "lean-1 got 3 again")

    read = json.loads(table.as_json(result))

    assert read["seed"] == 7
    assert read["faults"] == {"flush valkey": 2, "kill daphne": 1}
    assert read["wrong"]["duplicated"] == 1
    assert read["wrong"]["lost"] == 0


def test_a_recovery_lasts_until_the_last_subscriber_has_the_probe():
    recovery = Recovery()
    recovery.expect(5, "kill daphne", 0.0, {"lean-1", "lean-2"})

    recovery.heard("lean-1", 4)
    recovery.heard("lean-1", 5)
    recovery.heard("lean-3", 5)
    assert recovery.open == 1
    assert recovery.slowest == {}
    recovery.heard("lean-2", 5)

    assert recovery.open == 0
    assert recovery.slowest["kill daphne"] > 0


def test_a_recovery_that_has_not_come_is_late_until_its_append_is_known_to_have_failed():
    recovery = Recovery()
    recovery.expect(5, "kill daphne", 0.0, {"lean-1", "lean-2"})
    recovery.expect(6, "kill daphne", 0.0, {"lean-3"})
    recovery.heard("lean-2", 5)

    assert recovery.late() == {"kill daphne": {"lean-1", "lean-3"}}
    recovery.forget(6)
    assert recovery.late() == {"kill daphne": {"lean-1"}}
    recovery.heard("lean-1", 5)
    assert recovery.late() == {}

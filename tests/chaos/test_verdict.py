"""What a run is judged by beside the subscribers' tapes: reactions, read models, and what was broken."""

from collections import Counter

import pytest

from tests.chaos.ledger import Comment, Verdict, judge_faults, judge_reactions, judge_rebuilds

# --- what follows from comments ------------------------------------------------------------------

COMMENTS = [Comment(3, "1", "bob"), Comment(5, "1", "carol"), Comment(8, "1", "alice")]
TOLD = {(3, "alice"): 1, (5, "alice"): 1, (5, "bob"): 1, (8, "bob"): 1, (8, "carol"): 1}


def reactions_wrong(told: dict[tuple[int, str], int]) -> dict[str, int]:
    verdict = Verdict()
    judge_reactions({"1": "alice"}, COMMENTS, told, verdict)
    return dict(verdict.counts)


def test_owner_and_earlier_authors_are_told_once_and_later_ones_may_be():
    assert reactions_wrong(TOLD) == {}
    assert reactions_wrong(TOLD | {(3, "carol"): 1}) == {}


@pytest.mark.parametrize("missing", TOLD)
def test_one_who_was_not_told_is_a_loss(missing):
    assert reactions_wrong({key: 1 for key in TOLD if key != missing}) == {Verdict.LOST: 1}


def test_one_who_was_told_again_is_duplicated():
    assert reactions_wrong(TOLD | {(5, "bob"): 3}) == {Verdict.DUPLICATED: 2}


# --- what follows from the log -------------------------------------------------------------------

PRINTED = """Rebuilt comments in 0.1 s: 12 rows, {} removed, {} added.
Rebuilt inbox in 1.4 s: 30 rows, 0 removed, 0 added.
"""


def rebuilds_wrong(names: list[str], printed: str) -> dict[str, int]:
    verdict = Verdict()
    judge_rebuilds(names, printed, verdict)
    return dict(verdict.counts)


def test_read_models_that_a_rebuild_does_not_change_are_good():
    verdict = Verdict()

    assert judge_rebuilds(["comments", "inbox"], PRINTED.format(0, 0), verdict) == 42
    assert verdict.good


@pytest.mark.parametrize("changed", [(1, 0), (0, 1), (2, 2)])
def test_a_read_model_that_a_rebuild_changes_is_wrong(changed):
    assert rebuilds_wrong(["comments", "inbox"], PRINTED.format(*changed)) == {Verdict.STRANGE: 1}


def test_a_read_model_of_which_a_rebuild_says_nothing_is_wrong():
    assert rebuilds_wrong(["comments", "inbox", "jobs"], PRINTED.format(0, 0)) == {Verdict.STRANGE: 1}


# --- what was broken -----------------------------------------------------------------------------


def faults_wrong(done: dict[str, int], missed: dict[str, int], late: dict[str, set[str]]) -> dict[str, int]:
    verdict = Verdict()
    judge_faults(Counter(done), Counter(missed), late, verdict)
    return dict(verdict.counts)


def test_a_kind_of_fault_that_was_never_done_is_wrong():
    assert faults_wrong({"kill beat": 2}, {"kill beat": 1}, {}) == {}
    assert faults_wrong({"kill beat": 2}, {"freeze beat": 1}, {}) == {Verdict.STRANGE: 1}


def test_a_recovery_that_never_came_is_wrong_even_if_another_of_its_kind_did():
    assert faults_wrong({"kill beat": 2}, {}, {"kill beat": {"lean-1", "lean-2"}}) == {Verdict.STRANGE: 1}

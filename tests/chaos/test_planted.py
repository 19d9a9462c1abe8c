"""The ledger can fail: every planted bug makes a run red, and by what such a bug does."""

import json
import subprocess
import sys

import pytest

from tests.chaos.ledger import Verdict
from tests.chaos.planted import PLANTS
from tests.stack import ROOT

# What each bug is to be found by, by one of them at least; it may well do more harm.
FOUND_BY = {
    "skip-a-publish": {Verdict.LOST},
    "drop-last-of-replay": {Verdict.LOST},
    "deaf-to-valkey": {Verdict.LOST},
    # Who stays meets the event that it was told it had; who comes back misses it, or is ahead of the log.
    "heartbeat-ahead": {Verdict.OUT_OF_ORDER, Verdict.LOST, Verdict.RESETS},
    "commit-order": {Verdict.LOST},
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def chaos(folder, *more: str) -> tuple[int, dict[str, int], str]:
    """Return a short run's exit status, its counts of what is wrong, and what it printed."""
    table = folder / "table.json"
    command = [sys.executable, "-m", "tests.chaos", "--minutes", "0.5", "--seed", "1", "--json", table, *more]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    assert table.exists(), done.stdout
    return done.returncode, json.loads(table.read_text())["wrong"], done.stdout


def test_a_run_without_a_bug_is_green(tmp_path):
    status, wrong, printed = chaos(tmp_path)

    assert not any(wrong.values()), printed
    assert status == 0


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name, tmp_path):
    status, wrong, printed = chaos(tmp_path, "--plant", name)

    assert any(wrong[count] for count in FOUND_BY[name]), printed
    assert status == 1

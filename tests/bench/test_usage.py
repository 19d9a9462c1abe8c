"""What a server costs: finer than by ticks, with its children."""

import os
import subprocess
import sys
import time

import pytest

from bench import usage

# Says when it has used so much CPU time, by itself or in a child that has ended, and waits.
SPIN = """
import os, sys, time
def spin(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
child = sys.argv[2] == "child" and os.fork()
if child == 0 and sys.argv[2] == "child":
    spin(float(sys.argv[1]))
    os._exit(0)
if child:
    os.wait()
for line in sys.stdin:
    spin(float(line))
    print(time.process_time_ns(), flush=True)
"""


def spinning(seconds, where):
    return subprocess.Popen(
        [sys.executable, "-c", SPIN, str(seconds), where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def spun(process, seconds):
    """Have it use CPU time; return how much it has used by its own clock."""
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return int(process.stdout.readline()) / 1e9


def test_cpu_time_is_told_finer_than_a_tick():
    with spinning(0, "itself") as process:
        spun(process, 0)
        for _ in range(5):
            before = usage.usage([process.pid])
            own = spun(process, 0.0005) - before.cpu_seconds
            found = (usage.usage([process.pid]) - before).cpu_seconds
            assert own <= found < own + 0.002  # writing the line is not in its own
        process.stdin.close()


def test_a_child_that_has_ended_is_counted():
    with spinning(0.2, "child") as process:
        spun(process, 0)
        assert 0.15 < usage.usage([process.pid]).cpu_seconds - usage.cpu_seconds(process.pid) < 0.3
        process.stdin.close()


def test_what_is_gone_has_cost_nothing_that_could_be_told():
    with spinning(0, "itself") as process:
        process.stdin.close()
    assert usage.usage([process.pid]) == usage.Usage(0, 0, 0)


def test_what_was_spent_can_be_divided_by():
    class Still:
        def usage(self):
            return usage.Usage(1.0, 0, 0)

    assert usage.spent(Still(), Still().usage()) > 0


def test_a_core_is_busy_with_whatever_runs_on_it():
    [core, *_] = sorted(os.sched_getaffinity(0))
    with usage.on_core(core):
        before, until = usage.busy(core), time.process_time() + 0.3
        while time.process_time() < until:
            pass
        found = usage.busy(core) - before

    assert found > 0.25

    with pytest.raises(LookupError):
        usage.busy(1_000_000)


def test_what_the_host_took_is_no_work_of_ours(tmp_path, monkeypatch):
    (tmp_path / "stat").write_text("cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 100 20 30 4000 500 6 7 8000 90 0\n")
    monkeypatch.setattr(usage, "STAT", tmp_path / "stat")

    assert usage.busy(1) == pytest.approx(163 / usage.TICKS)
    assert usage.stolen(1) == pytest.approx(8000 / usage.TICKS)

"""What a server costs: finer than by ticks, with its children."""

import mmap
import os
import subprocess
import sys
import time
from itertools import pairwise

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


# Holds as many more bytes as it is told, touched, and waits.
HOLD = """
import mmap, sys
held = []
for line in sys.stdin:
    held.append(mmap.mmap(-1, int(line)))
    for at in range(0, int(line), mmap.PAGESIZE): held[-1][at] = 1
    print(flush=True)
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


def test_memory_is_told_to_the_page():
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def hold(number):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            process.stdout.readline()
            return usage.usage([process.pid]).resident_bytes

        hold(4 * mmap.PAGESIZE)  # and all that doing so takes
        before = [hold(pages * mmap.PAGESIZE) for pages in (4, 11, 18, 25, 30)]
        took = [(after - first) // mmap.PAGESIZE for first, after in pairwise(before)]
        process.stdin.close()
    assert took == pytest.approx([11, 18, 25, 30], abs=2)  # of its own it may touch one or two


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


# A share of each 4 ms, begun so long after a tick of 250 a second: what the tick finds is one thing always.
PHASES = """
import sys, time
share, phase, seconds = map(float, sys.argv[1:])
tick, end = 0.004, time.monotonic() + seconds
while (now := time.monotonic()) < end:
    time.sleep(tick - (now - phase) % tick)
    until = time.process_time() + share * tick
    while time.process_time() < until: pass
print(time.process_time_ns())
"""


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_work_in_step_with_the_ticks_is_told_as_much_as_it_is(share):
    core = max(os.sched_getaffinity(0))
    for phase in (0.0, 0.001, 0.002, 0.003):
        with usage.on_core(core):
            [before, lost], began = [usage.busy(core), usage.stolen(core)], time.monotonic()
            command = [sys.executable, "-c", PHASES, str(share), str(phase), "0.8"]
            own = int(subprocess.run(command, capture_output=True, check=True).stdout) / 1e9
            found, passed = usage.busy(core) - before, time.monotonic() - began

        # Others may run there, and each waking costs the kernel something: so more it may be, but not less.
        assert own - 0.05 <= found <= passed + 0.05, (
            f"of {passed:.2f} s, {usage.stolen(core) - lost:.2f} stolen"
        )


def test_what_the_host_took_is_no_work_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, "STAT", tmp_path / "stat")
    monkeypatch.setattr(usage.time, "monotonic", iter([50.0, 60.0]).__next__)
    found = []
    for idle, disk, taken in ((100, 10, 20), (350, 60, 120)):
        line = f"cpu1 7 7 7 {idle} {disk} 7 7 {taken} 7 0"
        (tmp_path / "stat").write_text(f"cpu  9 9 9 9 9 9 9 9 9 9\n{line}\n")
        found.append((usage.busy(1), usage.stolen(1)))

    [(before, lost), (after, more)] = found
    assert after - before == pytest.approx(10 - 400 / usage.TICKS)
    assert more - lost == pytest.approx(100 / usage.TICKS)

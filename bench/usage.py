"""What a server costs: CPU time and memory of a process with all its descendants, from /proc."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from project import processes

TICKS = os.sysconf("SC_CLK_TCK")
STAT = Path("/proc/stat")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of some processes together; the CPU time includes that of children that are gone."""

    cpu_seconds: float
    resident_bytes: int
    threads: int

    def __sub__(self, earlier: "Usage") -> "Usage":
        return Usage(
            self.cpu_seconds - earlier.cpu_seconds,
            self.resident_bytes - earlier.resident_bytes,
            self.threads - earlier.threads,
        )


class HasUsage(Protocol):
    """What can say what it cost so far."""

    def usage(self) -> Usage:
        """Return it."""


def usage(pids: Iterable[int]) -> Usage:
    """Return the usage of some processes and their descendants."""
    cpu, threads = 0.0, 0
    resident: dict[int, int] = {}
    for pid in {member for root in pids for member in (root, *processes.descendants(root))}:
        try:
            # From the state on: the name before it may hold anything. cutime and cstime, threads, rss.
            words = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
            cpu += cpu_seconds(pid)
        except OSError:
            continue
        cpu += sum(map(int, words[13:15])) / TICKS  # of what has ended there are ticks only
        threads += int(words[17])
        resident[pid] = int(words[21]) * PAGE_BYTES
    return Usage(cpu, sum(_resident_bytes(*each) for each in resident.items()), threads)


def _resident_bytes(pid: int, told: int) -> int:
    """Return what a process holds resident, page by page; where that is not to be had, what its `stat` told.

    That lacks what a core has not yet added to it: up to 32 pages a core (`percpu_counter_add_batch` in the
    kernel's lib/percpu_counter.c), which are an eighth of a kB of each of a thousand streams.
    """
    try:
        lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().split("\n")
    except OSError:  # it has ended, or is another user's
        return told
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Rss:"))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with all threads it has or had, to the nanosecond; not its children's.

    The clock of the id is as <linux/posix-timers.h> makes it; /proc counts by 10 ms. Raises OSError.
    """
    return time.clock_gettime_ns(~pid << 3 | 2) / 1e9


def busy(core: int) -> float:
    """Return a clock of a core's work, for whomever in this machine, in seconds: only differences count.

    It is the time that passed less what the core was idle, waited for the disk (it could have worked) or had
    no time from its host (that is `stolen`). The columns that say what it did are no measure: the kernel
    asks at each tick what runs, so what is woken each 4 ms, as our publisher is, always or never does. What
    it did not do is measured as it begins and ends, since a core without work has no ticks (NO_HZ):
    `get_idle_time` in fs/proc/stat.c, by `get_cpu_idle_time_us` in kernel/time/tick-sched.c. To 30 ms.
    """
    _user, _nice, _system, idle, waiting, _interrupts, _softly, taken = _ticks(core)
    return time.monotonic() - (idle + waiting + taken) / TICKS


def stolen(core: int) -> float:
    """Return the seconds that a core had work and its host gave it to other machines, by ticks."""
    return _ticks(core)[-1] / TICKS


def _ticks(core: int) -> list[int]:
    for line in STAT.read_text().split("\n"):
        if line.startswith(f"cpu{core} "):
            return [*map(int, line.split()[1:9])]
    raise LookupError(f"there is no core {core}")


def spent(server: HasUsage, before: Usage) -> float:
    """Return the CPU seconds that a server used since; never none, so that it can be divided by."""
    return max((server.usage() - before).cpu_seconds, 1e-6)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the measured server has to itself, and which all else shares."""

    server: int
    rest: int

    @classmethod
    def choose(cls) -> "Cores":
        """Take the first two that we may use; where there is one only, all share it."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[min(1, len(allowed) - 1)])

    @property
    def shared(self) -> bool:
        """Tell whether the server has no core of its own, so that only CPU times mean anything."""
        return self.server == self.rest


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Have what is started meanwhile run on one core: a child inherits it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

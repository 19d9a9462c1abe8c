"""Which core a running process may use: a part is full where its own core is."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from project import processes


@contextmanager
def moved(pids: Iterable[int], core: int) -> Iterator[None]:
    """Have processes, with their children and threads, run on one core meanwhile."""
    threads = {thread: os.sched_getaffinity(thread) for thread in _threads(pids)}
    _move({thread: {core} for thread in threads})
    try:
        yield
    finally:
        # Children that were born meanwhile are where their parents were.
        later = set().union(*threads.values()) or {core}
        _move({thread: threads.get(thread, later) for thread in _threads(pids)})


def precise(pid: int) -> float:
    """Return the CPU seconds of a process's threads that are there, finer than the kernel's ticks."""
    found = [
        (Path("/proc") / str(pid) / "task" / str(each) / "schedstat").read_text() for each in _tasks(pid)
    ]
    return sum(int(each.split()[0]) for each in found) / 1e9


def _tasks(pid: int) -> list[int]:
    return [int(each.name) for each in (Path("/proc") / str(pid) / "task").iterdir()]


def _threads(pids: Iterable[int]) -> list[int]:
    found = []
    for pid in {member for root in pids for member in (root, *processes.descendants(root))}:
        with suppress(OSError):
            found += _tasks(pid)
    return found


def _move(wanted: dict[int, set[int]]) -> None:
    for thread, cores in wanted.items():
        with suppress(OSError):  # it is gone
            os.sched_setaffinity(thread, cores)

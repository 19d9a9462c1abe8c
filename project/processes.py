"""Child processes that cannot outlive us, and the ones of an earlier run that did.

Hides the kernel's details: a child gets a session of its own (a terminal's Ctrl-C reaches only
us), and a signal when we die. What survives all the same is found through /proc by what it is,
never by a bare process id, which may long be someone else's.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LEASH = Path(__file__).with_name("leash.py")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class User:
    """An account that a child runs as."""

    uid: int
    gid: int


def spawn(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    output: int | IO[bytes],
    env: Mapping[str, str] | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    user: User | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, with no input and both outputs to `output`.

    `command[0]` is a path. Call from a thread that lives as long as the child should: the
    kernel sends `death_signal` when that thread ends.
    """
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(death_signal))]
    as_user = [str(user.uid), str(user.gid)] if user else ["-1", "-1"]
    return subprocess.Popen(  # noqa: S603 (the commands are ours)
        [*leash, *as_user, *(str(word) for word in command)],
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def running(pid: int) -> bool:
    """Tell whether a process exists and is not a zombie."""
    try:
        # The name in field 2 may hold spaces and brackets; the state follows the last one.
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return not PROC.is_dir() and _answers(pid)
    except ProcessLookupError:
        return False


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def arguments(pid: int) -> list[str]:
    """Return a process's command line; empty for one that is gone."""
    return _words(pid, "cmdline")


def environment(pid: int) -> list[str]:
    """Return the `NAME=value` words that a process was started with; empty where we may not look."""
    return _words(pid, "environ")


def _words(pid: int, name: str) -> list[str]:
    try:
        return (PROC / str(pid) / name).read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def folder_of(pid: int) -> Path | None:
    """Return the folder that a process works in, where we may look."""
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def descendants(pid: int) -> list[int]:
    """Return the children of a process, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for other in _all():
        try:
            parent = int((PROC / str(other) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(other)
    found: list[int] = []
    queue = [pid]
    while queue:
        queue += children.get(queue[0], [])
        found += children.get(queue.pop(0), [])
    return found


def find(matches: Callable[[int], bool]) -> list[int]:
    """Return the processes, ourselves left out, that `matches`."""
    return [pid for pid in _all() if pid != os.getpid() and matches(pid) and running(pid)]


def _all() -> list[int]:
    return [int(entry.name) for entry in PROC.glob("[0-9]*")] if PROC.is_dir() else []


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes, and wake those that are frozen to hear it; one that is gone meanwhile is none."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)


def wait_gone(pids: Iterable[int], *, seconds: float, reap: Callable[[], object] = int) -> bool:
    """Wait until all have ended; return whether they did in time. `reap` collects our own."""
    waiting = list(pids)
    deadline = time.monotonic() + seconds
    while True:
        reap()
        waiting = [pid for pid in waiting if running(pid)]
        if not waiting or time.monotonic() > deadline:
            return not waiting
        time.sleep(0.02)


def collect(process: subprocess.Popen[bytes], *, seconds: float) -> None:
    """Collect a child of ours that has ended: a zombie may still wait for its last thread."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def end(pids: Iterable[int], *, number: signal.Signals, seconds: float) -> None:
    """Signal processes that are not our children; kill those that are still there after `seconds`."""
    found = list(pids)
    send(found, number)
    if not wait_gone(found, seconds=seconds):
        left = [pid for pid in found if running(pid)]
        send(left, signal.SIGKILL)
        wait_gone(left, seconds=5)

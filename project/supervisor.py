"""The children of one `make run`: started, watched, started again when they die, ended.

Hides pipes, signals and restarts. One thread does it all, because a child's leash is tied to
the thread that started it. Promises that no child is left when `end` returns, and that neither
a slow terminal nor a reader who has gone ever holds anything up.
"""

import json
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from project import processes
from project.embedded import EngineError

LOG_BYTES = 5_000_000  # of one child's file; one older file is kept beside it
LINE_BYTES = 4_000  # at a time to the console: below what a pipe takes without blocking
BACKOFF_SECONDS = (0.5, 1, 2, 4, 8, 15, 30)
STEADY_SECONDS = 30  # a child that lived so long starts again at the shortest wait
KILL_SECONDS = 1.0  # for the kernel to clear away what was killed


class StopAsked(Exception):
    """A signal asked us to stop."""


class Console:
    """Our standard output: lines that cannot be written at once are dropped, and counted."""

    def __init__(self) -> None:
        self._dropped = 0

    def say(self, line: str, *, name: str = "") -> None:
        """Show one line, behind the name of the child it came from."""
        if self._dropped and self._writable():
            self._write(f"… {self._dropped} lines were not shown here; the logs have them\n")
            self._dropped = 0
        prefix = f"{name:<8} | " if name else ""
        if not self._writable():
            self._dropped += 1
            return
        self._write(f"{prefix}{line}\n")

    def _writable(self) -> bool:
        try:
            return bool(select.select([], [1], [], 0)[1])
        except (OSError, ValueError):
            return False

    def _write(self, text: str) -> None:
        try:
            os.write(1, text.encode(errors="replace")[:LINE_BYTES])
        except OSError:  # the terminal or the pipe's reader has gone: the logs go on
            self._dropped += 1


@dataclass(slots=True, eq=False)
class Child:
    """One program that should run, and the process that does it now."""

    name: str
    launch: Callable[[int], subprocess.Popen[bytes]]  # given where to write
    gentle: signal.Signals = signal.SIGTERM
    quiet: bool = False  # what it says goes to its file only
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    retry_at: float | None = None


@dataclass(slots=True, eq=False)
class _Output:
    """The reading end of a child's outputs, and the file they go to."""

    name: str
    path: Path
    pending: bytes = b""
    lines: Callable[[str], None] | None = None


@dataclass(slots=True, eq=False)
class Supervisor:
    """All children by name, in the order in which they were started."""

    folder: Path
    console: Console = field(default_factory=Console)
    children: dict[str, Child] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _stop: bool = False

    def __post_init__(self) -> None:
        (self.folder / "logs").mkdir(exist_ok=True)
        woken, wakes = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a death wakes the loop

    def _ask_to_stop(self, *_: object) -> None:
        self._stop = True

    # --- Running --------------------------------------------------------------------------

    def add(self, child: Child) -> None:
        """Start a child, and start it again whenever it dies; raise EngineError if the first time fails."""
        self.children[child.name] = child
        self._launch(child)

    def once(
        self, name: str, command: list[str | Path], *, lines: Callable[[str], None], **options: object
    ) -> int:
        """Run a program to its end and return its exit code; each line of its output goes to `lines`."""
        reading = self._pipe(name, lines)
        process = processes.spawn(command, output=reading, **options)  # type: ignore[arg-type]
        os.close(reading)
        try:
            self.until(lambda: process.poll() is not None)
        except StopAsked:
            self._kill(process.pid)
            process.wait()
            raise
        self._read_all(0)
        return process.returncode

    def until(self, condition: Callable[[], bool] | None) -> None:
        """Go on until `condition` holds (None: never); raise StopAsked when a signal asks."""
        while condition is None or not condition():
            if self._stop:
                raise StopAsked
            self._read_all(0.05 if condition else 0.5)
            self._revive()

    def _launch(self, child: Child) -> None:
        writing = self._pipe(child.name, (lambda _line: None) if child.quiet else None)
        child.started, child.retry_at = time.monotonic(), None
        try:
            child.process = child.launch(writing)
        finally:
            os.close(writing)
        self._record()

    def _revive(self) -> None:
        now = time.monotonic()
        for child in self.children.values():
            if child.retry_at is not None:
                if now >= child.retry_at:
                    self._relaunch(child)
            elif child.process and child.process.poll() is not None:
                self._kill(child.process.pid)  # what it started, a pool's processes, goes with it
                self._later(child)

    def _relaunch(self, child: Child) -> None:
        try:
            self._launch(child)
        except EngineError as error:
            self.console.say(str(error), name=child.name)
            self._later(child)

    def _later(self, child: Child) -> None:
        now = time.monotonic()
        if now - child.started > STEADY_SECONDS:
            child.failures = 0
        wait = BACKOFF_SECONDS[min(child.failures, len(BACKOFF_SECONDS) - 1)]
        child.failures += 1
        child.retry_at = now + wait
        log = f" (see logs/{child.name}.log)" if child.quiet else ""
        self.console.say(f"{child.name} {_fate(child.process)}{log}; starting it again in {wait:g} s")

    def _record(self) -> None:
        pids = {child.name: child.process.pid for child in self.children.values() if child.process}
        fresh = self.folder / "run.json.new"
        fresh.write_text(json.dumps(pids) + "\n")
        fresh.replace(self.folder / "run.json")

    # --- Output ------------------------------------------------------------------------------

    def _pipe(self, name: str, lines: Callable[[str], None] | None = None) -> int:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        output = _Output(name, self.folder / "logs" / f"{name}.log", lines=lines)
        self._selector.register(reading, selectors.EVENT_READ, output)
        return writing

    def _read_all(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            try:
                got = os.read(key.fd, 65_536)
            except BlockingIOError:
                continue
            if key.data is None:  # a signal's wake
                continue
            self._take(key.data, got)
            if not got:
                self._selector.unregister(key.fd)
                os.close(key.fd)

    def _take(self, output: _Output, got: bytes) -> None:
        *whole, output.pending = (output.pending + got).split(b"\n")
        if not got or len(output.pending) > LINE_BYTES:
            whole, output.pending = [*whole, output.pending], b""
        lines = [line.decode(errors="replace").rstrip() for line in whole]
        shown = [line for line in lines if line]
        if not shown:
            return
        if output.path.exists() and output.path.stat().st_size > LOG_BYTES:
            output.path.replace(output.path.with_suffix(".log.1"))
        with output.path.open("a") as file:
            file.writelines(f"{line}\n" for line in shown)
        for line in shown:
            if output.lines:
                output.lines(line)
            else:
                self.console.say(line, name=output.name)

    # --- The end --------------------------------------------------------------------------------

    def end(self, names: list[str], *, seconds: float) -> None:
        """End some children in order, by force after `seconds`; return when they and theirs are gone."""
        found = [child for name in names if (child := self.children.pop(name, None))]
        ours = [child.process for child in found if child.process]
        family = {pid for process in ours for pid in (process.pid, *processes.descendants(process.pid))}
        for child in found:
            if child.process and child.process.poll() is None:
                processes.send([child.process.pid], child.gentle)
        processes.send(family, signal.SIGCONT)
        if not self._gone(family, ours, seconds):
            processes.send((pid for pid in family if processes.running(pid)), signal.SIGKILL)
        for process in ours:
            self._kill(process.pid)
        self._gone(family, ours, KILL_SECONDS)
        for process in ours:
            processes.collect(process, seconds=KILL_SECONDS)

    def _gone(self, family: set[int], ours: list[subprocess.Popen[bytes]], seconds: float) -> bool:
        def reap() -> None:
            self._read_all(0)  # a child must not hang on a full pipe while it says goodbye
            for process in ours:
                process.poll()

        return processes.wait_gone(family, seconds=seconds, reap=reap)

    def _kill(self, leader: int) -> None:
        # Every child leads a session and a group of its own; its own children stay in them.
        try:
            os.killpg(leader, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def _fate(process: subprocess.Popen[bytes] | None) -> str:
    if process is None or process.returncode is None:
        return "did not start"
    if process.returncode < 0:
        return f"was ended by {signal.Signals(-process.returncode).name}"
    return f"ended with exit code {process.returncode}"


def fail(line: str) -> int:
    """Say why nothing was started, in one line; return the exit code."""
    sys.stderr.write(f"tickertape: {line}\n")
    return 1

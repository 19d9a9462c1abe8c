"""Management commands as processes: in a pipe, on a terminal, interrupted."""

import os
import pty
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Self

from tests.stack import ROOT


def manage(
    *arguments: str,
    given: str | bytes = b"",
    env: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
) -> tuple[int, str, str]:
    """Run a command to its end; return its status, what it printed and what it complained of."""
    ran = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=env or os.environ, capture_output=True,
        input=given.encode() if isinstance(given, str) else given, timeout=60,
    )  # fmt: skip
    return ran.returncode, ran.stdout.decode(encoding), ran.stderr.decode(encoding)


def shell(script: str) -> tuple[int, str, str]:
    """Run a line of bash, in which `manage` is the command."""
    line = f'manage() {{ "{sys.executable}" manage.py "$@"; }}; {script}'
    ran = subprocess.run(["bash", "-c", line], cwd=ROOT, text=True, capture_output=True, timeout=60)
    return ran.returncode, ran.stdout, ran.stderr


def on_terminal(*arguments: str) -> str:
    """Run a command on a terminal of its own; return what is on it."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm-256color"},
    ) as running:  # fmt: skip
        os.close(slave)
        said = b""
        try:
            while piece := os.read(master, 65_536):
                said += piece
        except OSError:  # Linux says EIO where the other end is closed
            pass
        running.wait(30)
    os.close(master)
    return said.decode()


def cut_short(*arguments: str, after: int, number: int) -> tuple[list[str], str]:
    """Send a signal to a command after some lines; return all the lines, and what it complained of."""
    with subprocess.Popen(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        lines = [running.stdout.readline() for _ in range(after)]
        running.send_signal(number)
        lines += running.stdout.readlines()
        said = running.stderr.read()
        assert running.wait(30) == 0, said
    return lines, said


class Running:
    """A command that goes on, its lines read as they come."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=env or os.environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.complaints: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._complain, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def _complain(self) -> None:
        for line in self._process.stderr:
            self.complaints.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        for thread in self._threads:
            thread.join(10)
        self._process.stdout.close()
        self._process.stderr.close()

    def next(self, *, seconds: float = 30) -> str:
        """Return the next line; fail at the end."""
        line = self._queue.get(timeout=seconds)
        assert line is not None, f"it ended: {self.complaints}"
        return line

    def take(self, number: int) -> list[str]:
        return [self.next() for _ in range(number)]

    def complaint(self, *, seconds: float = 30) -> str:
        """Wait for a line of complaint; return the first that there is."""
        deadline = time.monotonic() + seconds
        while not self.complaints:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)
        return self.complaints[0]

    def interrupt(self, number: int = signal.SIGINT, *, status: int = 0) -> list[str]:
        """Have it end as Ctrl-C does; return what it complained of."""
        self._process.send_signal(number)
        assert self._process.wait(20) == status, self.complaints
        for thread in self._threads:
            thread.join(10)
        return self.complaints

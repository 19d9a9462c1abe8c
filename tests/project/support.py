"""What the tests of the house share: runs of `make run`'s program, and whether processes live."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from project.embedded import free_port
from tests.stack import ROOT, eventually

CHILDREN = {"postgres", "valkey", "web", "worker", "jobs", "beat"}
START_SECONDS = 40  # on a machine that does much else
PROGRAM = [sys.executable, "-m", "project.run"]


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie has ended, whoever collects it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment(**given: str) -> dict[str, str]:
    """Return a plain user's environment: nothing of the tests' own settings."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | given


class Running:
    """One run, in a data folder and on a port of its own."""

    def __init__(self, folder: Path, *, port: int | None = None, **given: str) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.printed = folder.parent / f"{folder.name}-{time.monotonic_ns()}.txt"
        with self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                PROGRAM,
                cwd=ROOT,
                env=environment(DATA_DIR=str(folder), PORT=str(self.port), **given),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return all that it printed."""
        return self.printed.read_text()

    def wait_ready(self) -> None:
        """Wait until it says so."""

        def ready() -> bool:
            assert self.process.poll() is None, self.output()
            return "  ready\n" in self.output()

        eventually(ready, seconds=START_SECONDS)

    def pids(self) -> dict[str, int]:
        """Return its children as it names them."""
        found: dict[str, int] = json.loads((self.folder / "run.json").read_text())
        return found

    def get(self, path: str) -> httpx.Response:
        """Ask its web server."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)

    def serving(self) -> bool:
        """Tell whether all of it is well."""
        with contextlib.suppress(httpx.TransportError):
            answer = self.get("/readyz")
            return answer.status_code == 200 and answer.json()["status"] == "ok"
        return False

    def family(self) -> list[int]:
        """Return every process that works for this run, by what it is and not by whose child it is."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                words = [*process.cmdline(), *process.environ().values(), process.cwd()]
                if any(str(self.folder) in word for word in words) and alive(process.pid):
                    found.append(process.pid)
        return found

    def end(self, number: signal.Signals) -> float:
        """Signal the run, wait for its end and return how long that took."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - started

    def clear(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(12)
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        eventually(lambda: self.family() == [])


@contextlib.contextmanager
def run(folder: Path, *, port: int | None = None, **given: str) -> Iterator[Running]:
    """Start a run; leave nothing of it behind."""
    running = Running(folder, port=port, **given)
    try:
        yield running
    finally:
        running.clear()


def refused(folder: Path, *, port: int | None = None, **given: str) -> list[str]:
    """Return what a run that ends with exit code 1 by itself has to say."""
    given |= {"DATA_DIR": str(folder), "PORT": str(port or free_port())}
    ended = subprocess.run(
        PROGRAM, cwd=ROOT, env=environment(**given), text=True, capture_output=True, timeout=30
    )
    lines = (ended.stdout + ended.stderr).splitlines()
    assert ended.returncode == 1, lines
    return lines

"""Servers as processes: started on a core, awaited, and ended, whatever happens meanwhile."""

import http.client
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from bench.usage import Usage, on_core, usage
from project import processes

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class Trouble(Exception):
    """Something that a scenario needs did not come about; the text says what, for a person."""


def wait_for(check: Callable[[], bool], what: str, *, seconds: float = START_SECONDS) -> None:
    """Return once a check holds; raise Trouble where it does not in time."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise Trouble(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


class Process:
    """A program on one core, its output in a file; a context manager that ends it, by force if need be."""

    def __init__(
        self,
        name: str,
        command: list[str | Path],
        *,
        folder: Path,
        core: int,
        cwd: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with on_core(core), self.log.open("ab") as output:
            # On a leash: a run that is killed leaves nothing running.
            self._process = processes.spawn(command, cwd=cwd, output=output, env=env)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        family = [self.pid, *processes.descendants(self.pid)]
        if self._process.poll() is None:
            self._process.terminate()
        if not processes.wait_gone(family, seconds=STOP_SECONDS, reap=self._process.poll):
            processes.end([pid for pid in family if processes.running(pid)], number=signal.SIGKILL, seconds=5)
        processes.collect(self._process, seconds=5)

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()

    def usage(self) -> Usage:
        """Return what it and its children cost so far."""
        return usage([self.pid])

    def await_answer(self, port: int, path: str, *, good: Callable[[int, bytes], bool]) -> None:
        """Return once a GET is answered well; raise Trouble when the process ends or takes too long."""

        def answers() -> bool:
            if self._process.poll() is not None:
                raise Trouble(f"{self.name} ended at its start: {self.last_words()}")
            status, body = get(port, path)
            return good(status, body)

        wait_for(answers, f"{self.name} does not answer on port {port}")

    def last_words(self) -> str:
        """Return the end of what it printed, on one line."""
        return " / ".join(self.log.read_text(errors="replace").strip().split("\n")[-6:])


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET; status 0 where nobody answers."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asked.request("GET", path)
        answer = asked.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        asked.close()

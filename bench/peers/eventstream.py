"""django-eventstream on Daphne, in an environment of its own, by its defaults: without storage."""

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import wire
from bench.figures import EVENTSTREAM
from bench.publishing import HttpPublisher, Publisher
from bench.servers import Process
from bench.usage import Cores, Usage
from project.embedded import free_port

HERE = Path(__file__).resolve().parent
PINS = HERE / "eventstream.lock"
ENVIRONMENTS = HERE.parent.parent / ".data" / "bench" / "peers"


@dataclass(frozen=True, slots=True)
class Eventstream:
    """One Daphne with it that runs."""

    subject: str
    address: tuple[str, int]
    process: Process
    cores: Cores

    def usage(self) -> Usage:
        """Return what the process cost so far."""
        return self.process.usage()

    def opening(self, channel: str, *, last_event_id: str = "") -> bytes:
        """Return the request for a stream."""
        return wire.opening(self.address, f"/events/?channel={channel}", wire.resuming(last_event_id))

    def publisher(self) -> AbstractContextManager[Publisher]:
        """Return who posts to it: `send_event` has to be called in the process that serves."""
        return HttpPublisher(self.address, "/publish/?channel=", self.cores.rest)


@dataclass(frozen=True, slots=True)
class EventstreamStarts:
    """How to start it."""

    subject: str
    python: Path
    folder: Path
    cores: Cores

    @contextmanager
    def start(self, **environment: str) -> Iterator[Eventstream]:
        """Serve until the context is left."""
        port = free_port()
        command: list[str | Path] = [self.python, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port)]
        command += ["-v", "0", "eventstream_app:application"]
        # Nothing of our own environment: it is another project.
        env = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": "1"}
        core = self.cores.server
        with Process(self.subject, command, folder=self.folder, core=core, cwd=HERE, env=env) as process:
            process.await_answer(port, "/alive/", good=lambda status, body: status == 200)
            yield Eventstream(self.subject, ("127.0.0.1", port), process, self.cores)


def find(folder: Path, cores: Cores) -> EventstreamStarts:
    """Return how to start it, installed first if need be; raise LookupError where it cannot be installed."""
    pins = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = ENVIRONMENTS / f"eventstream-{pins}"
    python = home / "bin" / "python"
    if not (home / "made").exists():
        print("installing django-eventstream into an environment of its own ...", flush=True)  # noqa: T201
        try:
            venv.create(home, clear=True, with_pip=True)
            pip: list[str | Path] = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
            subprocess.run([*pip, "--require-hashes", "-r", PINS], check=True)
        except (subprocess.CalledProcessError, OSError) as error:
            raise LookupError(f"it could not be installed ({type(error).__name__})") from None
        (home / "made").touch()
    return EventstreamStarts(EVENTSTREAM, python, folder, cores)

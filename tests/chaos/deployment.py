"""The deployment that is broken: real processes and engines of its own, behind the kit's network."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import psycopg

from project import processes
from project.embedded import Postgres, Valkey
from tests.chaos.network import Network
from tests.stack import Stack

WEB = ("daphne", "uvicorn")
WORKERS = ("worker", "worker2")
ENGINES = ("postgres", "valkey")
END_SECONDS = 8  # for an orderly end of them all

# What production waits long for is short, and what it keeps is little: so that a run of minutes
# meets the ends of streams, falls out of the ring, and needs several pages and messages. Nobody
# is refused for publishing much.
HASTY = {
    "STREAMS_HEARTBEAT_SECONDS": "3",
    "STREAMS_RETRY_SECONDS": "0.5",
    "STREAMS_MAX_AGE_SECONDS": "120",
    "STREAMS_STALL_SECONDS": "15",
    "STREAMS_DRAIN_SECONDS": "0.5",
    "STREAMS_RECHECK_SECONDS": "10",
    "STREAMS_RING_EVENTS": "1000",
    "STREAMS_PAGE_EVENTS": "100",
    "STREAMS_BUFFER_BYTES": "8192",
    "EVENTS_POSTS_PER_MINUTE": "0",
    "SERVE_USER_TIMEOUT_SECONDS": "8",
    "WORKERS_PLACE_BATCH": "50",
    "WORKERS_PUBLISH_BATCH": "20",
}


@dataclass(frozen=True, slots=True)
class Fallen:
    """A process that ended by itself."""

    name: str
    pid: int
    status: int


class Deployment(Stack):
    """Two web processes, two workers, beat, PostgreSQL and Valkey; any of them may be hurt."""

    def __init__(self, folder: Path, *, seed: int, users: int, plant: str | None = None) -> None:
        # PostgreSQL as in production: what it acknowledged is there after any kill.
        super().__init__(
            Postgres(folder / "postgres"), Valkey(folder / "valkey"), folder, name="chaos", **HASTY
        )
        self.points = folder / "points"
        self.user_ids: list[int] = []
        self.network: Network
        self._seed = seed
        self._users = users
        self._plant = plant
        self._down: set[str] = set()  # engines
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.points.mkdir()
        with contextlib.ExitStack() as stack:
            stack.callback(self._end_engines)
            self.postgres.start()
            self.valkey.start()
            stack.callback(self._end_processes)
            super().__enter__()
            self.manage("shell", "--verbosity=0", "-c", _MAKE_USERS.format(count=self._users))
            with self.connect() as connection:
                rows = connection.execute(
                    "SELECT id FROM auth_user WHERE username ~ '^u[0-9]+$' ORDER BY id"
                ).fetchall()
            self.user_ids = [row[0] for row in rows]
            self.start(*WORKERS, "beat", *WEB)
            self.network = stack.enter_context(Network([self.ports[name] for name in WEB], seed=self._seed))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(None, None, None)

    def command(self, name: str) -> list[str | Path]:
        """Return the command of a process: workers can be told where to die, bugs can be planted."""
        command = super().command(name)
        around: list[str | Path] = []
        if name.startswith("worker"):
            around += ["-m", "tests.chaos.points", self.points]
        if self._plant and not name.startswith("beat"):
            around += ["-m", "tests.chaos.planted", self._plant]
        return [sys.executable, *around, *command[1:]]

    def person(self, number: int) -> httpx.Client:
        """Return a client that is logged in and talks through the network."""
        client = self.login(f"u{number}", self.url(WEB[number % len(WEB)]))
        client.base_url = self.balanced
        return client

    def base(self, name: str) -> str:
        """Return the base URL of a web process, through the network."""
        return f"http://127.0.0.1:{self.network.ports[WEB.index(name)]}"

    @property
    def balanced(self) -> str:
        """Return the base URL of all web processes, through the network."""
        return f"http://127.0.0.1:{self.network.balanced}"

    # --- hurting -------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """End a process, or a whole engine, without a word."""
        if name in ENGINES:
            self._down.add(name)
            processes.send(self._family(name), signal.SIGKILL)
            processes.collect(self._engine(name).process, seconds=5)
        elif name in self.processes:
            super().kill(name)

    def freeze(self, name: str) -> None:
        """Stop a process, or a whole engine, where it stands."""
        self.signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self.signal(name, signal.SIGCONT)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process and its children."""
        if name in ENGINES:
            for pid in self._family(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        elif name in self.processes:
            super().signal(name, number)

    def revive(self, name: str) -> None:
        """Start what was killed, and do not wait for it."""
        if name in self._down:
            self._down.discard(name)
            self._engine(name).launch()
        elif name not in ENGINES and name not in self.processes:
            self.launch(name)

    def runs(self, pid: int) -> bool:
        """Tell whether a process is one of ours that was not seen to have ended."""
        return any(process.pid == pid for process in self.processes.values())

    def fallen(self) -> list[Fallen]:
        """Return the processes that ended by themselves, and forget them."""
        fallen = [
            Fallen(name, process.pid, process.returncode)
            for name, process in self.processes.items()
            if process.poll() is not None
        ]
        for each in fallen:
            super().kill(each.name)  # what is left of its children
        engines = [
            Fallen(name, process.pid, process.returncode)
            for name in ENGINES
            if name not in self._down and (process := self._engine(name).process).poll() is not None
        ]
        self._down.update(each.name for each in engines)
        return fallen + engines

    def end_postgres_at_once(self) -> None:
        """Have PostgreSQL break everything off: it recovers at its next start, as after a crash."""
        self._down.add("postgres")
        process = self.postgres.process
        process.send_signal(signal.SIGQUIT)  # an "immediate" shutdown
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill("postgres")

    def _engine(self, name: str) -> Postgres | Valkey:
        return self.postgres if name == "postgres" else self.valkey

    def _family(self, name: str) -> list[int]:
        pid = self._engine(name).pid
        return [pid, *processes.descendants(pid)]

    # --- the end ---------------------------------------------------------------------------------

    def _end_processes(self) -> None:
        """End all at once, by force what takes long: nothing of this is what a run is about."""
        for client in self._clients:
            client.close()
        for name, process in self.processes.items():
            self.thaw(name)
            process.terminate()
        deadline = time.monotonic() + END_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.01, deadline - time.monotonic()))
        for name in list(self.processes):
            super().kill(name)

    def _end_engines(self) -> None:
        self.valkey.stop()
        self.postgres.stop()

    def backend(self, *, autocommit: bool = True, name: str = "chaos") -> psycopg.Connection:
        """Return a connection of the kit's own, which does not wait long for a database that is away."""
        return psycopg.connect(
            self.database_url, autocommit=autocommit, connect_timeout=2, application_name=name
        )


_MAKE_USERS = """
from django.contrib.auth.models import User
for number in range({count}):
    User.objects.create_user(f"u{{number}}", password=f"demo-u{{number}}")
"""

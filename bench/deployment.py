"""The real thing: PostgreSQL, Valkey and a worker, and web processes in front of them when asked for.

All but the web processes run on the second core. What the limits of the service would refuse is
allowed, by its documented settings; nothing else is changed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg

from bench import keys
from bench.servers import Process, wait_for
from bench.usage import Cores, Usage, on_core, usage
from project.embedded import Postgres, Valkey

ROOT = Path(__file__).resolve().parent.parent

# The load is one user's, from one machine. Streams live longer than any run, so that none ends in it.
SETTINGS = {
    "TICKERTAPE_MODE": "test",
    "DJANGO_SETTINGS_MODULE": "project.settings",
    "EVENTS_POSTS_PER_MINUTE": "0",
    "EVENTS_KEY_POSTS_PER_MINUTE": "0",
    "STREAMS_MAX_PER_USER": "0",
    "STREAMS_MAX_PER_ADDRESS": "0",
    "STREAMS_MAX_PER_CHANNEL": "0",
    "STREAMS_MAX_CONNECTIONS": "100000",
    "STREAMS_MAX_AGE_SECONDS": "86400",
    "LOG_LEVEL": "WARNING",
    "PYTHONUNBUFFERED": "1",
}
USER = "bench"
PASSWORD = "demo-bench"  # noqa: S105 (of a user that lives as long as the run)


class Deployment:
    """PostgreSQL, Valkey and one worker; use as a context manager. `environment` is a child's."""

    def __init__(self, folder: Path, cores: Cores, *, worker: bool = True) -> None:
        self.folder = folder
        self.cores = cores
        self.postgres = Postgres(folder / "postgres")
        self.valkey = Valkey(folder / "valkey")
        self._with_worker = worker
        self._stack = ExitStack()
        self._worker: Process | None = None
        self.environment = {
            **os.environ,
            **SETTINGS,
            "STREAMS_TOKEN_ISSUERS": keys.setting(),
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
        }

    def __enter__(self) -> Self:
        with self._stack:
            with on_core(self.cores.rest):
                for engine in (self.postgres, self.valkey):
                    self._stack.callback(engine.stop)
                    engine.start()
            self.manage("migrate", "--verbosity=0")
            self.shell(
                "from django.contrib.auth.models import User;"
                f"User.objects.create_superuser({USER!r}, password={PASSWORD!r})"
            )
            if self._with_worker:
                self.start_worker()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def start_worker(self) -> None:
        """Start the worker that places, publishes and reacts."""
        command: list[str | Path] = [sys.executable, "-W", "ignore:You're running the worker"]
        command += ["-m", "celery", "-q", "-A", "project.celery", "worker", "-n", "bench@%h"]
        command += ["--without-gossip", "--without-mingle"]
        self._worker = self._stack.enter_context(self.running("worker", command, core=self.cores.rest))

    @contextmanager
    def running(
        self, name: str, command: list[str | Path], *, core: int, **environment: str
    ) -> Iterator[Process]:
        """Run a program of the deployment's on a core; its output goes into a file of its name."""
        env = {**self.environment, **environment}
        with Process(name, command, folder=self.folder, core=core, cwd=ROOT, env=env) as process:
            yield process

    def manage(self, *arguments: str) -> str:
        """Run a management command; return what it prints."""
        with on_core(self.cores.rest):
            return subprocess.run(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=self.environment,
                check=True,
                text=True,
                stdout=subprocess.PIPE,
            ).stdout

    def shell(self, code: str) -> str:
        """Run Python inside Django; return what it prints."""
        return self.manage("shell", "--verbosity=0", "-c", code)

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection to the log's database."""
        return psycopg.connect(self.postgres.url, autocommit=True)

    def head(self) -> str:
        """Return the cursor of the log's end, once all that was appended is placed."""
        with self.connect() as connection:

            def placed() -> bool:
                [(waiting,)] = connection.execute(
                    "SELECT EXISTS (SELECT FROM events_event WHERE position IS NULL)"
                ).fetchall()
                return not waiting

            wait_for(placed, "events are not placed")
            [(epoch, head)] = connection.execute("SELECT epoch, head FROM events_logstate").fetchall()
        return f"{epoch}-{head}"

    def behind(self) -> dict[str, Usage]:
        """Return what each part behind the web process cost so far."""
        parts = {"postgres": self.postgres.pid, "valkey": self.valkey.pid}
        if self._worker is not None:
            parts["worker"] = self._worker.pid
        return {name: usage([pid]) for name, pid in parts.items()}

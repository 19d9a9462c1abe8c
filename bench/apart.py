"""A database of a scenario's own: its log is nobody else's, and no worker is at it unasked."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.deployment import ROOT, Deployment
from bench.servers import Process, wait_for
from bench.usage import on_core

_BUSY = """
SELECT EXISTS (SELECT FROM events_event WHERE position IS NULL) OR NOT EXISTS (
    SELECT FROM workers_checkpoint c JOIN events_logstate l ON (l.epoch, l.head) = (c.epoch, c.position)
    WHERE c.name = 'reactions')
"""


@dataclass(frozen=True, slots=True)
class Apart:
    """A migrated database, and a prefix of its own in Valkey; `environment` tells processes of both."""

    deployment: Deployment
    environment: Mapping[str, str]

    def manage(self, *arguments: str) -> str:
        """Run a management command; return what it prints."""
        with on_core(self.deployment.cores.rest):
            return subprocess.run(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env={**self.deployment.environment, **self.environment},
                check=True,
                text=True,
                stdout=subprocess.PIPE,
            ).stdout

    def worker(self) -> AbstractContextManager[Process]:
        """Run a worker on it."""
        command: list[str | Path] = [sys.executable, "-W", "ignore:You're running the worker"]
        command += ["-m", "celery", "-q", "-A", "project.celery", "worker", "-n", "apart@%h"]
        command += ["--without-gossip", "--without-mingle"]
        deployment = self.deployment
        return deployment.running("worker-apart", command, core=deployment.cores.rest, **self.environment)

    def settle(self, *, seconds: float) -> None:
        """Return once the worker has placed all that was committed, and reacted to it; raise Trouble."""
        with self.connect() as connection:

            def settled() -> bool:
                [(busy,)] = connection.execute(_BUSY).fetchall()
                return not busy

            wait_for(settled, "the worker has something left to do", seconds=seconds)

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection to it."""
        return psycopg.connect(self.environment["DATABASE_URL"], autocommit=True)


@contextmanager
def apart(deployment: Deployment, name: str) -> Iterator[Apart]:
    """Make such a database, and drop it when it is left."""
    url = f"{deployment.postgres.url.rpartition('/')[0]}/{name}"
    with deployment.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
        try:
            made = Apart(deployment, {"DATABASE_URL": url, "REDIS_PREFIX": name})
            made.manage("migrate", "--verbosity=0")
            yield made
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

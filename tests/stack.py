"""The service as a user runs it: processes, to be talked to over HTTP, and to be hurt."""

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from httpx_sse import connect_sse

from project import processes
from project.embedded import Postgres, Valkey, free_port

ROOT = Path(__file__).resolve().parent.parent
USERS = ("alice", "bob", "carol")
START_SECONDS = 60  # on a machine that does much else
# Few users, from one address, make all the load.
UNLIMITED = {"EVENTS_POSTS_PER_MINUTE": "0", "STREAMS_MAX_PER_USER": "0", "STREAMS_MAX_PER_ADDRESS": "0"}


def eventually(check: Callable[[], Any], *, seconds: float = 20, every: float = 0.02) -> Any:
    """Return the first true answer of a check; fail when none came in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {getattr(check, '__doc__', None) or check}")
        time.sleep(every)


_BUSY = """
SELECT EXISTS (SELECT FROM events_event WHERE position IS NULL)
    OR (SELECT max(head) FROM events_logstate)
        > coalesce((SELECT position FROM workers_checkpoint WHERE name = 'reactions'), 0)
"""


class Stack:
    """Web processes and workers on one database; use as a context manager."""

    def __init__(
        self, postgres: Postgres, valkey: Valkey, folder: Path, *, name: str, **environment: str
    ) -> None:
        self.postgres = postgres
        self.valkey = valkey
        self.folder = folder
        self.name = name
        self.database_url = postgres.url.rsplit("/", 1)[0] + f"/{name}"
        self.environment = {
            **os.environ,
            "TICKERTAPE_MODE": "test",
            "DJANGO_SETTINGS_MODULE": "project.settings",
            **UNLIMITED,
            "LOG_LEVEL": "INFO",
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": self.database_url,
            "REDIS_URL": valkey.url,
            "REDIS_PREFIX": name,  # with it the queue: workers of other stacks share the broker
            **environment,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[str, int] = {}
        self._clients: list[httpx.Client] = []

    def __enter__(self) -> Self:
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {self.name}")
        self.manage("migrate", "--verbosity=0")
        self.manage("shell", "--verbosity=0", "-c", _MAKE_USERS)
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self._clients:
            client.close()
        for name, process in self.processes.items():  # all at once, then each
            self.thaw(name)
            process.terminate()
        for name in list(self.processes):
            self.stop(name)

    def manage(self, *arguments: str) -> str:
        """Run a management command on the stack's database; return what it prints."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, check=True, text=True, stdout=subprocess.PIPE,
        ).stdout  # fmt: skip

    def api_key(self, *, channels: str, types: str) -> str:
        """Make an API key for the channels and types of a pattern each; return its secret."""
        code = (
            "from events.ingest import make_key;"
            f"print(make_key(name='x', channels=[{channels!r}], types=[{types!r}])[1])"
        )
        [secret] = re.findall(r"tt_\S+", self.manage("shell", "--verbosity=0", "-c", code))
        return secret

    # --- processes --------------------------------------------------------------------------

    def start(self, *names: str, **environment: str) -> None:
        """Start processes by name (`daphne…`, `uvicorn…`, `worker…`, `beat`) and wait until they serve."""
        for name in names:
            self.launch(name, **environment)
        for name in names:
            if not name.startswith(("worker", "beat")):
                self._wait_ready(name)

    def launch(self, name: str, **environment: str) -> None:
        """Start a process and do not wait for it; call from a thread that lives as long as it should."""
        env = {**self.environment, **environment}
        if not name.startswith(("worker", "beat")):
            self.ports[name] = self.ports.get(name) or free_port()
            env |= {"WEB_SERVER": name.rstrip("0123456789"), "PORT": str(self.ports[name])}
        with self.log(name).open("ab") as log:
            # On a leash: a test run that is killed leaves nothing running.
            self.processes[name] = processes.spawn(self.command(name), cwd=ROOT, env=env, output=log)

    def command(self, name: str) -> list[str | Path]:
        """Return the command of a process."""
        if name.startswith("beat"):
            return [sys.executable, "-m", "celery", "-A", "project.celery", "beat", "--pidfile=",
                    "--schedule", self.folder / f"{name}.schedule"]  # fmt: skip
        if name.startswith("worker"):
            return [sys.executable, "-m", "celery", "-A", "project.celery", "worker",
                    "--without-gossip", "--without-mingle", "-n", f"{name}-{self.name}@%h"]  # fmt: skip
        return [sys.executable, "-m", "project.serve"]

    def _wait_ready(self, name: str) -> None:
        workers = any(other.startswith("worker") for other in self.processes)

        def ready() -> bool:
            process = self.processes[name]
            assert process.poll() is None, f"{name} ended:\n{self.log(name).read_text()[-3000:]}"
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(self.url(name) + "/readyz", timeout=5)
                return answer.status_code == 200 or (not workers and answer.json().get("hub") is True)
            return False

        eventually(ready, seconds=START_SECONDS, every=0.05)

    def log(self, name: str) -> Path:
        """Return the file that holds what a process printed."""
        return self.folder / f"{name}.log"

    def url(self, name: str) -> str:
        """Return a web process's base URL."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, number)

    def freeze(self, name: str) -> None:
        """Stop a process where it stands."""
        self.signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen process go on."""
        self.signal(name, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End a process and its children without a word."""
        self.signal(name, signal.SIGKILL)
        self.processes.pop(name).wait(10)

    def stop(self, name: str) -> int:
        """End a process in order; return its exit status."""
        self.thaw(name)
        process = self.processes.pop(name)
        process.terminate()
        try:
            return process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a killed worker's children

    # --- people -------------------------------------------------------------------------------

    def login(self, user: str, server: str | None = None) -> httpx.Client:
        """Return a client that is logged in, CSRF token and all, by default on the first web process."""
        client = httpx.Client(base_url=server or self.url(next(iter(self.ports))), timeout=15)
        self._clients.append(client)
        answer = client.post("/api/session", json={"username": user, "password": f"demo-{user}"})
        assert answer.status_code == 200, answer.text
        client.headers["X-CSRFToken"] = answer.json()["csrf_token"]
        return client

    def rest(self) -> None:
        """Wait until all that was done has led to what it leads to: nothing of it comes into what is next."""
        with self.connect() as connection:
            eventually(lambda: connection.execute(_BUSY).fetchone() == (False,))

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection of the test's own to the stack's database."""
        return psycopg.connect(self.database_url, autocommit=True)


_MAKE_USERS = f"""
from django.contrib.auth.models import User
for name in {USERS!r}:
    User.objects.create_user(name, password="demo-" + name)
User.objects.create_superuser("admin", password="demo-admin")
"""


@dataclass(frozen=True, slots=True)
class Got:
    """One event as a client got it."""

    id: str
    event: str
    data: Any
    at: float

    @property
    def position(self) -> int:
        """Return the id's place in the log."""
        return int(self.id.rpartition("-")[2])


class Listener:
    """An open stream, read by httpx-sse in a thread into a queue.

    Who else has an item open is left out, unless asked for: it comes at any time.
    """

    def __init__(
        self, client: httpx.Client, path: str, *, last_event_id: str | None = None, presence: bool = False
    ) -> None:
        self._left_out = set() if presence else {"PresenceChanged"}
        self.all: list[Got] = []
        self.opened: Got | None = None
        self.error: BaseException | None = None
        self._socket: socket.socket | None = None
        self._queue: queue.Queue[Got | None] = queue.Queue()
        self._client = httpx.Client(
            base_url=client.base_url, cookies=client.cookies, timeout=httpx.Timeout(10, read=60)
        )
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        self._thread = threading.Thread(target=self._read, args=(path, headers), daemon=True)
        self._thread.start()

    def _read(self, path: str, headers: dict[str, str]) -> None:
        try:
            with connect_sse(self._client, "GET", path, headers=headers) as source:
                self._socket = source.response.extensions["network_stream"].get_extra_info("socket")
                for sse in source.iter_sse():
                    if (sse.data or sse.event != "message") and sse.event not in self._left_out:
                        got = Got(sse.id, sse.event, json.loads(sse.data), time.perf_counter())
                        self.all.append(got)
                        self._queue.put(got)
        except BaseException as error:
            self.error = error
        finally:
            self._queue.put(None)

    def next(self, *, seconds: float = 20) -> Got:
        """Return the next event, the stream's own ones included."""
        got = self._queue.get(timeout=seconds)
        assert got is not None, f"the stream ended: {self.error!r}"
        return got

    def until(self, wanted: Callable[[Got], bool], *, seconds: float = 20) -> list[Got]:
        """Return the events up to and including the first that is wanted."""
        deadline = time.monotonic() + seconds
        found = []
        while True:
            found.append(self.next(seconds=max(0.01, deadline - time.monotonic())))
            if wanted(found[-1]):
                return found

    def take(self, number: int, *, seconds: float = 20) -> list[Got]:
        """Return so many of the log's events, the stream's own ones left out."""
        deadline = time.monotonic() + seconds
        found: list[Got] = []
        while len(found) < number:
            got = self.next(seconds=max(0.01, deadline - time.monotonic()))
            if not got.event.startswith("stream."):
                found.append(got)
        return found

    def ended(self, *, seconds: float = 20) -> list[Got]:
        """Return what was left when the stream ended."""
        deadline = time.monotonic() + seconds
        found = []
        while (got := self._queue.get(timeout=max(0.01, deadline - time.monotonic()))) is not None:
            found.append(got)
        return found

    def close(self) -> None:
        """Leave, as a browser that is closed does: the reading thread ends with the connection."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._client.close()


@contextlib.contextmanager
def listening(
    client: httpx.Client, path: str, *, last_event_id: str | None = None, presence: bool = False
) -> Iterator[Listener]:
    """Open a stream and wait for its first frame."""
    listener = Listener(client, path, last_event_id=last_event_id, presence=presence)
    try:
        listener.opened = listener.next()
        yield listener
    finally:
        listener.close()

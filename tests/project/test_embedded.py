"""The embedded engines: start, end, and what a killed one or a killed parent leaves."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from project import processes
from project.embedded import EngineError, Postgres, Valkey, free_port
from tests.project.support import alive
from tests.stack import ROOT, eventually


@pytest.fixture
def engines(folder):
    made = [Postgres(folder / "postgres", durable=False), Valkey(folder / "valkey")]
    yield made
    for engine in made:
        engine.stop()


@pytest.fixture
def postgres(engines) -> Postgres:
    return engines[0]


@pytest.fixture
def valkey(engines) -> Valkey:
    return engines[1]


def test_postgres_keeps_its_data_over_a_restart(postgres):
    postgres.start()
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 41 + 1 AS answer")
    before = postgres.pid

    postgres.stop()
    postgres.start()

    assert postgres.pid != before
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert connection.info.server_version // 10_000 == 18


def test_no_commit_waits_for_much_wal_to_be_made(postgres):
    """A young server makes its segments when it needs them; but it keeps as much of them as any."""
    postgres.start()
    with psycopg.connect(postgres.url) as connection:
        sizes = "SELECT DISTINCT size FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
        assert connection.execute(sizes).fetchall() == [(1024 * 1024,)]
        assert connection.execute("SHOW min_wal_size").fetchone() == ("80MB",)
        assert connection.execute("SHOW max_wal_size").fetchone() == ("1GB",)


def test_a_start_of_a_running_engine_changes_nothing(postgres, valkey):
    for engine in (postgres, valkey):
        engine.start()
        before = engine.pid
        engine.start()
        assert engine.pid == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_that_was_killed_or_frozen_starts_again_on_its_port(postgres, valkey, number):
    for engine in (postgres, valkey):
        engine.start()
        before, url = engine.pid, engine.url
        os.kill(engine.pid, number)

        engine.start()

        assert engine.pid != before
        assert engine.url == url
        assert engine.answers()
        assert not alive(before)


def test_stopping_ends_every_process_of_a_frozen_engine(postgres):
    postgres.start()
    family = [psutil.Process(postgres.pid), *psutil.Process(postgres.pid).children(recursive=True)]
    assert len(family) > 3
    for process in family:
        process.suspend()

    postgres.stop(seconds=0.5)

    assert [process for process in family if alive(process.pid)] == []


def test_what_ends_at_no_signal_is_ended_by_force():
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    stubborn = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    with stubborn:
        assert stubborn.stdout
        stubborn.stdout.readline()

        processes.end([stubborn.pid], number=signal.SIGTERM, seconds=0.2)

    assert stubborn.returncode == -signal.SIGKILL


def test_engines_end_when_their_parent_is_killed(folder):
    parent, pids = start_in_another_process(folder)

    parent.kill()
    parent.communicate()

    for pid in pids:
        eventually(lambda pid=pid: not alive(pid))


def test_a_start_ends_the_frozen_engines_of_a_parent_that_was_killed(folder, engines):
    parent, pids = start_in_another_process(folder)
    for pid in pids:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            process.suspend()
    parent.kill()
    parent.communicate()
    assert all(alive(pid) for pid in pids)

    for engine in engines:
        engine.start()
        assert engine.answers()

    assert not any(alive(pid) for pid in pids)


def start_in_another_process(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Start both engines from a process of its own; return it and their pids."""
    script = f"""
from pathlib import Path
from project.embedded import Postgres, Valkey
folder = Path({str(folder)!r})
engines = [Postgres(folder / "postgres", durable=False), Valkey(folder / "valkey")]
for engine in engines:
    engine.start()
print(*(engine.pid for engine in engines), flush=True)
input()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout
    return parent, [int(word) for word in parent.stdout.readline().split()]


def test_recovery_leaves_a_stranger_with_a_recycled_pid_alone(folder, postgres):
    postgres.start()
    postgres.stop()
    # Of the same user as the server, or PostgreSQL itself would see that it is a stranger.
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    with subprocess.Popen(["tail", "-f", "/dev/null"], **user) as stranger:
        try:
            claim = postgres.folder / "data" / "postmaster.pid"
            claim.write_text(f"{stranger.pid}\n{postgres.folder}/data\n")

            postgres.start()

            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_both_listen_on_loopback_only_and_leave_root_to_others(postgres, valkey):
    for engine in (postgres, valkey):
        engine.start()
        process = psutil.Process(engine.pid)
        listening = [link.laddr for link in process.net_connections() if link.status == psutil.CONN_LISTEN]
        assert {address.ip for address in listening} == {"127.0.0.1"}
        assert process.uids().effective != 0


def test_an_interrupted_initdb_is_not_taken_for_data(folder, postgres):
    script = f"""
from pathlib import Path
from project.embedded import Postgres
Postgres(Path({str(postgres.folder)!r})).start()
"""
    starting = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    eventually(lambda: list(postgres.folder.glob("*/PG_VERSION")), every=0.001)
    for process in [*psutil.Process(starting.pid).children(recursive=True), psutil.Process(starting.pid)]:
        process.kill()
    starting.wait()

    postgres.start()

    assert postgres.answers()


def test_data_of_another_version_is_refused_and_kept(postgres):
    data = postgres.folder / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17\n")

    with pytest.raises(EngineError, match="PostgreSQL 17"):
        postgres.start()

    assert (data / "PG_VERSION").read_text() == "17\n"


def test_an_engine_that_cannot_start_says_why(postgres):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", postgres.port))
        taken.listen()
        with pytest.raises(EngineError, match=f"could not bind.*{postgres.port}|Address already in use"):
            postgres.start()


def test_works_below_a_folder_that_is_closed_to_others(folder):
    home = folder / "home"
    home.mkdir(mode=0o700)
    engine = Postgres(home / "deep" / ("long" * 30) / "postgres", durable=False)

    engine.start()

    assert engine.answers()
    engine.stop()
    assert home.stat().st_mode & 0o066 == 0, "others may pass through, not list or read"


def test_free_ports_are_out_of_the_reach_of_outgoing_connections():
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(20):
        port = free_port()
        assert port < first
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))

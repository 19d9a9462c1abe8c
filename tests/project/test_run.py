"""`make run` as a person starts it: what it says, what it starts, and that it leaves nothing behind."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from project.embedded import free_port
from tests.project.support import CHILDREN, PROGRAM, START_SECONDS, Running, alive, environment, refused, run
from tests.stack import ROOT, eventually

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="tickertape-"))
    with run(folder / "data") as started:
        started.wait_ready()
        yield started
    shutil.rmtree(folder)


# --- What it starts ------------------------------------------------------------------------


def test_it_is_ready_when_it_says_so_and_names_its_children(running):
    assert running.get("/readyz").status_code == 200
    pids = running.pids()
    assert set(pids) == CHILDREN
    for name, pid in pids.items():
        assert alive(pid), name
    lines = running.output().splitlines()
    assert any(f"http://127.0.0.1:{running.port}/" in line for line in lines)
    steps = [line for line in lines if line[:6].strip().replace(".", "").isdigit() and line[6:10] == " s  "]
    assert len(steps) >= 6, lines


def test_the_demo_users_can_log_in_and_find_something_to_read(running):
    for name in ("alice", "bob", "carol", "admin"):
        with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=10) as client:
            answer = client.post("/api/session", json={"username": name, "password": f"demo-{name}"})
            assert answer.status_code == 200, answer.text
            titles = {item["title"] for item in client.get("/api/items").json()["results"]}
            assert "Autumn menu" in titles
            # Carol's surprise is for its members, and for the staff.
            assert any("Carol" in title for title in titles) == (name != "carol")


def test_the_secret_key_is_kept_and_nobody_elses_to_read(running):
    key = running.folder / "secret_key"
    assert len(key.read_text().strip()) >= 50
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().strip() not in running.output()


@pytest.mark.parametrize("name", ["valkey", "postgres", "web", "worker", "jobs", "beat"])
def test_a_child_that_dies_is_started_again_and_that_is_said(running, name):
    before = running.pids()
    said = running.output().count(f"{name} was ended by SIGKILL")

    os.kill(before[name], signal.SIGKILL)

    def restarted() -> bool:
        pid = running.pids()[name]
        return pid != before[name] and alive(pid)

    eventually(restarted, seconds=START_SECONDS)
    assert running.output().count(f"{name} was ended by SIGKILL") == said + 1
    assert f"{name} was ended by SIGKILL" in running.output()
    others = {other: pid for other, pid in running.pids().items() if other != name}
    assert others == {other: pid for other, pid in before.items() if other != name}
    eventually(running.serving, seconds=START_SECONDS)


# --- What it refuses --------------------------------------------------------------------------


def test_a_second_run_beside_it_is_refused(running):
    [line] = refused(running.folder)

    assert "already running" in line
    assert str(running.process.pid) in line
    assert running.get("/readyz").status_code == 200


def test_a_taken_port_is_refused_before_anything_is_started(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        [line] = refused(folder, port=port)

    assert str(port) in line
    assert "PORT=" in line
    assert {entry.name for entry in folder.iterdir()} == {"lock", "secret_key"}


def test_a_port_that_is_none_is_refused(folder):
    [line] = refused(folder, port=65_536)

    assert "1 to 65535" in line


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_one_engine_given_without_the_other_is_refused(folder, name):
    [line] = refused(folder, **{name: "scheme://127.0.0.1:1/0"})

    assert "DATABASE_URL" in line
    assert "REDIS_URL" in line


def test_production_without_its_settings_is_refused_with_a_clear_line(folder):
    lines = refused(folder, TICKERTAPE_MODE="production")

    assert any("ALLOWED_HOSTS is not set" in line for line in lines)
    assert not any("Traceback" in line for line in lines)


def test_a_database_that_is_away_is_said_in_one_line(folder):
    away = f"postgresql://postgres@127.0.0.1:{free_port()}/away"

    lines = refused(folder, DATABASE_URL=away, REDIS_URL="redis://127.0.0.1:1/0")

    assert any("DATABASE_URL does not answer" in line for line in lines)
    assert not any("Traceback" in line for line in lines)


def test_data_of_another_postgresql_is_said_in_one_line_and_kept(folder):
    data = folder / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17\n")

    lines = refused(folder)

    assert any("is of PostgreSQL 17" in line for line in lines)
    assert not any("Traceback" in line for line in lines)
    assert (data / "PG_VERSION").read_text() == "17\n"


# --- How it ends ----------------------------------------------------------------------------------


def test_a_signal_ends_every_child_within_ten_seconds_whatever_it_is_doing(folder):
    with run(folder / "data") as running:
        running.wait_ready()
        assert len(running.family()) > 10
        for name in ("worker", "jobs"):
            worker = psutil.Process(running.pids()[name])
            for process in (worker, *worker.children(recursive=True)):
                process.suspend()
        with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=30) as client:
            client.post("/api/session", json={"username": "bob", "password": "demo-bob"})
            with client.stream("GET", "/streams/me/") as stream:
                lines = stream.iter_lines()
                assert next(lines)

                assert running.end(signal.SIGTERM) < 10

                assert "event: stream.end" in list(lines), "the web drains while all it needs is there"
        assert running.process.returncode == 0
        assert running.family() == []
        assert not (running.folder / "run.json").exists()

    with run(folder / "data") as again:
        again.wait_ready()
        assert again.get("/readyz").status_code == 200

        # As a terminal's Ctrl-C does it: to the whole foreground group.
        os.killpg(again.process.pid, signal.SIGINT)

        again.process.wait(10)
        assert again.family() == []


def test_a_run_that_was_killed_leaves_nothing_that_the_next_one_would_trip_over(folder):
    with run(folder / "data") as killed:
        killed.wait_ready()
        killed.process.kill()
        killed.process.wait()
        eventually(lambda: killed.family() == [], seconds=10)

        with run(killed.folder, port=killed.port) as frozen:
            frozen.wait_ready()
            left = [pid for pid in frozen.family() if pid != frozen.process.pid]
            for pid in left:  # so that they cannot end by themselves
                os.kill(pid, signal.SIGSTOP)
            frozen.process.kill()
            frozen.process.wait()
            assert set(left) <= set(frozen.family())

            with run(killed.folder, port=killed.port) as last:
                last.wait_ready()

                assert not set(left) & set(last.family())
                assert last.get("/readyz").status_code == 200
                assert set(last.pids()) == CHILDREN


def test_a_killed_make_takes_the_run_with_it_and_the_next_one_waits_for_that(folder):
    port = free_port()
    given = environment(DATA_DIR=str(folder / "data"), PORT=str(port), MAKELEVEL="1")
    with full_pipe() as unread:  # and nobody reads what it prints: that holds nothing up
        make = subprocess.Popen(
            [sys.executable, "-c", f"import subprocess; subprocess.run({PROGRAM!r})"],
            cwd=ROOT, env=given, stdout=unread, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(lambda: answers(port), seconds=START_SECONDS)
        finally:
            make.kill()
            make.wait()

        with run(folder / "data", port=port) as running:
            running.wait_ready()


def answers(port: int) -> bool:
    """Tell whether a run on this port is ready."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    return False


@contextlib.contextmanager
def full_pipe() -> Iterator[int]:
    """Yield the writing end of a pipe that takes nothing more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


# --- With engines of one's own ------------------------------------------------------------------


def test_given_engines_are_used_and_none_is_started(folder, postgres, valkey):
    url = postgres.url.rsplit("/", 1)[0] + "/given"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE given")
    with run(folder / "data", DATABASE_URL=url, REDIS_URL=valkey.url, REDIS_PREFIX="given") as running:
        running.wait_ready()

        assert set(running.pids()) == {"web", "worker", "jobs", "beat"}
        assert not (running.folder / "postgres").exists()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM auth_user").fetchone() == (4,)

        assert running.end(signal.SIGHUP) < 10
        assert postgres.answers()
        assert valkey.answers()

"""A crowd comes back at once, as after a proxy's restart: memory answers it, not the log."""

import contextlib
import re
import resource
import threading
import time

import httpx
import pytest

from tests.faults.crowd import crowd
from tests.faults.people import new_item, settle
from tests.faults.wire import append, cpu_seconds, memory, threads

BEHIND = 200  # events that everyone missed
LOG_QUERIES = 50  # in all, whatever the number of clients
STALL_SECONDS = 1.0  # longest that the process may leave anyone unheard
MOST_THREADS = 50  # an open stream has none, and one that opens waits for its turn without one
SIZES = [1_000, pytest.param(5_000, marks=pytest.mark.long)]


@pytest.fixture(params=["daphne6", "uvicorn6"])
def stormed(request, rough):
    """A server that takes a crowd."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
    rough.start(request.param)
    yield request.param
    rough.stop(request.param)


class Questions:
    """How often a server's hub asks the log for events, as it counts and as PostgreSQL does."""

    def __init__(self, url: str, connection) -> None:
        self._url = url
        self._connection = connection
        self.metric = 0
        self.counted = 0

    def __enter__(self):
        self._before = self._now()
        return self

    def __exit__(self, *exc):
        now = self._now()
        self.metric, self.counted = (b - a for a, b in zip(self._before, now, strict=True))

    def _now(self) -> tuple[int, int]:
        text = httpx.get(self._url + "/metrics").text
        found = re.search(r"^tickertape_log_reads_total (\d+)", text, re.MULTILINE)
        row = self._connection.execute(
            "SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'events_channelposition'"
        ).fetchone()
        return int(found[1]), int(row[0])


@contextlib.contextmanager
def pulse(url: str, pid: int):
    """Ask a server all the time whether it lives; collect how long each answer took, and its threads."""
    took: list[float] = []
    running: list[int] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not over.wait(0.02):
                began = time.monotonic()
                assert client.get("/healthz").status_code == 200
                took.append(time.monotonic() - began)
                running.append(threads(pid))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took, running
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(700)
@pytest.mark.parametrize("count", SIZES)
def test_a_crowd_that_comes_back_is_answered_from_memory(rough, stormed, count, figure):
    alice = rough.login("alice", rough.url(stormed))
    item = new_item(alice)
    pid = rough.processes[stormed].pid
    path, port = f"/streams/?channel=item:{item}", rough.ports[stormed]
    with rough.connect() as connection:
        cursor = settle(rough)
        for n in range(BEHIND):
            append(connection, f"item:{item}", data={"n": n})
        settle(rough)
        busy, grown = cpu_seconds(pid), memory(pid)
        with (
            Questions(rough.url(stormed), connection) as questions,
            pulse(rough.url(stormed), pid) as (took, running),
        ):
            plan = {"count": count, "last": BEHIND, "last_event_id": cursor, "seconds": 100 + count / 10}
            with crowd(alice, [port], path, **plan, live_from=BEHIND) as coming:
                coming.until("half")
                at = time.time()
                append(connection, f"item:{item}", data={"n": BEHIND})
                report = coming.report()
        busy, grown = cpu_seconds(pid) - busy, memory(pid) - grown
    late = sorted(each - at for each in report.late) or [0.0]
    figure(
        f"{stormed.rstrip('6')}: {count} clients, {BEHIND} events behind: all back in {report.opened:.1f} s,"
        f" caught up in {report.caught_up:.1f} s, {busy:.1f} s of CPU, {questions.metric} log queries"
        f" ({questions.counted} index scans in all); live in the middle: {late[len(late) // 2]:.2f} s,"
        f" {late[-1]:.2f} s at most; /healthz {max(took):.2f} s at most,"
        f" {max(running)} threads, +{grown / 1e6:.0f} MB"
    )
    assert report.wrong == []
    assert questions.metric <= LOG_QUERIES
    assert report.refused == 0
    assert max(running) < MOST_THREADS

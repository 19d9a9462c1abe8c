"""Workers: what placing and reacting cost, and whether more workers do more of it.

One process by itself says what each step costs it and its session of PostgreSQL: they take turns, so
their sum is what bounds it. Then whole workers, 1, 2 and 4, are given the same work: seconds of it, and with
the hint that who appends gives, so that no worker's clock is waited for. Comments they place themselves.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median

import psycopg

from bench.apart import Apart
from bench.context import Context
from bench.figures import Figure
from bench.inside import Inside, Timed
from bench.scaling.units import SCENARIO, unit
from bench.servers import Process, wait_for
from bench.usage import Usage, usage

FLEETS = (1, 2, 4)
PLACED, REACTED = "placed, published and passed", "reacted to"
BY_WORKERS = ", by workers"
START_SECONDS = 3.0  # of a worker: it does not say when it is ready
TIMES = 3
ITEMS = 100
SIZES = ("events_event", "events_channelposition")
DONE = """
SELECT NOT EXISTS (SELECT FROM events_event WHERE position IS NULL)
   AND EXISTS (SELECT FROM workers_checkpoint c JOIN events_logstate l
               ON c.position = l.head AND c.epoch = l.epoch WHERE c.name = 'reactions')
"""


def measure(context: Context, own: Apart) -> Iterator[Figure]:
    """Have one process do each step, then have whole workers do all of them."""
    with own.connect() as connection, Inside(own) as inside:
        inside.sequence()
        inside.comment(100, items=10, watchers=1)
        inside.react()
        yield from _steps(context, connection, inside)
        with ExitStack() as stack:
            found: list[Process] = []
            for fleet in FLEETS:
                more = range(len(found) + 1, fleet + 1)
                found += [stack.enter_context(_worker(own, number)) for number in more]
                time.sleep(START_SECONDS)
                yield from _together(context, connection, inside, found)


def _steps(context: Context, connection: psycopg.Connection, inside: Inside) -> Iterator[Figure]:
    events, comments = context.pick(10_000, 12_000), context.pick(300, 600)
    found: dict[str, list[Timed]] = {"place": [], "sequence": [], "pass": [], "react": []}
    wal, disk = _wal(connection), _disk(connection)
    for _ in range(TIMES):
        inside.seed(events)
        found["place"].append(inside.place())
        inside.seed(events)
        found["sequence"].append(inside.sequence())
        found["pass"].append(inside.react())
    yield unit("postgres.wal", (_wal(connection) - wal) / (2 * TIMES * events))
    yield unit("postgres.disk", (_disk(connection) - disk) / (2 * TIMES * events))
    for _ in range(TIMES):
        inside.comment(comments, items=ITEMS, watchers=0)
        found["react"].append(inside.react())
        inside.place()
        inside.react()
    own = {what: 1e6 * median(t.cpu_seconds / t.events for t in times) for what, times in found.items()}
    session = {
        what: 1e6 * median(t.database_seconds / t.events for t in times) for what, times in found.items()
    }
    for part, cost in (("worker", own), ("postgres", session)):
        yield unit(f"{part}.place", cost["place"])
        yield unit(f"{part}.publish", cost["sequence"] - cost["place"])
        yield unit(f"{part}.pass", cost["pass"])
        yield unit(f"{part}.react", cost["react"])
    for name, what in (("placed and published", "sequence"), ("passed", "pass"), ("reacted to", "react")):
        times = found[what]
        rate = median(timed.rate for timed in times)
        yield Figure(SCENARIO, "worker", f"{name} a second by one process", "1/s", rate, 1)
        busy = median((timed.cpu_seconds + timed.database_seconds) / timed.seconds for timed in times)
        share = 100 * busy
        yield Figure(SCENARIO, "worker", f"{name}: CPU of it and its session", "% of a core", share, 1)


def _together(
    context: Context, connection: psycopg.Connection, inside: Inside, workers: list[Process]
) -> Iterator[Figure]:
    fleet = len(workers)
    events, comments = context.pick(30_000, 100_000), context.pick(600, 3_000)
    jobs: dict[str, tuple[int, Callable[[], None]]] = {
        PLACED: (events, lambda: inside.seed(events)),
        REACTED: (comments, lambda: inside.comment(comments, items=ITEMS, watchers=0, placed=False)),
    }
    for what, (number, prepare) in jobs.items():
        _settle(connection)
        prepare()
        began, before = time.monotonic(), _used(context, workers)
        inside.hint()
        _settle(connection)
        took = time.monotonic() - began
        cost = {part: (now - before[part]).cpu_seconds for part, now in _used(context, workers).items()}
        yield Figure(SCENARIO, "worker", f"{what} a second{BY_WORKERS}", "1/s", number / took, fleet)
        for part in ("workers", "PostgreSQL"):
            each = 1e6 * cost[part] / number
            yield Figure(SCENARIO, "worker", f"{what}: CPU of {part} for one{BY_WORKERS}", "µs", each, fleet)


def _settle(connection: psycopg.Connection) -> None:
    def done() -> bool:
        [(settled,)] = connection.execute(DONE).fetchall()
        return bool(settled)

    wait_for(done, "workers do not come to the log's end")


def _used(context: Context, workers: list[Process]) -> dict[str, Usage]:
    pids = [each.pid for each in workers]
    return {"workers": usage(pids), "PostgreSQL": usage([context.deployment.postgres.pid])}


def _worker(own: Apart, number: int) -> AbstractContextManager[Process]:
    command: list[str | Path] = [sys.executable, "-W", "ignore:You're running the worker"]
    command += ["-m", "celery", "-q", "-A", "project.celery", "worker", "-n", f"scale{number}@%h"]
    command += ["--without-gossip", "--without-mingle"]
    deployment = own.deployment
    name = f"worker-scale{number}"
    return deployment.running(name, command, core=deployment.cores.rest, **own.environment)


def _wal(connection: psycopg.Connection) -> int:
    [(position,)] = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchall()
    return int(position)


def _disk(connection: psycopg.Connection) -> int:
    [(size,)] = connection.execute(
        "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) name", (list(SIZES),)
    ).fetchall()
    return int(size)

"""PostgreSQL: what appending costs it, and how much of that one core does.

`pgbench` sends the log's own statement, so that who asks costs less than who answers.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.apart import Apart
from bench.context import Context
from bench.figures import Figure
from bench.payload import BYTES, payload
from bench.scaling.cores import moved
from bench.scaling.units import SCENARIO, unit
from bench.servers import wait_for
from bench.usage import on_core, usage

CLIENTS = (1, 4, 16)
USUAL = 4
RUN_SECONDS = 1
DISK = {True: "by clients", False: "by clients, no commit waiting for the disk"}
TOGETHER = 100
TRANSACTIONS = 60
INSERT = "INSERT INTO events_event (type, version, data, channels, actor_id, caused_by, unique_key)"
ONCE = "ON CONFLICT (unique_key) DO NOTHING RETURNING id, unique_key"
ONE = f"""\\set n random(1, 1000)
{INSERT}
VALUES ('BenchTicked', 1, '{{"n":1,"pad":"{"x" * (BYTES - 16)}"}}', ARRAY['item:' || :n], NULL, NULL, NULL)
{ONCE};
"""
MANY = f"""
{INSERT} SELECT type, version, data, channels, actor_id, caused_by, unique_key
FROM ROWS FROM (json_to_recordset(%s::json) AS (
    type text, version smallint, data text, channels text[],
    actor_id bigint, caused_by bigint, unique_key text
)) WITH ORDINALITY ORDER BY ordinality {ONCE}
"""  # noqa: S608
GONE = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgbench')"
RATE = re.compile(r"tps = ([\d.]+)")


def measure(context: Context, own: Apart) -> Iterator[Figure]:
    """Append by ever more clients at once, then many events a transaction."""
    postgres = context.deployment.postgres
    script = context.folder / "append.sql"
    script.write_text(ONE)
    with moved([postgres.pid], context.cores.server):
        _run(context, own, script, clients=USUAL, waits=True)  # warm
        alone = 0.0
        for waits, ramp in ((True, CLIENTS), (False, CLIENTS[1:])):
            for clients in ramp:
                before = usage([postgres.pid])
                rate = _run(context, own, script, clients=clients, waits=waits)
                cpu = (usage([postgres.pid]) - before).cpu_seconds / RUN_SECONDS
                if waits and clients == USUAL:
                    alone = 1e6 * cpu / rate
                    yield unit("postgres.append", alone)
                yield _full(f"appends a second, {DISK[waits]}", "1/s", rate, clients)
                yield _full(f"CPU at those, {DISK[waits]}", "% of a core", 100 * cpu, clients)
    together = _together(own, postgres.pid)
    yield unit("postgres.append_more", (together - alone) / (TOGETHER - 1))


def _full(what: str, unit: str, value: float, clients: int) -> Figure:
    return Figure(SCENARIO, "PostgreSQL", what, unit, value, clients)


def _run(context: Context, own: Apart, script: Path, *, clients: int, waits: bool) -> float:
    """Return transactions a second; `waits`: for the disk, at each commit, as the log does."""
    program = context.deployment.postgres.bin("pgbench")
    asked: list[str | Path] = [program, "-n", "-M", "prepared", "-c", str(clients), "-j", "1"]
    asked += ["-T", str(RUN_SECONDS), "-f", script, own.environment["DATABASE_URL"]]
    options = {} if waits else {"PGOPTIONS": "-c synchronous_commit=off"}
    with on_core(context.cores.rest):
        said = subprocess.run(
            asked, env={**os.environ, **options},
            check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ).stdout  # fmt: skip
    # What a session used is its parent's only once it has ended.
    with own.connect() as connection:
        wait_for(lambda: connection.execute(GONE).fetchone() == (True,), "pgbench's sessions do not end")
    found = RATE.search(said)
    if found is None:
        raise OSError(f"pgbench said: {said[:300]!r}")
    return float(found[1])


def _together(own: Apart, pid: int) -> float:
    """Return microseconds of CPU of a transaction of many events."""
    event = {"type": "BenchTicked", "version": 1, "data": payload(1), "channels": ["item:1"]}
    more = {"actor_id": None, "caused_by": None, "unique_key": None}
    document = json.dumps([{**event, **more}] * TOGETHER)
    with own.connect() as connection:
        connection.execute(MANY, (document,))
        before = usage([pid])
        for _ in range(TRANSACTIONS):
            connection.execute(MANY, (document,))
        return 1e6 * (usage([pid]) - before).cpu_seconds / TRANSACTIONS

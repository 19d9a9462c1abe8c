"""Transactions that stay open: what they hold up, and who they are.

A snapshot that is held (a pg_dump, a REPEATABLE READ session) keeps PostgreSQL from cleaning up;
placing and reading keep their speed, the tables grow. A transaction that has written and does not
end holds back from where placing looks for new events, and each placing gets dearer. Of other
roles' sessions PostgreSQL shows the age only to members of `pg_read_all_stats`. A replication slot,
or a standby with `hot_standby_feedback`, holds a snapshot too: nobody knows since when, only how
many transactions began after it.
"""

from dataclasses import dataclass

from django.db import connection

# Everybody's numbers count for a snapshot, other databases' too; their snapshots do not hold ours.
_OPEN = """
    SELECT pid, application_name, xact_start AS began, backend_xid IS NOT NULL AS writes
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND leader_pid IS NULL AND xact_start IS NOT NULL
      AND backend_type IN ('client backend', 'background worker')
      AND (backend_xid IS NOT NULL OR (backend_xmin IS NOT NULL AND datname = current_database()))
    UNION ALL
    SELECT NULL, 'a prepared transaction', prepared, TRUE FROM pg_prepared_xacts
"""

# A slot's own for the catalogues alone counts as well: they grow just so.
_REPLICATED = """
    SELECT xmin AS held FROM pg_replication_slots UNION ALL SELECT catalog_xmin FROM pg_replication_slots
    UNION ALL SELECT backend_xmin FROM pg_stat_replication
"""

# For the metrics: ages in seconds, or of replication in transactions; 0 where there is none.
PRESSURE_SQL = f"""
WITH open AS MATERIALIZED ({_OPEN}), waiting AS MATERIALIZED (
    SELECT e.created_at FROM events_event e, (SELECT * FROM events_logstate ORDER BY id DESC LIMIT 1) l
    WHERE e.position IS NULL AND e.id > l.settled_to
)
SELECT coalesce(extract(epoch FROM now.at - (SELECT min(began) FROM open WHERE writes)), 0)::float8,
       coalesce(extract(epoch FROM now.at - (SELECT min(began) FROM open)), 0)::float8,
       (SELECT count(*) FROM waiting),
       coalesce(extract(epoch FROM now.at - (SELECT min(created_at) FROM waiting)), 0)::float8,
       (SELECT coalesce(max(age(held)), 0) FROM ({_REPLICATED}) replicated)
FROM (SELECT clock_timestamp() AS at) now
"""  # noqa: S608 (both parts are ours)

_LONGER_SQL = f"""
SELECT pid, application_name, extract(epoch FROM clock_timestamp() - began)::float8 AS age, writes
FROM ({_OPEN}) open WHERE began < clock_timestamp() - %s * interval '1 second' ORDER BY age DESC
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Open:
    """A transaction that is open; never what it asks, which may quote anybody."""

    pid: int | None
    application_name: str
    seconds: float
    writes: bool


def longer_than(seconds: float) -> list[Open]:
    """Return the transactions that have been open for longer, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_LONGER_SQL, [seconds])
        return [Open(*row) for row in cursor.fetchall()]

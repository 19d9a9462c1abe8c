"""A log that grows costs no more: the same is done with ever more events in it.

They are put there at once, past the guards, in a database of its own; what is measured then goes the usual
way. Costs are CPU time of the process with its session of PostgreSQL, which other load changes little; so it
is done in the first round only, five times over each. Ten million are the most; filling takes the longest.
"""

from collections.abc import Callable, Iterator
from statistics import median

import psycopg

from bench.apart import apart
from bench.context import Context
from bench.figures import Aim, Figure
from bench.inside import Inside, Timed
from bench.plots import Plot

TITLE = "Growth with events in the log"
SECONDS = (90, 480)
SUBJECT = "one worker process"
STEPS = {True: (0, 500_000), False: (0, 1_000_000, 10_000_000)}
AT_ONCE = 250_000
MEASURED = 20_000
FEW = 300
TIMES = 5


def _sequence(inside: Inside) -> Timed:
    inside.seed(MEASURED)
    return inside.sequence()


WHATS: dict[str, Callable[[Inside], Timed]] = {
    "placing and publishing": _sequence,
    "a single event, appended, placed and published": lambda inside: inside.few(FEW),
    "replaying all": lambda inside: inside.replay(MEASURED),
    "a reconnect of two channels": lambda inside: inside.replay_channel(FEW),
}
TIMES_MORE = "with the most events, times that with the fewest"

AIMS = [Aim("rows", SUBJECT, f"{what} {TIMES_MORE}", 1.5, least=False) for what in WHATS]
PLOTS = [
    Plot("rows", "What placing and publishing an event costs, whatever is in the log", "rows",
         "CPU of placing and publishing", "events in the log"),
]  # fmt: skip

# Between guards that refuse it in every other way; the channels are those that are replayed.
_FILL = (
    "INSERT INTO events_event (type, version, data, channels, position) SELECT 'BenchTicked', 1,"
    " format('{\"n\":%%s,\"pad\":\"%%s\"}', n, repeat('x', 180)), ARRAY['item:' || 1 + n %% 1000], n"
    " FROM generate_series(%s + 1, %s) n",
    "INSERT INTO events_channelposition (channel, position)"
    " SELECT 'item:' || 1 + n %% 1000, n FROM generate_series(%s + 1, %s) n",
)


def run(context: Context) -> Iterator[Figure]:
    """Fill the log, and measure, step by step."""
    if context.round > 1:
        return
    costs: dict[str, list[float]] = {what: [] for what in WHATS}
    with apart(context.deployment, "bench_rows") as own, own.connect() as connection, Inside(own) as inside:
        inside.seed(MEASURED)
        inside.sequence()
        for step in STEPS[context.quick]:
            _fill(connection, step)
            for what, work in WHATS.items():
                costs[what].append(median(work(inside).cost for _ in range(TIMES)))
                yield Figure("rows", SUBJECT, f"CPU of {what}", "µs", costs[what][-1], step)
    for what, values in costs.items():
        yield Figure("rows", SUBJECT, f"{what} {TIMES_MORE}", "", values[-1] / values[0])


def _fill(connection: psycopg.Connection, upto: int) -> None:
    [(head,)] = connection.execute("SELECT head FROM events_logstate").fetchall()
    connection.execute("SET session_replication_role = 'replica'")
    connection.execute("SET synchronous_commit = off")
    for first in range(head, upto, AT_ONCE):
        last = min(first + AT_ONCE, upto)
        for statement in _FILL:
            connection.execute(statement, (first, last))
        connection.execute("UPDATE events_logstate SET head = %s", (last,))

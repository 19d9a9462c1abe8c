"""The units of work whose cost is measured, each with its name in `bench/capacity/measured.json`."""

from dataclasses import dataclass

from bench.figures import Figure

SCENARIO = "scale"


@dataclass(frozen=True, slots=True)
class Unit:
    """One figure: whose it is, what of, in which unit, and how it was found."""

    part: str
    what: str
    unit: str
    how: str


US, CORES, BYTES = "µs", "cores", "bytes"

UNITS = {
    "web.idle": Unit("web process", "holding nothing", CORES, "watched, slope over 0, 1, 2, 4 processes"),
    "web.memory": Unit("web process", "memory without streams", BYTES, "resident, after its start"),
    "web.message": Unit("web process", "reading a message", US, "of 10 and of 100 events, 110 a second"),
    "web.event": Unit(
        "web process", "reading an event of nobody's here", US, "of 10 and of 100 events, 110 a second"
    ),
    "web.event_kb": Unit(
        "web process", "each kB of an event that is read", US, "events of 200 and of 2,000 bytes"
    ),
    "web.write": Unit("web process", "a write to a reader", US, "1 and 50 events in one write"),
    "web.write_kb": Unit("web process", "each kB of a write", US, "1 and 50 events in one write"),
    "web.open_session": Unit("web process", "opening by a session", US, "48 at a time, a user each"),
    "web.open_token": Unit("web process", "opening by a token", US, "48 at a time, a token each"),
    "web.heartbeat": Unit("web process", "a heartbeat", US, "one a second instead of each 15 s"),
    "web.recheck_session": Unit("web process", "a recheck, session", US, "each 2 s instead of 60"),
    "web.recheck_token": Unit("web process", "a recheck, token", US, "each 2 s instead of 60"),
    "web.reconnect": Unit(
        "web process", "a replay out of the log", US, "1 and 100 missed, besides opening"
    ),
    "web.replay": Unit("web process", "each event of a replay", US, "1 and 100 missed"),
    "web.connection": Unit("web process", "memory of a stream", BYTES, "resident, of all that are open"),
    "kernel.connection": Unit("web process", "the kernel's of a stream", BYTES, "half of both ends' slabs"),
    "valkey.idle_web": Unit("Valkey", "an idle web process", CORES, "watched, slope over 0, 1, 2, 4"),
    "valkey.message": Unit("Valkey", "publishing a message", US, "of one event, to 2 and to 16"),
    "valkey.message_kb": Unit("Valkey", "each kB of a message", US, "where it is full"),
    "valkey.subscriber": Unit("Valkey", "a message to one web process", US, "of one event, to 2 and to 16"),
    "valkey.subscriber_kb": Unit("Valkey", "each kB of it to one web process", US, "where it is full"),
    "valkey.turn": Unit(
        "Valkey", "what else a worker's turn asks", US, "the whole way, less what is above"
    ),
    "valkey.open": Unit("Valkey", "presence of who opens and leaves", US, "a session for each"),
    "postgres.look": Unit("PostgreSQL", "a look of a web process", US, "a hundred a second instead of one"),
    "postgres.append": Unit("PostgreSQL", "a transaction that appends", US, "pgbench, 4 clients"),
    "postgres.append_more": Unit("PostgreSQL", "each further event in it", US, "100 in one statement"),
    "postgres.place": Unit("PostgreSQL", "placing an event", US, "one worker's session"),
    "postgres.publish": Unit("PostgreSQL", "reading it to publish", US, "one worker's session"),
    "postgres.pass": Unit("PostgreSQL", "passing it to no reaction", US, "one worker's session"),
    "postgres.react": Unit("PostgreSQL", "a reaction that tells one", US, "one worker's session"),
    "postgres.open_session": Unit("PostgreSQL", "opening by a session", US, "a session for each"),
    "postgres.open_token": Unit("PostgreSQL", "opening by a token", US, "another issuer's token"),
    "postgres.recheck_session": Unit("PostgreSQL", "a recheck, session", US, "each 2 s"),
    "postgres.recheck_token": Unit("PostgreSQL", "a recheck, token", US, "each 2 s"),
    "postgres.reconnect": Unit("PostgreSQL", "a replay out of the log", US, "1 and 100 missed"),
    "postgres.replay": Unit("PostgreSQL", "each event of a replay", US, "1 and 100 missed"),
    "postgres.disk": Unit("PostgreSQL", "disk of an event of 200 bytes", BYTES, "tables with their indexes"),
    "postgres.wal": Unit("PostgreSQL", "WAL of it", BYTES, "appended and placed"),
    "worker.idle": Unit("worker", "an idle worker", CORES, "watched, the main deployment's"),
    "worker.memory": Unit("worker", "memory of a worker", BYTES, "resident, of its three processes"),
    "worker.place": Unit("worker", "placing an event", US, "one worker's process"),
    "worker.publish": Unit("worker", "publishing an event", US, "one worker's process"),
    "worker.pass": Unit("worker", "passing it to no reaction", US, "one worker's process"),
    "worker.react": Unit("worker", "a reaction that tells one", US, "one worker's process"),
    "worker.turn": Unit("worker", "a turn, whatever it places", US, "the whole way, less the above"),
    "postgres.turn": Unit("PostgreSQL", "a turn, whatever it places", US, "the whole way, less the above"),
    "worker.turns": Unit("worker", "turns, at the most", "1/s", "messages at 1,000 events a second"),
}  # fmt: skip


KEYS = {(each.part, each.what): key for key, each in UNITS.items()}


def unit(key: str, value: float, at: float | None = None) -> Figure:
    """Return the figure of a unit of work; less than nothing, which is noise, counts as nothing."""
    each = UNITS[key]
    return Figure(SCENARIO, each.part, each.what, each.unit, max(0.0, value), at)

"""The formulas: from what a unit of work costs to cores, memory, disk, traffic and money.

They are those of docs/capacity.md, in its order and by its names. All of a log's figures are for one log;
several logs are several of the same, each with its part of the load.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bench.capacity.load import Load
from bench.capacity.measured import Measured

FRAME_BYTES = 49  # of an event on the wire besides its JSON: id, event, data
HEARTBEAT_BYTES = 40
HEARTBEAT_SECONDS, RECHECK_SECONDS = 15, 60  # STREAMS_HEARTBEAT_SECONDS, STREAMS_RECHECK_SECONDS
KEPT_BYTES = (16 + 8 + 4) * 1024**2  # STREAMS_RING_BYTES, STREAMS_REPLAY_BYTES, STREAMS_RENDERED_BYTES
WEB_SESSIONS, WORKER_SESSIONS = (
    8 + 4,
    7,
)  # DATABASE_POOL_SIZE and STREAMS_POOL_SIZE; a worker's threads and children
MEASURED_BYTES = 200  # of the events whose disk was measured
GB = 1e9
DAY, MONTH = 86_400, 30 * 86_400
VALKEY_GB, DATABASE_GB_A_CORE = 1.0, 4.0  # assumed, not measured: room enough, and a usual machine
READING = 0.5  # of what is used of a web process's core may go into reading what concerns none of its readers


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of one log takes."""

    name: str
    number: int
    used: float  # cores
    cores: float  # to have, so that no more than the headroom of them is used
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that more machines do not move, and how much of it is used: 1 is all of it."""

    name: str
    used: float
    add: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one log takes."""

    parts: tuple[Part, ...]
    limits: tuple[Limit, ...]
    disk_gb: float
    egress_gb: float  # a month
    inside_mb: float  # megabytes a second from Valkey to the web processes
    wal_mb: float  # megabytes a second that PostgreSQL logs, and sends to each standby
    alone: float  # of one web process's headroom that all of this would take

    def part(self, name: str) -> Part:
        """Return a part by its name."""
        return next(each for each in self.parts if each.name == name)

    @property
    def fits(self) -> bool:
        """Tell whether no limit is passed."""
        return all(each.used <= 1 for each in self.limits)


def reading(load: Load, measured: Measured) -> float:
    """Return the cores that each web process needs to read every event, whoever's it is."""
    cost, kilobytes = measured.seconds, _kilobytes(load)
    return (
        measured.values["web.idle"]
        + _turns(load, measured) * cost("web.message")
        + load.events * (cost("web.event") + kilobytes * cost("web.event_kb"))
    )


def _kilobytes(load: Load) -> float:
    return (load.bytes + FRAME_BYTES) / 1000


def _turns(load: Load, measured: Measured) -> float:
    return min(load.events, measured.values["worker.turns"])


def plan(load: Load, measured: Measured) -> Plan:
    """Return what a load takes on one log, whether or not it fits."""
    cost, value = measured.seconds, measured.values
    kilobytes, turns = _kilobytes(load), _turns(load, measured)
    events, opened, room = load.events, load.opened, load.headroom
    tokens = 1 - load.sessions
    replays = opened * load.replay
    heartbeats, rechecks = load.connections / HEARTBEAT_SECONDS, load.connections / RECHECK_SECONDS

    def either(part: str, what: str) -> float:
        return load.sessions * cost(f"{part}.{what}_session") + tokens * cost(f"{part}.{what}_token")

    def returning(part: str) -> float:
        return replays * (cost(f"{part}.reconnect") + load.missed * cost(f"{part}.replay"))

    each_reads = reading(load, measured)
    serving = (
        load.deliveries / load.joined * cost("web.write")
        + load.deliveries * kilobytes * cost("web.write_kb")
        + opened * either("web", "open")
        + returning("web")
        + heartbeats * cost("web.heartbeat")
        + rechecks * either("web", "recheck")
    )
    full = load.connections / load.streams
    # Past that no number of processes would do; what they would be is then no matter.
    number = math.ceil(max(1.0, full, serving / max(room - each_reads, room * 0.01)))
    web = number * each_reads + serving
    valkey = (
        number * value["valkey.idle_web"]
        + turns * (cost("valkey.turn") + cost("valkey.message") + number * cost("valkey.subscriber"))
        + events * kilobytes * (cost("valkey.message_kb") + number * cost("valkey.subscriber_kb"))
        + opened * cost("valkey.open")
    )
    # Past its headroom a process cannot even read; what it would take is then said all the same.
    web_cores = max(number, web / room)
    placing = {part: cost(f"{part}.place") + cost(f"{part}.publish") for part in ("worker", "postgres")}

    def working(part: str) -> float:
        each = (
            placing[part] + cost(f"{part}.pass") * (1 - load.reacted) + cost(f"{part}.react") * load.reacted
        )
        return turns * cost(f"{part}.turn") + events * each

    worker = value["worker.idle"] + working("worker")
    postgres = (
        number * cost("postgres.look")
        + events / load.per_transaction * cost("postgres.append")
        + events * (1 - 1 / load.per_transaction) * cost("postgres.append_more")
        + working("postgres")
        + opened * either("postgres", "open")
        + returning("postgres")
        + rechecks * either("postgres", "recheck")
    )
    # A worker and its session of the database take turns: what one does is for both to wait.
    each_placed = sum(placing.values())
    # A whole worker reacts to fewer than the one process that only reacts: it places meanwhile, and looks.
    reacting = max(sum(cost(f"{part}.react") for part in placing), 1 / measured.reacted)
    passing = sum(cost(f"{part}.pass") for part in placing)
    each_reacted = load.reacted * reacting + (1 - load.reacted) * passing
    stream = value["web.connection"] + value["kernel.connection"]
    memory = number * (value["web.memory"] + KEPT_BYTES) + load.connections * stream
    kept = value["postgres.disk"] - MEASURED_BYTES + load.bytes
    writes = load.deliveries / load.joined + heartbeats
    sent = load.deliveries * kilobytes * 1000 + heartbeats * HEARTBEAT_BYTES + writes * load.overhead
    database = postgres / room
    return Plan(
        parts=(
            Part("web processes", number, web, web_cores, memory / GB),
            Part("workers", 1, worker, worker / room, value["worker.memory"] / GB),
            Part("Valkey", 1, valkey, valkey / room, VALKEY_GB),
            Part("PostgreSQL", 1, postgres, database, max(1.0, database) * DATABASE_GB_A_CORE),
        ),
        limits=(
            Limit("placing, one worker at a time", events * each_placed / room, LOGS),
            Limit("reacting, one worker at a time", events * each_reacted / room, REACTIONS),
            Limit("every web process reads every event", each_reads / (room * READING), LOGS),
            Limit("Valkey's one core", valkey / room, SHARDS),
            Limit("PostgreSQL's machine", database / load.database_cores, DATABASE),
            Limit(
                "PostgreSQL's sessions",
                (number * WEB_SESSIONS + WORKER_SESSIONS) / load.database_sessions,
                "a pooler, or a higher max_connections",
            ),
        ),
        disk_gb=events * load.mean * DAY * load.retention * kept / GB,
        egress_gb=sent * load.mean * MONTH / GB,
        wal_mb=events * (value["postgres.wal"] - MEASURED_BYTES + load.bytes) / 1e6,
        inside_mb=number * events * kilobytes / 1000,
        alone=max(full, (each_reads + serving) / room),
    )


ALONE = "one web process"
LOGS = "one log for each tenant"
REACTIONS = "one log for each tenant; or a job for what takes long"
SHARDS = "one log for each tenant, with a Valkey each"
DATABASE = "a larger machine; one log for each tenant"
MOST_LOGS = 100_000


def share(load: Load, logs: int) -> Load:
    """Return one log's part of a load: as many readers of an event as before, if there are so many."""
    return load.times(1 / logs)


def logs_needed(load: Load, measured: Measured) -> int | None:
    """Return the fewest logs on which a load fits; None where none would do: so much is idle cost."""
    low, high = 0, 1
    while not plan(share(load, high), measured).fits:
        low, high = high, high * 2
        if high > MOST_LOGS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if plan(share(load, middle), measured).fits:
            high = middle
        else:
            low = middle
    return high


@dataclass(frozen=True, slots=True)
class Step:
    """Where something is full, and what to add then."""

    factor: float  # times the load; 0 where it is full at any load
    name: str
    add: str


def steps(load: Load, measured: Measured) -> list[Step]:
    """Return what is full first, and what after it, as the load of one log grows as a whole."""

    def alone(each: Load) -> float:
        return plan(each, measured).alone

    def limit(number: int) -> Callable[[Load], float]:
        return lambda each: plan(each, measured).limits[number].used

    found = [Step(_full(load, alone), ALONE, "web processes")]
    found += [
        Step(_full(load, limit(number)), each.name, each.add)
        for number, each in enumerate(plan(load, measured).limits)
    ]
    return sorted(found, key=lambda each: each.factor)


MOST_TIMES = 1e6
LEAST_TIMES = 1e-12  # of which nothing is left, of whatever may be asked


def _full(load: Load, used: Callable[[Load], float]) -> float:
    """Return at how many times the load something is full; at most `MOST_TIMES`, and 0 if at any load."""
    low, high = LEAST_TIMES, MOST_TIMES
    if used(load.times(high)) <= 1:
        return high
    if used(load.times(low)) > 1:
        return 0.0
    for _ in range(80):
        middle = math.sqrt(low * high)
        if used(load.times(middle)) > 1:
            high = middle
        else:
            low = middle
    return low


@dataclass(frozen=True, slots=True)
class Bill:
    """What all logs together cost a month."""

    cores: float
    memory: float
    disk: float
    egress: float

    @property
    def total(self) -> float:
        """Return the sum."""
        return self.cores + self.memory + self.disk + self.egress


def part_price(load: Load, part: Part) -> float:
    """Return what a part costs a month, without disk and traffic."""
    return part.cores * load.core + part.memory_gb * load.memory


def bill(load: Load, each: Plan, logs: int) -> Bill:
    """Return what so many logs cost, each as the plan is."""
    return Bill(
        cores=logs * sum(part.cores for part in each.parts) * load.core,
        memory=logs * sum(part.memory_gb for part in each.parts) * load.memory,
        disk=logs * each.disk_gb * load.disk,
        egress=logs * each.egress_gb * load.egress,
    )

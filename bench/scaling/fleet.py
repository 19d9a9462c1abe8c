"""Several web processes behind one PostgreSQL, one Valkey and one worker: what each of them asks of all.

First nothing happens, then events go the whole way that concern nobody: so what a further web process
costs the shared parts is the slope over how many there are. Somebody listens at each, to something else: else
it would take what comes by many at once.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from statistics import linear_regression

import redis

from bench.context import Context, Server
from bench.figures import UVICORN, Figure
from bench.payload import BYTES
from bench.publishing import TICK_SECONDS, LogPublisher
from bench.scaling.hubs import FRAME_BYTES
from bench.scaling.units import SCENARIO, unit
from bench.usage import Usage

FLEETS = (1, 2, 4)
RATE = 1_000.0
CHANNELS = [f"item:{number}" for number in range(20_001, 20_101)]
PARTS = {"valkey": "Valkey", "postgres": "PostgreSQL", "worker": "worker", "web": "web process"}
IDLE = "idle, by web processes"
ELSEWHERE = "item:20000"
BUSY = f"{RATE:,.0f} events a second, by web processes"


def measure(context: Context, costs: Mapping[str, float]) -> Iterator[Figure]:
    """Start ever more web processes, watch them, and publish; `costs` are those of the units found before."""
    idle: dict[int, Mapping[str, float]] = {}
    idle[0] = _watched(context, [])
    with LogPublisher(context.deployment) as publisher, ExitStack() as stack, context.crowd() as crowd:
        publisher.steady(CHANNELS, rate=RATE, seconds=0.5)  # warm
        servers: list[Server] = []
        for fleet in FLEETS:
            while len(servers) < fleet:
                server = stack.enter_context(context.serving(UVICORN))
                crowd.open(server.address, [(server.opening(ELSEWHERE), ELSEWHERE, 1)])
                servers.append(server)
            time.sleep(1.0)
            idle[fleet] = _watched(context, servers)
            calls, before, began = _published(context), _used(context, servers), time.monotonic()
            sent = publisher.steady(CHANNELS, rate=RATE, seconds=context.pick(2.0, 3.0))
            context.deployment.head()
            took = time.monotonic() - began
            busy = _shares(_used(context, servers), before, took)
            turns = (_published(context) - calls) / took
            for part, name in PARTS.items():
                yield Figure(SCENARIO, name, f"CPU at {BUSY}", "cores", busy[part], fleet)
            yield Figure(SCENARIO, "worker", f"messages a second at {BUSY}", "1/s", turns, fleet)
            if fleet == 1:
                asked = {part: busy[part] - idle[1][part] for part in busy}
                yield from _turn(context, costs, asked, turns, sent.events / took)
    for part in ("valkey", "postgres"):
        for fleet, each in idle.items():
            yield Figure(SCENARIO, PARTS[part], f"CPU {IDLE}", "cores", each[part], fleet)
    shares = [each["valkey"] for each in idle.values()]
    yield unit("valkey.idle_web", linear_regression(list(idle), shares).slope)
    yield unit("web.idle", sum(each["web"] for each in idle.values()) / sum(FLEETS))
    yield unit("worker.idle", sum(each["worker"] for each in idle.values()) / len(idle))


def _turn(
    context: Context, costs: Mapping[str, float], cores: Mapping[str, float], turns: float, rate: float
) -> Iterator[Figure]:
    """Yield what a turn of the worker costs each part besides what its events do."""
    kilobytes = rate / turns * (BYTES + FRAME_BYTES) / 1000
    placed = {
        part: rate / turns * sum(costs[f"{part}.{step}"] for step in ("place", "publish", "pass"))
        for part in ("worker", "postgres")
    }
    appends = min(rate, 1 / TICK_SECONDS)  # transactions a second
    appended = appends * costs["postgres.append"] + (rate - appends) * costs["postgres.append_more"]
    known = {
        "worker": placed["worker"],
        "postgres": placed["postgres"] + appended / turns,
        "valkey": sum(
            costs[f"valkey.{each}"] + kilobytes * costs[f"valkey.{each}_kb"]
            for each in ("message", "subscriber")
        ),
    }
    yield unit("worker.turns", turns)
    yield unit("worker.memory", context.deployment.behind()["worker"].resident_bytes)
    for part, cost in known.items():
        yield unit(f"{part}.turn", 1e6 * cores[part] / turns - cost)


def _watched(context: Context, servers: list[Server]) -> Mapping[str, float]:
    before, seconds = _used(context, servers), context.pick(2.0, 3.0)
    time.sleep(seconds)
    return _shares(_used(context, servers), before, seconds)


def _used(context: Context, servers: list[Server]) -> dict[str, Usage]:
    web = [each.usage() for each in servers]
    every = Usage(sum(each.cpu_seconds for each in web), sum(each.resident_bytes for each in web), 0)
    return {"web": every, **context.deployment.behind()}


def _shares(now: dict[str, Usage], before: dict[str, Usage], seconds: float) -> dict[str, float]:
    return {part: (now[part] - before[part]).cpu_seconds / seconds for part in now}


def _published(context: Context) -> int:
    """Return how many messages were published so far."""
    with redis.Redis.from_url(context.deployment.valkey.url) as client:
        found = client.info("commandstats")
    calls: int = found.get("cmdstat_publish", {}).get("calls", 0)
    return calls

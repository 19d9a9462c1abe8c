"""What streams cost while nothing is published: to open, to hold, to recheck, and who comes back.

Each stream is another user's: with a session of their own, or with a token that another issuer signed.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import jwt

from bench import keys
from bench.context import Context
from bench.figures import UVICORN, Figure
from bench.scaling.units import unit
from bench.servers import Trouble
from bench.usage import Usage
from bench.web import Web

NEVER = "86400"
CALM = {"STREAMS_HEARTBEAT_SECONDS": NEVER, "STREAMS_RECHECK_SECONDS": NEVER}
RECHECK_SECONDS = 2
LOOK_SECONDS = 0.01
LEFT_SECONDS = 0.5  # until the server has noticed
SETTLE_SECONDS = 1.2  # until presence has been reported
USERS = {True: 300, False: 1_000}
ITEMS = 100  # that these users look at, beside what is their own
HELD = {True: 1_000, False: 4_000}
RETURNING = {True: 60, False: 150}
MISSED = 100  # events, at the most
CHANNEL = "item:1"

Wanted = list[tuple[bytes, str, int]]

_SESSIONS = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from events import items
Store = import_module(settings.SESSION_ENGINE).SessionStore
names = [f"scale{{n}}" for n in range({users})]
User.objects.bulk_create([User(username=name, password="!") for name in names], ignore_conflicts=True)
users = list(User.objects.filter(username__in=names))
made = [items.create_item(user, title="Scale").pk for user in users[:{items}]]
for number, user in enumerate(users):
    store = Store()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    print(settings.SESSION_COOKIE_NAME, store.session_key, made[number % len(made)])
"""


def measure(context: Context) -> Iterator[Figure]:
    """Open streams in both ways, hold them, have them rechecked, and have some come back."""
    sessions = _sessions(context)
    yield from _opening(context, sessions)
    yield from _heartbeats(context)
    yield from _rechecks(context, sessions)
    yield from _returning(context)


def _sessions(context: Context) -> list[tuple[str, str]]:
    """Make users who are logged in; return for each their cookie, and channels as a page asks for them."""
    said = context.deployment.shell(_SESSIONS.format(users=USERS[context.quick], items=ITEMS))
    return [
        (f"Cookie: {name}={key}", f"me&channel=item:{item}")
        for name, key, item in (line.split() for line in said.splitlines())
    ]


def _by_session(server: Web, sessions: list[tuple[str, str]]) -> Wanted:
    return [
        (server.opening_with(cookie, channels), f"me{n}", 1) for n, (cookie, channels) in enumerate(sessions)
    ]


def _by_token(server: Web, number: int) -> Wanted:
    now = int(time.time())
    said = {"iss": keys.ISSUER, "aud": "tickertape", "iat": now, "exp": now + 3600, "channels": ["item:*"]}
    found = []
    for n in range(number):
        claims = {**said, "sub": f"u{n}"}
        token = jwt.encode(claims, keys.KEY, algorithm="HS256", headers={"kid": keys.ISSUER})
        request = server.opening_with(f"Authorization: Bearer {token}", f"item:{n + 1}")
        found.append((request, f"item:{n + 1}", 1))
    return found


def _parts(context: Context, server: Web) -> dict[str, Usage]:
    return {"web": server.usage(), **context.deployment.behind()}


def _spent(context: Context, server: Web, before: dict[str, Usage], per: float) -> dict[str, float]:
    """Return microseconds of CPU of each part, for one of so many."""
    return {
        part: 1e6 * (now - before[part]).cpu_seconds / per for part, now in _parts(context, server).items()
    }


def _calm(context: Context, server: Web, seconds: float) -> dict[str, float]:
    """Return microseconds of CPU that each part uses in so long while nothing is asked of it."""
    before = _parts(context, server)
    time.sleep(2.0)
    return {part: cost * seconds for part, cost in _spent(context, server, before, 2.0).items()}


def _opening(context: Context, sessions: list[tuple[str, str]]) -> Iterator[Figure]:
    with context.serving(UVICORN, **CALM) as server, context.crowd() as crowd:
        assert isinstance(server, Web)  # noqa: S101 (what it is asked for)
        yield unit("web.memory", server.usage().resident_bytes)
        ways = {"session": _by_session(server, sessions), "token": _by_token(server, len(sessions))}
        for how, wanted in ways.items():
            crowd.open(server.address, wanted[:100])  # warm
            crowd.close()
            time.sleep(LEFT_SECONDS)
            idle = _calm(context, server, 1.0)
            before, began = _parts(context, server), time.monotonic()
            crowd.open(server.address, wanted)
            cost = _spent(context, server, before, len(wanted))
            took = time.monotonic() - began
            for part in ("web", "postgres"):
                yield unit(f"{part}.open_{how}", cost[part] - idle[part] * took / len(wanted))
            crowd.close()
            time.sleep(SETTLE_SECONDS)
            if how == "session":
                lasted = time.monotonic() - began
                cost = _spent(context, server, before, len(wanted))
                yield unit("valkey.open", cost["valkey"] - idle["valkey"] * lasted / len(wanted))


def _heartbeats(context: Context) -> Iterator[Figure]:
    number = HELD[context.quick]
    seconds = context.pick(2.0, 4.0)
    beating = {**CALM, "STREAMS_HEARTBEAT_SECONDS": "1", "STREAMS_LOOK_SECONDS": str(LOOK_SECONDS)}
    asked = context.deployment.behind()["postgres"]
    time.sleep(2.0)
    calm = 1e6 * (context.deployment.behind()["postgres"] - asked).cpu_seconds / 2.0
    with context.serving(UVICORN, **beating) as server, context.crowd() as crowd:
        assert isinstance(server, Web)  # noqa: S101
        crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, 20)])
        time.sleep(SETTLE_SECONDS)
        idle = _calm(context, server, seconds)
        yield from _looks(context, idle["postgres"] / seconds - calm)
        before, slabs = server.usage(), _slabs()
        crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, number)])
        time.sleep(SETTLE_SECONDS)
        yield unit("kernel.connection", (_slabs() - slabs) / 2 / number)
        yield unit("web.connection", (server.usage() - before).resident_bytes / number)
        start = _parts(context, server)
        time.sleep(seconds)
        cost = _spent(context, server, start, 1)["web"] - idle["web"]
        yield unit("web.heartbeat", cost / (number * seconds))


def _looks(context: Context, cost: float) -> Iterator[Figure]:
    """Yield the cost of a look, of microseconds in a second of as many as there are."""
    before = _transactions(context)
    time.sleep(2.0)
    with_looks = (_transactions(context) - before) / 2.0
    yield unit("postgres.look", cost / max(1.0, min(with_looks, 1 / LOOK_SECONDS)))


def _transactions(context: Context) -> int:
    with context.deployment.connect() as connection:
        [(number,)] = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchall()
    return int(number)


def _rechecks(context: Context, sessions: list[tuple[str, str]]) -> Iterator[Figure]:
    rounds = context.pick(1, 2)
    seconds = RECHECK_SECONDS * rounds
    often = {**CALM, "STREAMS_RECHECK_SECONDS": str(RECHECK_SECONDS)}
    with context.serving(UVICORN, **often) as server, context.crowd() as crowd:
        assert isinstance(server, Web)  # noqa: S101
        idle = _calm(context, server, seconds)
        ways = {"session": _by_session(server, sessions), "token": _by_token(server, len(sessions))}
        for how, wanted in ways.items():
            crowd.open(server.address, wanted)
            time.sleep(SETTLE_SECONDS)
            before, began = _parts(context, server), time.monotonic()
            time.sleep(seconds)
            # The pause is between two rounds, so that a round takes what it takes besides.
            done = (time.monotonic() - began) / RECHECK_SECONDS * len(wanted)
            cost = _spent(context, server, before, done)
            for part in ("web", "postgres"):
                yield unit(f"{part}.recheck_{how}", cost[part] - idle[part] / done)
            crowd.close()
            time.sleep(LEFT_SECONDS)


def _returning(context: Context) -> Iterator[Figure]:
    """Have each of some come back to a channel of their own, which no other's replay brings along."""
    number = RETURNING[context.quick]
    channels = [f"item:{50_000 + n}" for n in range(2 * number)]
    few, many = channels[:number], channels[number:]
    with (
        context.serving(UVICORN, STREAMS_RING_EVENTS="1", **CALM) as server,
        context.crowd() as crowd,
        server.publisher() as publisher,
    ):
        assert isinstance(server, Web)  # noqa: S101
        cursor = context.deployment.head()
        last = {channel: publisher.one(channel) for channel in few}
        for channel in many:
            last[channel] = publisher.burst(channel, MISSED).last[channel]
        context.deployment.head()
        time.sleep(SETTLE_SECONDS)
        idle = _calm(context, server, 1.0)
        costs = {}
        for name, some, came_with in (("open", few, ""), ("few", few, cursor), ("many", many, cursor)):
            wanted = [(server.opening(each, last_event_id=came_with), each, 1) for each in some]
            before, began = _parts(context, server), time.monotonic()
            crowd.open(server.address, wanted, last=0 if came_with else None)
            if came_with and not crowd.until({each: last[each] for each in some}):
                raise Trouble("a replay did not end")
            took = time.monotonic() - began
            cost = _spent(context, server, before, number)
            costs[name] = {part: cost[part] - idle[part] * took / number for part in ("web", "postgres")}
            crowd.close()
    for part in ("web", "postgres"):
        event = (costs["many"][part] - costs["few"][part]) / (MISSED - 1)
        yield unit(f"{part}.replay", event)
        yield unit(f"{part}.reconnect", costs["few"][part] - costs["open"][part] - event)


def _slabs() -> int:
    """Return what the kernel keeps of small things, sockets among them, and of their buffers."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["Slab"].split()[0]) * 1024

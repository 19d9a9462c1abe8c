"""What it costs that what is written is an event in a log, with an order: beside a twin without one.

The twin has the same framework, server, login, key and parsing, and does bare INSERTs: of a hundred events
as many, and, in figures of their own, one of a hundred rows. Both are posted to by turns, so that what else
the machine does meets both; first without any worker, then with one that places, publishes and reacts. The
twin gives it nothing to do, and has its turn when the worker is done with ours: its work is in our figures
only. A comment is an event and a row, under the lock that keeps its item's order; the twin's is a row.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

from bench.apart import Apart, apart
from bench.context import Context
from bench.figures import DAPHNE, UVICORN, Aim, Figure
from bench.posting import Poster
from bench.web import Web

TITLE = "Appending beside bare inserts"
SECONDS = (100, 210)
CONNECTIONS = 4
TURNS = {True: 4, False: 7}  # of which the first does not count
TURN_SECONDS = 0.5
SETTLE_SECONDS = 120.0  # at most: all that was posted without a worker waits for its first look
ONE, HUNDRED, AS_ONE, COMMENT = "an event", "a hundred events", "a hundred events by one insert", "a comment"
NEAR = {ONE, COMMENT}  # to their aim, by less than turns differ: they have more of them
WORKERS = ("no worker", "a worker beside it")

AIMS = [
    Aim("writes", subject, f"{what}, times bare inserts, {worker}", 0.9)
    for subject in (UVICORN, DAPHNE)
    for what in (ONE, HUNDRED, COMMENT)
    for worker in WORKERS
]
PLOTS = ()

_PREPARE = """
from django.db import connection
from django.contrib.auth.models import User
from bench import bare
from bench.deployment import PASSWORD, USER
from events import ingest, items
with connection.cursor() as cursor:
    cursor.execute(bare.TABLES)
user = User.objects.create_superuser(USER, password=PASSWORD)
print("item", items.create_item(user, title="Busy").pk)
print("key", ingest.make_key(name="bench", channels=["*"], types=["*"])[1])
"""


@dataclass(frozen=True, slots=True)
class Post:
    """One kind of request, and its headers, for the service and for its twin."""

    path: str
    bare: str  # the twin's
    body: bytes
    headers: dict[str, str]


def run(context: Context) -> Iterator[Figure]:
    """Post to each server and to the twin in it by turns."""
    with apart(context.deployment, "bench_writes") as own:
        said = dict(
            line.split() for line in own.manage("shell", "--verbosity=0", "-c", _PREPARE).splitlines()
        )
        for subject in context.among(UVICORN, DAPHNE):
            yield from _one(context, own, subject, said)


def _one(context: Context, own: Apart, subject: str, said: dict[str, str]) -> Iterator[Figure]:
    environment = {**own.environment, "DJANGO_SETTINGS_MODULE": "bench.bare_settings"}
    with context.serving(subject, **environment) as server:
        assert isinstance(server, Web)  # noqa: S101 (what it is asked for)
        posts = _posts(server, said)
        with Poster(server.address, core=context.cores.rest, connections=CONNECTIONS) as poster:
            yield from _compared(context, server, poster, posts, WORKERS[0], settle=lambda: None)
            with own.worker():
                settle = partial(own.settle, seconds=SETTLE_SECONDS)
                settle()
                yield from _compared(context, server, poster, posts, WORKERS[1], settle=settle)


def _posts(server: Web, said: dict[str, str]) -> dict[str, Post]:
    def events(number: int) -> bytes:
        event = {"channels": ["item:1"], "type": "BenchTicked", "data": {"n": 1, "pad": "x" * 180}}
        return json.dumps({"events": [event] * number}).encode()

    key = {"Authorization": f"Bearer {said['key']}"}
    cookies, csrf = server.log_in()
    session = {"Cookie": cookies, "X-CSRFToken": csrf}
    comments = f"items/{said['item']}/comments"
    words = json.dumps({"text": "Words that somebody said."}).encode()
    return {
        ONE: Post("api/events", "bare/events", events(1), key),
        HUNDRED: Post("api/events", "bare/each/events", events(100), key),
        AS_ONE: Post("api/events", "bare/events", events(100), key),
        COMMENT: Post(f"api/{comments}", f"bare/{comments}", words, session),
    }


def _compared(
    context: Context,
    server: Web,
    poster: Poster,
    posts: dict[str, Post],
    worker: str,
    *,
    settle: Callable[[], None],
) -> Iterator[Figure]:
    for what, post in posts.items():
        rates: dict[str, list[float]] = {"api": [], "bare": []}
        costs: dict[str, list[float]] = {"api": [], "bare": []}
        for turn in range(TURNS[context.quick] * (3 if what in NEAR and not context.quick else 1)):
            for where, path in (("api", post.path), ("bare", post.bare)):
                before = server.usage()
                posted = poster.post(f"/{path}", post.body, post.headers, seconds=TURN_SECONDS)
                cost = (server.usage() - before).cpu_seconds
                settle()  # in nobody's turn
                if turn == 0:
                    continue  # the first of each finds nothing warm
                rates[where].append(posted.requests / posted.seconds)
                costs[where].append(1e6 * cost / posted.requests)

        def figure(quantity: str, unit: str, value: float, what: str = what) -> Figure:
            return Figure("writes", server.subject, f"{what}, {quantity}, {worker}", unit, value)

        yield figure("times bare inserts", "", _ratio(rates["api"], rates["bare"]))
        yield figure("posted", "1/s", median(rates["api"]))
        yield figure("CPU of the web process", "µs", median(costs["api"]))
        yield figure("CPU of the web process for the bare insert", "µs", median(costs["bare"]))
        yield figure("CPU of the web process, bare / ours", "", _ratio(costs["bare"], costs["api"]))


def _ratio(ones: list[float], others: list[float]) -> float:
    """Return the median ratio of those that had their turn one after the other."""
    return median(one / other for one, other in zip(ones, others, strict=True))

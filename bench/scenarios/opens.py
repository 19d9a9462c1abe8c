"""Streams of an item are opened, at most 48 at a time, and left again.

It says what one costs the server, and how many a second it opens. Ours are opened in three ways: by a
session, as a browser does; by a token of ours, which stands for a session; and by a token that another
issuer signed. nchan asks nobody, and looks nothing up.
"""

from collections.abc import Iterator

from bench import keys
from bench.context import Context, Server
from bench.crowd import Crowd
from bench.figures import DAPHNE, NCHAN, UVICORN, Aim, Figure
from bench.web import Web

TITLE = "Opening a stream"
SECONDS = (25, 35)
STREAMS = {True: 300, False: 2_000}

AIMS = [
    *(Aim("opens", each, "CPU of one by a token", 1.0, least=False) for each in (UVICORN, DAPHNE)),
    *(Aim("opens", each, "CPU of one by a session", 2.5, least=False) for each in (UVICORN, DAPHNE)),
]
PLOTS = ()


def run(context: Context) -> Iterator[Figure]:
    """Open streams of each subject."""
    for subject in context.among(UVICORN, DAPHNE, NCHAN):
        with context.serving(subject) as server, context.crowd() as crowd:
            for how, request, channel in _requests(server):
                crowd.open(server.address, [(request, channel, 100)])  # warm
                crowd.close()
                yield from _opened(context, server, crowd, how, request, channel)


def _requests(server: Server) -> list[tuple[str, bytes, str]]:
    if not isinstance(server, Web):
        return [("without asking", server.opening("item:1"), "item:1")]
    session = server.log_in()
    item = server.post("/api/items", {"title": "Measured"}, session)
    channel = f"item:{item['id']}"
    made = server.post("/api/tokens", {"channels": [channel], "ttl": 3600}, session)
    credentials = {
        "by a session": f"Cookie: {session[0]}",
        "by a token": f"Authorization: Bearer {made['token']}",
        "by another issuer's token": f"Authorization: Bearer {keys.token()}",
    }
    return [(how, server.opening_with(each, channel), channel) for how, each in credentials.items()]


def _opened(
    context: Context, server: Server, crowd: Crowd, how: str, request: bytes, channel: str
) -> Iterator[Figure]:
    before = server.usage()
    opened = crowd.open(server.address, [(request, channel, STREAMS[context.quick])])
    cost = (server.usage() - before).cpu_seconds
    subject = server.subject
    yield Figure("opens", subject, f"CPU of one {how}", "ms", 1000 * cost / opened.streams)
    yield Figure("opens", subject, f"a second {how}", "1/s", opened.streams / opened.seconds)
    crowd.close()

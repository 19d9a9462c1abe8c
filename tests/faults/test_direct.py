"""A stream opened in the event loop is answered as on Django's own way, to the byte, and costs little."""

import contextlib
import re
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core import signing

from streams.handler import AT_ONCE
from tests.faults.people import new_item, settle
from tests.faults.wire import cpu_seconds
from tests.stack import Stack, eventually

OLD_KEY = "an-older-secret-key-" + "y" * 32
PAGE = "https://app.example.org"
# Of a process behind a proxy with HTTPS, for one host, with pages elsewhere and an older secret key.
STRICT = {
    "ALLOWED_HOSTS": "localhost,127.0.0.1",
    "CORS_ALLOWED_ORIGINS": PAGE,
    "HTTPS": "1",
    "SECRET_KEY_FALLBACKS": OLD_KEY,
    "STREAMS_HEARTBEAT_SECONDS": "60",
}


@dataclass(frozen=True)
class Answer:
    """What came, up to the first frame or to the end."""

    status: str
    headers: list[tuple[str, str]]
    body: str


def ask(port: int, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """Send a request as it is given, and read the answer."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        link.sendall("\r\n".join(lines).encode("latin-1") + b"\r\nConnection: close\r\n\r\n" + body)
        got = b""
        while piece := link.recv(65_536):
            got += piece
            frame = re.search(rb"event: [^\n]+\n(?:.+\n)*\r?\n", got)
            if b"text/event-stream" in got and frame:
                got = got[: frame.end()]  # what follows may have come with it, or not
                break
    head, _, rest = got.partition(b"\r\n\r\n")
    status, *named = head.decode("latin-1").split("\r\n")
    fields = [tuple(line.split(": ", 1)) for line in named]
    return Answer(status, sorted((name.lower(), value) for name, value in fields), rest.decode("latin-1"))


def alike(answer: Answer) -> Answer:
    """Leave out what differs between any two: the time, a new session's key, where the log ends."""
    changing = re.compile(r"retry: \d+|^[0-9a-f]+\r\n|[0-9a-f]{10}-\d+", re.MULTILINE)
    headers = [
        (name, re.sub(r"(sessionid|csrftoken)=\w+|expires=[^;]+", "…", value))
        for name, value in answer.headers
        if name != "date"
    ]
    return Answer(answer.status, headers, changing.sub("…", answer.body))


@pytest.fixture(scope="module")
def strict(rough) -> Iterator[Stack]:
    """Each server both ways: `…31` as it is, `…32` as Django has it."""
    names = [f"{server}{number}" for server in ("daphne", "uvicorn") for number in (31, 32)]
    for name in names:
        rough.start(name, **STRICT, STREAMS_DIRECT="1" if name.endswith("31") else "0")
    yield rough
    for name in names:
        rough.stop(name)


@pytest.fixture(scope="module")
def known(strict) -> dict[str, str]:
    """What requests are made of: a session, tokens, ids."""
    alice, bob = strict.login("alice"), strict.login("bob")
    item, private = new_item(alice, visibility="members"), new_item(bob, visibility="members")
    token = alice.post("/api/tokens", json={"channels": [f"item:{item}", "system"]}).json()["token"]
    with strict.connect() as connection:
        [job] = connection.execute(
            "INSERT INTO events_job (id, event_id, owner_id, name, params, state, tries, error, error_type,"
            " queued_at) SELECT gen_random_uuid(), 10^9, id, 'x', '{}', 'running', 0, '', '', now()"
            " FROM auth_user WHERE username = 'alice' RETURNING id"
        ).fetchone()
        settle(strict)
        return {
            "session": alice.cookies["sessionid"],
            "older": "",
            "expired": expired_session(connection, alice.cookies["sessionid"]),
            "item": item,
            "private": private,
            "user": str(alice.get("/api/session").json()["user"]["id"]),
            "token": token,
            "job": str(job),
        }


def older_session(connection) -> str:
    """Log alice in as a process did that had the older secret key; return the session's key."""
    user_id, password = connection.execute(
        "SELECT id, password FROM auth_user WHERE username = 'alice'"
    ).fetchone()
    user = User(pk=user_id, password=password)
    said = {
        "_auth_user_id": str(user_id),
        "_auth_user_backend": "events.logins.Backend",
        "_auth_user_hash": user._get_session_auth_hash(secret=OLD_KEY),
    }
    salt = "django.contrib.sessions.SessionStore"
    return insert(connection, signing.dumps(said, key=OLD_KEY, salt=salt, compress=True), minutes=60)


def expired_session(connection, key: str) -> str:
    [data] = connection.execute(
        "SELECT session_data FROM django_session WHERE session_key = %s", [key]
    ).fetchone()
    return insert(connection, data, minutes=-1)


def insert(connection, data: str, *, minutes: int) -> str:
    key = uuid.uuid4().hex
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    connection.execute("INSERT INTO django_session VALUES (%s, %s, %s)", [key, data, until])
    return key


# Method, path, headers; `{…}` is one of the `known`.
SESSION = {"Cookie": "sessionid={session}; csrftoken=" + "c" * 32}
BEARER = {"Authorization": "Bearer {token}"}
OWN = "/streams/items/{item}/"
REQUESTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "an item": ("GET", OWN, SESSION),
    "a channel": ("GET", "/streams/?channel=item:{item}", SESSION),
    "me": ("GET", "/streams/me/", SESSION),
    "me and an item": ("GET", "/streams/me/?channel=item:{item}", SESSION),
    "a job": ("GET", "/streams/jobs/{job}/", SESSION),
    "a token's": ("GET", OWN, BEARER),
    "a token's by query": ("GET", OWN + "?token={token}", {}),
    "a token's by cookie": ("GET", OWN, {"Cookie": "tickertape_token={token}"}),
    "a token's, a session being there": ("GET", OWN, {**SESSION, **BEARER}),
    "a token's, out of scope": ("GET", "/streams/?channel=item:{private}", BEARER),
    "me by a token": ("GET", "/streams/me/", BEARER),
    "a token that is none": ("GET", OWN, {"Authorization": "Bearer nonsense"}),
    "an empty token": ("GET", OWN, {"Authorization": "Bearer"}),
    "another scheme": ("GET", OWN, {**SESSION, "Authorization": "Basic YTpi"}),
    "nobody": ("GET", OWN, {}),
    "an older key's session": ("GET", OWN, {"Cookie": "sessionid={older}"}),
    "an expired session": ("GET", OWN, {"Cookie": "sessionid={expired}"}),
    "an unknown session": ("GET", OWN, {"Cookie": "sessionid=" + "a" * 32}),
    "a session that is none": ("GET", OWN, {"Cookie": "sessionid=x"}),
    "an unknown session and a token": ("GET", OWN, {"Cookie": "sessionid=x; tickertape_token={token}"}),
    "an unknown item": ("GET", "/streams/items/999999/", SESSION),
    "another's item": ("GET", "/streams/items/{private}/", SESSION),
    "another's channel": ("GET", "/streams/?channel=user:999999", SESSION),
    "an unknown job": ("GET", f"/streams/jobs/{uuid.UUID(int=0)}/", SESSION),
    "a malformed channel": ("GET", "/streams/?channel=nonsense", SESSION),
    "no channel": ("GET", "/streams/", SESSION),
    "too many": ("GET", "/streams/?" + "&".join(f"channel=item:{n}" for n in range(1, 60)), SESSION),
    "a malformed place": ("GET", OWN, {**SESSION, "Last-Event-ID": "x"}),
    "an earlier place": ("GET", OWN + "?last_event_id=earliest", SESSION),
    "as HTML": ("GET", OWN + "?render=html", SESSION),
    "as what is not": ("GET", OWN + "?render=pdf", SESSION),
    "a poll": ("GET", "/streams/poll/?channel=item:{item}&wait=0", SESSION),
    "a poll by a token": ("GET", "/streams/poll/?channel=item:{item}&wait=0", BEARER),
    "a poll for too long": ("GET", "/streams/poll/?channel=item:{item}&wait=99", SESSION),
    "a query that is no text": ("GET", "/streams/?channel=\xff", SESSION),
    "no such address": ("GET", "/streams/nothing/", SESSION),
    "without the slash": ("GET", "/streams/me", SESSION),
    "from a page elsewhere": ("GET", OWN, {**SESSION, "Origin": PAGE}),
    "from somebody's page": ("GET", OWN, {**SESSION, "Origin": "https://evil.example.com"}),
    "refused to a page elsewhere": ("GET", OWN, {"Origin": PAGE}),
    "a preflight": ("OPTIONS", OWN, {"Origin": PAGE, "Access-Control-Request-Method": "GET"}),
    "another host": ("GET", OWN, {**SESSION, "Host": "evil.example.com"}),
    "no host": ("GET", OWN, {**SESSION, "Host": ""}),
    "by HTTPS": ("GET", OWN, {**SESSION, "X-Forwarded-Proto": "https"}),
    "refused by HTTPS": ("GET", OWN, {"X-Forwarded-Proto": "https"}),
    "compressed": ("GET", OWN, {**SESSION, "Accept-Encoding": "gzip, br"}),
    "HEAD": ("HEAD", OWN, SESSION),
    "POST": ("POST", OWN, {**SESSION, "Content-Length": "0"}),
    "with no body": ("GET", OWN, {**SESSION, "Content-Length": "0"}),
    "with a body": ("GET", OWN, {**SESSION, "Content-Length": "5"}),
    "a CSRF cookie that is none": ("GET", OWN, {"Cookie": "sessionid={session}; csrftoken=abc"}),
    "a cookie that is none": ("GET", OWN, {"Cookie": '=;;"\x80; sessionid'}),
}


def sent(name: str, known: dict[str, str], port: int) -> Answer:
    """Send one of the requests."""

    def fill(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: known[found[1]], text)

    method, path, headers = REQUESTS[name]
    named = {key: fill(value) for key, value in {"Host": "localhost", **headers}.items()}
    return ask(port, method, fill(path), named, b"hello" if name == "with a body" else b"")


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_both_ways_answer_alike(strict, known, server, name):
    answers = []
    for number in (31, 32):
        with strict.connect() as connection:
            known["older"] = older_session(connection)  # another: an answer moves it, and says so in the log
        settle(strict)
        answers.append(alike(sent(name, known, strict.ports[f"{server}{number}"])))
    assert answers[0] == answers[1]


def test_what_is_compared_is_of_every_sort(strict, known):
    answers = [sent(name, known, strict.ports["uvicorn31"]) for name in REQUESTS if "older" not in name]
    assert {answer.status.split()[1] for answer in answers} >= {"200", "400", "401", "403", "404", "405"}
    assert sum("event: stream.open" in answer.body for answer in answers) >= 15


def test_other_middleware_sees_streams_and_has_them_go_djangos_way(rough, known):
    name = "uvicorn33"
    rough.start(name, DJANGO_SETTINGS_MODULE="tests.faults.more_middleware")
    try:
        answer = ask(
            rough.ports[name], "GET", f"/streams/items/{known['item']}/",
            {"Host": "localhost", "Cookie": f"sessionid={known['session']}"},
        )  # fmt: skip
        assert answer.status == "HTTP/1.1 200 OK"
        assert ("x-seen-by", "sync alice") in answer.headers
        assert "event: stream.open" in answer.body
        assert "Streams open the long way" in rough.log(name).read_text()
    finally:
        rough.stop(name)


OWED = 250  # refusals of some 800 bytes: the kernel and the server keep 64 KiB each


def test_who_does_not_read_what_refuses_them_keeps_nobody_out(strict, known):
    """More of them than requests are made an answer at once; each is owed more than there is room for.

    By uvicorn: Daphne waits with no answer but a stream.
    """
    port, pid = strict.ports["uvicorn31"], strict.processes["uvicorn31"].pid
    refused = f"GET /streams/items/{known['item']}/ HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def stuck() -> bool:
        """Nothing more is done for them."""
        before = cpu_seconds(pid)
        time.sleep(0.3)
        return cpu_seconds(pid) - before < 0.03

    with contextlib.ExitStack() as stack:
        for _ in range(2 * AT_ONCE):
            link = stack.enter_context(socket.socket())
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.connect(("127.0.0.1", port))
            link.sendall(refused * OWED)
        eventually(stuck, seconds=60)
        headers = {"Host": "localhost", "Cookie": f"sessionid={known['session']}"}
        answer = ask(port, "GET", f"/streams/items/{known['item']}/", headers)
        assert answer.status == "HTTP/1.1 200 OK"
        assert "event: stream.open" in answer.body


# --- What it costs ------------------------------------------------------------------------------------

OPENED = 300
MOST_OF_DJANGOS = 0.4  # of the CPU that opening takes on Django's own way
MOST_OF_NOTHING = 1.5  # of what a request takes there that asks nothing and does nothing


def spent(port: int, pid: int, path: str, headers: dict[str, str], until: bytes) -> float:
    """Return the CPU seconds that a server takes for each of many requests, ten at once."""
    head = "\r\n".join([f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())])
    before = cpu_seconds(pid)
    for _ in range(OPENED // 10):
        links = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(10)]
        for link in links:
            link.sendall(f"{head}\r\n\r\n".encode())
        for link in links:
            got = b""
            while until not in got:
                piece = link.recv(65_536)
                assert piece, got
                got += piece
        for link in links:
            link.close()
    return (cpu_seconds(pid) - before) / OPENED


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_opening_a_stream_costs_little(strict, known, server, figure):
    own = f"/streams/items/{known['item']}/"
    session = {"Host": "localhost", "Cookie": f"sessionid={known['session']}"}
    token = {"Host": "localhost", "Authorization": f"Bearer {known['token']}"}
    ways = {
        "session": (31, own, session, b"event: stream.open"),
        "token": (31, own, token, b"event: stream.open"),
        "whole": (32, own, session, b"event: stream.open"),
        "nothing": (31, "/healthz", {"Host": "localhost"}, b'"ok"'),
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(4):  # of which the first brings with it what all others need
        for name, (number, path, headers, until) in ways.items():
            process = f"{server}{number}"
            port, pid = strict.ports[process], strict.processes[process].pid
            costs[name].append(spent(port, pid, path, headers, until) * 1000)
    least = {name: min(found) for name, found in costs.items()}
    figure(
        f"{server}: opening a stream takes {least['session']:.2f} ms of CPU by a session,"
        f" {least['token']:.2f} ms by a token; on Django's own way {least['whole']:.2f} ms;"
        f" /healthz {least['nothing']:.2f} ms"
    )
    slower = max(least["session"], least["token"])
    assert slower < MOST_OF_DJANGOS * least["whole"], costs
    assert slower < MOST_OF_NOTHING * least["nothing"], costs

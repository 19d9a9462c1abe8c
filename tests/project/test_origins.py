"""Pages of other origins: what they may read, what they may ask for first, and what is kept from them."""

import os
import subprocess
import sys

import pytest
from asgiref.testing import ApplicationCommunicator
from django.test import Client

from project.origins import FromOurPages
from tests.events.support import Api, code_of
from tests.stack import ROOT

APP = "https://app.example.org"
ADDRESSES = [
    "/api/session",
    "/api/items",
    "/api/openapi.json",
    "/api/nothing",
    "/streams/me/",
    "/streams/nothing",
]


@pytest.fixture(autouse=True)
def allowed(settings):
    settings.CORS_ALLOWED_ORIGINS = frozenset([APP])


@pytest.fixture
def client(users):
    return Client(raise_request_exception=False)


def cors(answer):
    """Return what an answer says to browsers about other origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_allowed_origin_reads_every_answer_also_refusals(client, path):
    answer = client.get(path, headers={"Origin": APP})

    assert cors(answer) == {
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Retry-After",
    }
    assert "Origin" in answer["Vary"]


def test_it_reads_429_and_when_to_come_back(client, settings):
    settings.EVENTS_LOGINS_PER_MINUTE = 1
    body = {"username": "bob", "password": "guess"}
    for _ in range(3):
        answer = client.post("/api/session", body, content_type="application/json", headers={"Origin": APP})

    assert code_of(answer, 429) == "rate_limited"
    assert answer["Access-Control-Allow-Origin"] == APP
    assert answer["Access-Control-Expose-Headers"] == "Retry-After"
    assert int(answer["Retry-After"]) >= 1


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://app.example.org", f"{APP}:8443", f"{APP}.evil.example",
     "https://sub.app.example.org", f"{APP}/", APP.upper(), "*", ""],
)  # fmt: skip
def test_any_other_origin_is_given_nothing(client, path, origin):
    for method in (client.get, client.options):
        answer = method(path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert cors(answer) == {}
        # All the same: or a cache would give this answer to the allowed one.
        assert "Origin" in answer["Vary"]


def test_without_an_origin_or_a_list_there_is_nothing_to_say(client, settings):
    assert cors(client.get("/api/items")) == {}
    settings.CORS_ALLOWED_ORIGINS = frozenset()
    answer = client.get("/api/items", headers={"Origin": APP})
    assert cors(answer) == {}
    assert "Origin" not in answer.get("Vary", "")


def test_only_the_api_and_the_streams_are_read_from_elsewhere(client):
    for path in ("/", "/admin/login/", "/healthz", "/static/project/main.js"):
        assert cors(client.get(path, headers={"Origin": APP})) == {}


@pytest.mark.parametrize("path", ["/api/items", "/api/comments/1", "/streams/me/", "/streams/"])
def test_a_preflight_is_answered_without_a_session(client, path):
    answer = client.options(path, headers={"Origin": APP, "Access-Control-Request-Method": "PATCH"})

    assert answer.status_code == 204
    assert answer["Access-Control-Allow-Origin"] == APP
    assert answer["Access-Control-Allow-Credentials"] == "true"
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} == set(
        answer["Access-Control-Allow-Methods"].split(", ")
    )
    assert {"Content-Type", "X-CSRFToken", "Last-Event-ID", "Idempotency-Key", "Authorization"} == set(
        answer["Access-Control-Allow-Headers"].split(", ")
    )
    assert int(answer["Access-Control-Max-Age"]) > 0
    assert "Origin" in answer["Vary"]


def test_options_without_a_preflight_is_as_it_was(client):
    assert code_of(client.options("/api/items", headers={"Origin": APP}), 405) == "method_not_allowed"


def test_to_post_an_origin_must_be_trusted_as_well(users, settings):
    api = Api()
    api.log_in("alice")

    def post():
        return api.post("/api/items", {"title": "x"}, Origin=APP)

    assert code_of(post(), 403) == "csrf_failed"
    settings.CSRF_TRUSTED_ORIGINS = [APP]
    assert post().status_code == 201


# --- What the setting may say --------------------------------------------------------------------


def started(**given: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **given}
    return subprocess.run(
        [sys.executable, "-c", "from django.conf import settings; settings.CORS_ALLOWED_ORIGINS"],
        cwd=ROOT, env=environment, text=True, capture_output=True,
    )  # fmt: skip


def test_origins_are_exact_or_refused_at_the_start():
    script = (
        "import sys; from django.core.exceptions import ImproperlyConfigured\n"
        "from project.settings import origin, network\n"
        "for given in sys.argv[1:]:\n"
        "    try:\n        origin('X', given)\n    except ImproperlyConfigured as error:\n"
        "        assert str(error).startswith('X has '), error\n        print('refused')\n"
        "    else:\n        print('taken')\n"
    )
    good = [
        "https://app.example.org",
        "http://localhost:3000",
        "https://a-b.example:8443",
        "http://[::1]:8000",
    ]
    bad = ["*", "null", "https://*.example.org", "app.example.org", "https://app.example.org/",
           "https://a.example/x", "https://App.example.org", "ftp://example.org", "https://example.org:443", "http://example.org:80",
           "https://user@example.org", "https://", "https://example.org:0", "https://a b.org"]  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-c", script, *good, *bad], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout.split()
    assert told == ["taken"] * len(good) + ["refused"] * len(bad)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORS_ALLOWED_ORIGINS", "https://good.example,*"),
        ("SERVE_TRUSTED_PROXIES", "10.0.0.1,proxy"),
        ("SERVE_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("SESSION_COOKIE_SAMESITE", "none"),
        ("SESSION_COOKIE_SAMESITE", "None"),  # without HTTPS
    ],
)
def test_a_wrong_setting_is_refused_by_name(name, value):
    ended = started(**{name: value})
    assert ended.returncode != 0
    assert f"ImproperlyConfigured: {name} " in ended.stderr


def test_the_same_settings_done_right_are_taken():
    given = {
        "CORS_ALLOWED_ORIGINS": f"{APP},http://localhost:3000",
        "SERVE_TRUSTED_PROXIES": "10.0.0.0/8,::1",
        "SESSION_COOKIE_SAMESITE": "None",
        "HTTPS": "1",
    }
    assert started(**given).returncode == 0


# --- WebSockets ----------------------------------------------------------------------------------


async def opened(origin: str | None, *, host: str = "tickertape.example.org") -> list[str]:
    """Open a WebSocket; return what got to see it."""
    seen = []

    async def behind(scope, receive, send):
        seen.append("application")
        await receive()
        await send({"type": "websocket.accept"})

    headers = [(b"host", host.encode())] + ([] if origin is None else [(b"origin", origin.encode())])
    scope = {"type": "websocket", "path": "/ws/streams/", "headers": headers}
    browser = ApplicationCommunicator(FromOurPages(behind), scope)
    await browser.send_input({"type": "websocket.connect"})
    await browser.wait()
    while not browser.output_queue.empty():
        answer = await browser.receive_output()
        seen.append(f"{answer['type']} {answer.get('code', '')}".strip())
    return seen


@pytest.mark.parametrize("origin", [None, "https://tickertape.example.org", APP])
async def test_our_own_pages_and_programs_may_open_a_websocket(settings, origin):
    settings.HTTPS = True
    assert await opened(origin) == ["application", "websocket.accept"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://tickertape.example.org", "https://tickertape.example.org:8443",
     "https://tickertape.example.org.evil.example", ""],
)  # fmt: skip
async def test_a_foreign_page_is_refused_by_a_code_that_it_can_see(settings, origin):
    settings.HTTPS = True
    assert await opened(origin) == ["websocket.accept", "websocket.close 4403"]

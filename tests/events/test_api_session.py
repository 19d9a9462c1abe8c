"""Sessions over HTTP: logging in and out, and what is decided before what."""

import pytest
from django.conf import settings
from django.test import Client

from tests.events.support import Api, code_of, fields_of


def test_logging_in_answers_who_and_a_token(users, api):
    answer = api().log_in("alice")

    assert answer.status_code == 200
    body = answer.json()
    assert body["user"] == {"id": str(users.alice.pk), "username": "alice"}
    assert body["csrf_token"]
    assert answer.cookies[settings.SESSION_COOKIE_NAME]["httponly"]


def test_who_am_i(users, api):
    client = api("alice")

    answer = client.get("/api/session")

    assert answer.status_code == 200
    assert answer.json()["user"]["username"] == "alice"
    client.headers["X-CSRFToken"] = answer.json()["csrf_token"]
    assert client.post("/api/items", {"title": "x"}).status_code == 201


def test_who_am_i_without_a_session(users, api):
    assert code_of(api().get("/api/session"), 401) == "not_logged_in"


@pytest.mark.parametrize(("name", "password"), [("alice", "wrong"), ("nobody", "demo-alice"), ("alice", " ")])
def test_a_wrong_name_or_password_is_refused_alike(users, api, name, password):
    answer = api().log_in(name, password)

    assert code_of(answer, 401) == "login_failed"
    assert not answer.cookies


def test_a_disabled_user_does_not_get_in(users, api):
    users.alice.is_active = False
    users.alice.save()

    assert code_of(api().log_in("alice"), 401) == "login_failed"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["username", "password"]),
        ({"username": "alice"}, ["password"]),
        ({"username": "alice", "password": 1}, ["password"]),
        ({"username": ["alice"], "password": "x"}, ["username"]),
        ({"username": "a\x00", "password": "x"}, ["username"]),
        ({"username": "\ud800", "password": "x"}, ["username"]),
        ({"username": "alice", "password": "x" * 5000}, ["password"]),
        ({"username": "alice", "password": "demo-alice", "admin": True}, ["admin"]),
    ],
)
def test_bad_credentials_are_named(users, api, body, fields):
    assert fields_of(api().post("/api/session", body), 422) == fields


def test_a_user_disabled_meanwhile_is_out_at_once(users, api):
    client = api("alice")
    users.alice.is_active = False
    users.alice.save()

    assert code_of(client.get("/api/items"), 401) == "not_logged_in"


def test_logging_in_makes_a_new_session(users, api):
    client = api("alice")
    first = client.client.session.session_key
    client.log_in("alice")

    assert client.client.session.session_key != first


def test_logging_out_ends_the_session(users, api):
    client = api("alice")
    answer = client.delete("/api/session")

    assert answer.status_code == 204
    assert answer.content == b""
    assert code_of(client.get("/api/session"), 401) == "not_logged_in"


# What stands for each parameter of a path: where it leads is decided after who asks.
PARAMETERS = {"uuid": "00000000-0000-4000-8000-000000000000", "integer": "1"}


def described():
    """Return every operation that changes something, as the API describes itself."""
    from project.urls import api

    found = []
    for path, operations in api.get_openapi_schema()["paths"].items():
        for method, operation in operations.items():
            if method in {"get", "head", "options"}:
                continue
            filled = path
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                value = PARAMETERS.get(schema.get("format"), PARAMETERS.get(schema["type"], "x"))
                filled = filled.replace(f"{{{parameter['name']}}}", value)
            found.append((method.upper(), filled, operation))
    return found


# Logging in has no session yet; a key that is sent as a bearer comes with no browser's help.
UNSAFE = [
    (method, path)
    for method, path, operation in described()
    if any("Session" in each for each in operation.get("security", ()))
]


def test_every_change_but_logging_in_asks_for_a_session():
    open_to_all = [(method, path) for method, path, operation in described() if "security" not in operation]

    assert open_to_all == [("POST", "/api/session")]
    assert len(UNSAFE) >= 9
    assert not [path for _, path in UNSAFE if "{" in path]


@pytest.mark.parametrize(("method", "path"), UNSAFE)
def test_401_comes_before_csrf_and_before_the_body(users, api, method, path):
    answer = api().send(method, path, b"{not json")

    assert code_of(answer, 401) == "not_logged_in"
    assert answer["WWW-Authenticate"]


@pytest.mark.parametrize(("method", "path"), UNSAFE)
def test_every_change_needs_the_token(users, api, method, path):
    client = api("alice")
    token = client.headers.pop("X-CSRFToken")

    assert code_of(client.send(method, path, b"{not json"), 403) == "csrf_failed"
    wrong = client.send(
        method, path, b"{not json", X_CSRFToken=token[:-1] + ("a" if token[-1] != "a" else "b")
    )
    assert code_of(wrong, 403) == "csrf_failed"


@pytest.mark.parametrize("path", ["/api/items", "/api/items/1", "/api/items/1/comments", "/api/session"])
def test_reading_needs_a_session(users, api, path):
    assert code_of(api().get(path), 401) == "not_logged_in"


def test_a_form_of_another_site_cannot_log_anyone_in(users):
    client = Client(enforce_csrf_checks=True)
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""):
        answer = client.generic(
            "POST", "/api/session", b'{"username":"alice","password":"demo-alice"}', content_type=kind
        )
        assert code_of(answer, 415) == "unsupported_media_type"


def test_a_password_never_comes_back(users, api):
    answer = Api().post("/api/session", {"username": "alice", "password": ["demo-alice"]})

    assert b"demo-alice" not in answer.content

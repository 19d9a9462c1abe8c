"""What answers tell browsers not to do with them, and that production's checks have nothing to say."""

import subprocess
import sys

import pytest
from django.test import Client

from project.pages import CONTENT_SECURITY_POLICY
from tests.project.support import environment
from tests.project.test_docker import SECRETS, compose, settings_of
from tests.stack import ROOT

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ADDRESSES = [
    ("/", 200),
    ("/items/1", 200),
    ("/admin/login/", 200),
    ("/api/docs", 200),
    ("/api/openapi.json", 200),
    ("/api/session", 401),
    ("/api/nothing", 404),
    ("/nothing", 404),
    ("/healthz", 200),
    ("/streams/?channel=system", 401),
]


@pytest.mark.parametrize(("path", "status"), ADDRESSES)
def test_every_answer_has_the_headers(users, path, status):
    answer = Client(raise_request_exception=False).get(path)

    assert answer.status_code == status
    assert {name: answer.get(name) for name in EVERYWHERE} == EVERYWHERE
    assert "camera=()" in answer["Permissions-Policy"]
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


def test_a_static_file_has_them_but_what_its_policy_says_already(client):
    answer = client.get("/static/project/main.js")

    said = {name: answer.get(name) for name in EVERYWHERE if name != "X-Frame-Options"}
    assert said.items() <= EVERYWHERE.items()
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]


def test_each_part_may_do_what_it_needs_and_no_more(users):
    client = Client()
    data = "default-src 'none'; frame-ancestors 'none'"

    assert client.get("/")["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert client.get("/api/session")["Content-Security-Policy"] == data
    for path in ("/admin/login/", "/api/docs"):
        assert "script-src 'self'" in client.get(path)["Content-Security-Policy"]


def test_a_stream_has_them_too(stack, server):
    with stack.login("alice", server).stream("GET", "/streams/me/") as answer:
        assert answer.status_code == 200
        for name, value in EVERYWHERE.items():
            assert answer.headers[name] == value
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def deployed(**given: str) -> dict[str, str]:
    """Return the environment that the Compose file gives to a web process."""
    return environment(**settings_of(compose({**SECRETS, **given})["services"]["web"]))


def check(given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT, env=given, text=True, capture_output=True,
    )  # fmt: skip


def test_the_checks_of_a_deployment_find_nothing():
    checked = check(deployed())

    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout


def test_they_would_find_something():
    checked = check(deployed(HTTPS="0"))

    assert checked.returncode == 1
    assert "security.W012" in checked.stderr

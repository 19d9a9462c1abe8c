"""What these tests say in one word: what the log holds, who waits for a lock, a client of the API."""

import json
import time
from typing import Any

from django.db import connection, transaction
from django.test import Client

from events import log
from events.channels import ACCESS, Channel


class Api:
    """A client of the HTTP API as programs are: JSON, a session cookie, the token in a header."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True, raise_request_exception=False)
        self.headers: dict[str, str] = {}

    def log_in(self, name: str, password: str = "") -> Any:
        answer = self.post("/api/session", {"username": name, "password": password or f"demo-{name}"})
        if answer.status_code == 200:
            self.headers["X-CSRFToken"] = answer.json()["csrf_token"]
        return answer

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a body as it is where it is bytes, else as JSON; `Idempotency_Key` is a header's name."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.generic(
            method, path, data, content_type="application/json", headers={**self.headers, **given}
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("PATCH", path, body, **headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("PUT", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.send("DELETE", path, **headers)


def fields_of(problem: Any, status: int) -> list[str]:
    """Return the fields that a problem+json answer of this status names."""
    assert problem.status_code == status, (problem.status_code, problem.content)
    assert problem["Content-Type"] == "application/problem+json"
    body = problem.json()
    assert set(body) == {"type", "title", "status", "code", "detail", "errors"}
    assert body["status"] == status
    return [fault["field"] for fault in body["errors"]]


def code_of(problem: Any, status: int) -> str:
    """Return the code of a problem+json answer of this status."""
    fields_of(problem, status)
    return str(problem.json()["code"])


def events_on(channel: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the type and payload of all that the log holds for a channel, in order."""
    log.place()
    page = log.read(0, channels=[Channel(channel)])
    return [(entry.type, json.loads(entry.data)) for entry in page.entries]


def types_on(channel: str) -> list[str]:
    return [name for name, _ in events_on(channel)]


def access_changes() -> list[dict[str, Any]]:
    """Return what was taken away, without what is not given."""
    return [{key: value for key, value in data.items() if value} for _, data in events_on(ACCESS)]


def until_someone_waits(seconds: float = 20) -> None:
    """Return once some transaction of this database waits for another's lock."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
        time.sleep(0.005)
    raise AssertionError("nobody waits for a lock")


def undo(position: int) -> None:
    """Lose what the log holds above a position, as a copied data folder does that is put back."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = 'replica'")  # past the guards
        cursor.execute("DELETE FROM events_channelposition WHERE position > %s", [position])
        cursor.execute("DELETE FROM events_event WHERE position > %s", [position])
        cursor.execute("UPDATE events_logstate SET head = %s", [position])

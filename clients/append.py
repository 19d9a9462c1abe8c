"""Append events to Tickertape from any Python program: one function, nothing to install.

    shipped = {"channels": ["user:7"], "type": "OrderShipped", "data": {"order": 3}}
    append("https://tickertape.example", KEY, shipped)

Copy it, or import it. In a Celery task of another project it is all that is needed: each call is one
request, all its events or none, and because each event has an id, sending it again appends nothing
twice. So a task may be retried as a whole, if it gives its events ids of its own.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from typing import IO, Any

TRIES = 5
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60  # whatever the server asks for
TIMEOUT_SECONDS = 10


class Refused(Exception):
    """The events were refused, and would be again: the problem says why."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('detail', '')}")
        self.status = status
        self.problem = problem


class _NowhereElse(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would take the key along, to whomever it names."""

    def redirect_request(self, *args: Any) -> None:
        return None


def append(url: str, key: str, *events: dict[str, Any]) -> list[str]:
    """Append events with an API key; return their ids in the log.

    Tries again, with doubling waits or as long as it is told to, what may pass: no connection, an answer
    that breaks off or is not the service's own, 408, 425, 429, 5xx. Raises Refused for what will not, and
    OSError where it gave up.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError("the address must begin with https:// or http://")
    named = [{"id": str(uuid.uuid4()), **event} for event in events]
    request = urllib.request.Request(  # noqa: S310 (looked at above)
        url.rstrip("/") + "/api/events",
        data=json.dumps({"events": named}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(_NowhereElse)
    for attempt in range(1, TRIES + 1):
        told = 0
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return _ids(answer)
        except urllib.error.HTTPError as error:
            with error:
                if 400 <= error.code < 500 and error.code not in (408, 425, 429):
                    raise Refused(error.code, _problem(error)) from None
                told = _seconds(error.headers.get("Retry-After"))
            if attempt == TRIES:
                raise
        except OSError:
            if attempt == TRIES:
                raise
        except http.client.HTTPException as error:
            if attempt == TRIES:
                raise OSError(f"no answer: {error!r}") from error
        time.sleep(min(max(told, FIRST_WAIT_SECONDS * 2 ** (attempt - 1)), LONGEST_WAIT_SECONDS))
    raise AssertionError("unreachable")


def _seconds(told: str | None) -> int:
    return int(told) if told is not None and told.isdecimal() else 0


def _ids(answer: IO[bytes]) -> list[str]:
    try:
        return list(json.load(answer)["ids"])
    except (ValueError, KeyError, TypeError) as error:  # such as the page that a hotel's network logs in by
        raise OSError("the answer is not the service's own") from error


def _problem(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        found = json.load(error)
    except (OSError, http.client.HTTPException, ValueError):  # the status has said enough
        return {}
    return found if isinstance(found, dict) else {}

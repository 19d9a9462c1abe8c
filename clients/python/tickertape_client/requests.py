"""Requests, and when to send one again. Pure.

Only what has one effect however often it is sent is sent again: events have ids of their own, a job is
asked for with an `Idempotency-Key`, and the rest only asks or stops something.
"""

import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from tickertape_client.errors import Unavailable, refusal

TRIES = 6
FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0


class NewEvent(TypedDict):
    """An event to publish. With an `id` of one's own it is appended once, whoever sends it again."""

    channels: Sequence[str]
    type: str
    data: Mapping[str, Any]
    id: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be sent again."""

    method: str
    path: str
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tries: int = TRIES
    wanted: frozenset[str] = frozenset()  # the names that the answer, an object, holds; none: it is a 204


def publishing(events: Sequence[NewEvent], key: str | None) -> Call:
    """Return the request that appends events, all or none; each gets an id if it has none."""
    if key is None:
        raise ValueError("to publish, give the client an api_key")
    named = [{"id": str(uuid.uuid4()), **event} for event in events]
    headers = {"Authorization": f"Bearer {key}"}
    return Call("POST", "/api/events", {"events": named}, headers, wanted=frozenset({"ids"}))


def starting(name: str, params: Mapping[str, Any]) -> Call:
    """Return the request that asks for a job, once."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return Call("POST", f"/api/jobs/{name}", {"inputs": params}, headers, wanted=frozenset({"id", "stream"}))


def cancelling(job_id: str | None) -> Call:
    """Return the request that stops a job; raise ValueError for one that was not asked for yet."""
    if job_id is None:
        raise ValueError("the job was not asked for yet: take its first event")
    return Call("DELETE", f"/api/jobs/{job_id}")


def logging_in(user: str, password: str) -> Call:
    """Return the request that begins a session."""
    asked = {"username": user, "password": password}
    return Call("POST", "/api/session", asked, wanted=frozenset({"csrf_token"}))


def session_headers(url: str, answer: Mapping[str, Any]) -> dict[str, str]:
    """Return what to send with every change in a session: the token, and over HTTPS Django asks whence."""
    return {"X-CSRFToken": str(answer["csrf_token"]), "Referer": url}


def minting(channels: Sequence[str], ttl: int | None) -> Call:
    """Return the request for a stream token."""
    asked = {"channels": list(channels)} | ({} if ttl is None else {"ttl": ttl})
    return Call("POST", "/api/tokens", asked, wanted=frozenset({"token"}))


class Attempts:
    """The tries that a request has left."""

    def __init__(self, call: Call) -> None:
        self._wanted = call.wanted
        self._left = call.tries
        self._bound = FIRST_SECONDS

    def heard(self, status: int, headers: Mapping[str, str], body: bytes) -> float | None:
        """Return the seconds to wait before the next try; None for an answer that is one.

        Raises Refused, and Unavailable where there is no next try.
        """
        if status < 300 and (self._wanted <= object_of(body).keys() if self._wanted else status == 204):
            return None
        if not passes(status):
            raise refusal(status, object_of(body))
        return self.failed(f"answered {status}", after=retry_after(headers))

    def failed(self, why: str, *, after: float | None = None) -> float:
        """Return the seconds to wait before the next try; raise Unavailable where there is none."""
        self._left -= 1
        if self._left <= 0:
            raise Unavailable(f"The service {why}, and would not be tried again.")
        bound, self._bound = self._bound, min(2 * self._bound, MOST_SECONDS)
        return min(after or 0.0, MOST_SECONDS) + random.uniform(0, bound)  # noqa: S311 (not a secret)


def passes(status: int) -> bool:
    """Tell whether an answer that is not what was asked for may be another one later.

    A page or a redirection may: it is not of the service, but of a network to log in to.
    """
    return status in (408, 425, 429) or not 400 <= status < 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the service asks to wait, if it does so by a number."""
    said = headers.get("retry-after", "")
    return float(said) if said.isdecimal() else None


def object_of(body: bytes) -> dict[str, Any]:
    """Return a JSON object, such as a problem; an empty one for anything else, such as a proxy's page."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

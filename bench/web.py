"""Our own web process as a subject: by Daphne or by uvicorn, in front of the deployment."""

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from bench import keys, wire
from bench.deployment import PASSWORD, USER, Deployment
from bench.publishing import ByValkey, CopyPublisher, LogPublisher, Publisher
from bench.servers import Process
from bench.usage import Usage
from project.embedded import free_port

# Batches that the log knows nothing of are believed only by a hub that does not ask it.
NEVER_LOOK = {"STREAMS_LOOK_SECONDS": "86400"}


@dataclass(frozen=True, slots=True)
class Web:
    """A web process that runs."""

    subject: str
    address: tuple[str, int]
    deployment: Deployment
    process: Process

    def usage(self) -> Usage:
        """Return what the web process cost so far."""
        return self.process.usage()

    def opening(self, channel: str, *, last_event_id: str = "") -> bytes:
        """Return the request for a stream, with a token that names its channel."""
        return self.opening_with(f"Authorization: Bearer {keys.token()}", channel, last_event_id)

    def opening_with(self, credential: str, channel: str, last_event_id: str = "") -> bytes:
        """Return the request for a stream with a header that says who asks."""
        path = f"/streams/?channel={channel}"
        return wire.opening(self.address, path, credential, wire.resuming(last_event_id))

    def publisher(self) -> AbstractContextManager[Publisher]:
        """Return who appends to the log, so that all of the way is gone: log, worker, Valkey, hub."""
        return LogPublisher(self.deployment)

    def copying(self) -> AbstractContextManager[Publisher]:
        """Return who does that by COPY."""
        return CopyPublisher(self.deployment)

    def by_valkey(self) -> AbstractContextManager[Publisher]:
        """Return who hands batches to Valkey as the sequencer does; the server must be started NEVER_LOOK."""
        return ByValkey(self.deployment)

    def log_in(self) -> tuple[str, str]:
        """Log the user in; return the cookies as a header, and the CSRF token."""
        said = json.dumps({"username": USER, "password": PASSWORD})
        status, headers, body = self._ask("POST", "/api/session", said, {})
        if status != 200:
            raise RuntimeError(f"logging in was answered by {status}: {body[:200]!r}")
        cookies = "; ".join(
            value.partition(";")[0] for name, value in headers if name.lower() == "set-cookie"
        )
        return cookies, json.loads(body)["csrf_token"]

    def post(self, path: str, body: object, session: tuple[str, str]) -> dict[str, Any]:
        """Post as who is logged in; return the answer's JSON."""
        cookies, csrf = session
        headers = {"Cookie": cookies, "X-CSRFToken": csrf}
        status, _, said = self._ask("POST", path, json.dumps(body), headers)
        if status not in (200, 201):
            raise RuntimeError(f"POST {path} was answered by {status}: {said[:200]!r}")
        made: dict[str, Any] = json.loads(said)
        return made

    def _ask(
        self, method: str, path: str, body: str, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        asked = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            asked.request(method, path, body, {"Content-Type": "application/json", **headers})
            answer = asked.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            asked.close()


@dataclass(frozen=True, slots=True)
class WebStarts:
    """How to start a web process by one of the two servers."""

    subject: str
    server: str  # as WEB_SERVER names it
    deployment: Deployment

    @contextmanager
    def start(self, **environment: str) -> Iterator[Web]:
        """Serve until the context is left; ready once the hub follows the log."""
        port = free_port()
        env = {"WEB_SERVER": self.server, "HOST": "127.0.0.1", "PORT": str(port), **environment}
        command = [sys.executable, "-m", "project.serve"]
        deployment = self.deployment
        with deployment.running(self.subject, [*command], core=deployment.cores.server, **env) as process:
            process.await_answer(port, "/readyz", good=lambda status, body: b'"hub":true' in _dense(body))
            yield Web(self.subject, ("127.0.0.1", port), deployment, process)


def _dense(body: bytes) -> bytes:
    return body.replace(b" ", b"")

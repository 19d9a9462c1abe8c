"""The synchronous client: the twin of `asynchronous`."""

import contextlib
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import connect_sse

from tickertape_client import requests
from tickertape_client.errors import JobFailed
from tickertape_client.events import Event, Reset, State
from tickertape_client.following import EARLIEST, SILENCE, Following, JobFollowing
from tickertape_client.requests import Attempts, Call, NewEvent

Token = str | Callable[[], str]


class Client:
    """Streams, events and jobs of one service; use as a context manager. See AsyncClient.

    A stream is read by one thread; any other may close it, and the client.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        api_key: str | None = None,
        heartbeat_seconds: float = 15.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.Client(base_url=url, timeout=10, limits=limits, transport=transport)
        self._renew = token if callable(token) else None
        self._token = None if callable(token) else token
        self._key = api_key
        self._timeout = httpx.Timeout(10, read=SILENCE * heartbeat_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self.http.close()

    def login(self, user: str, password: str) -> None:
        """Begin a session, as a person does."""
        answer = self._call(requests.logging_in(user, password))
        self.http.headers.update(requests.session_headers(str(self.http.base_url), answer))

    def mint_token(self, channels: Sequence[str], *, ttl: int | None = None) -> str:
        """Return a stream token for channels that the session may read, for somebody else to use."""
        return str(self._call(requests.minting(channels, ttl))["token"])

    def stream(
        self, channels: Sequence[str] = (), *, last_event_id: str | None = None, mine: bool = False
    ) -> "Stream":
        """Follow channels from an id on, or from now; `earliest` is all that is kept.

        `mine` adds what concerns the user. Nothing is connected before the first event is asked for, or
        `with` is entered, which waits until the stream is open.
        """
        path = "/streams/me/" if mine else "/streams/"
        return Stream(self, Following(path, channels, last_event_id, renewable=self._renew is not None))

    def publish(self, events: Sequence[NewEvent]) -> list[str]:
        """Append events with the API key, all or none, once however often it takes; return their ids.

        Raises Refused, and Unavailable where the service did not answer in time.
        """
        return list(self._call(requests.publishing(events, self._key))["ids"])

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> "Job":
        """Ask for a job when its first event is asked for; leaving it does not cancel it."""
        return Job(self, name=name, params=params or {})

    def job(self, job_id: str, *, last_event_id: str | None = None) -> "Job":
        """Follow a job that somebody asked for already: all of it, or from an id on."""
        return Job(self, job_id=job_id, last_event_id=last_event_id)

    def _call(self, call: Call) -> Any:
        attempts = Attempts(call)
        pause = threading.Event()
        while True:
            try:
                answer = self.http.request(call.method, call.path, json=call.json, headers=dict(call.headers))
                wait = attempts.heard(answer.status_code, answer.headers, answer.content)
                if wait is None:
                    return answer.json() if answer.content else None
            except (httpx.TransportError, OSError) as error:
                wait = attempts.failed(f"cannot be reached ({type(error).__name__})")
            pause.wait(wait)

    def _authorization(self, following: Following) -> dict[str, str]:
        if self._renew is not None and (self._token is None or following.renew):
            self._token = self._renew()
            following.renewed()
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    @contextmanager
    def _connect(self, following: Following) -> Iterator[httpx.Response]:
        headers = {**following.headers(), **self._authorization(following)}
        with connect_sse(
            self.http, "GET", following.path, params=following.params, headers=headers, timeout=self._timeout
        ) as source:
            yield source.response


class Stream:
    """The events of one stream, over as many connections as it takes. Iterate once, in one thread."""

    def __init__(self, client: Client, following: Following) -> None:
        self._client = client
        self._following = following
        self._items = self._run()
        self._ahead: list[Event | Reset] = []
        self._left = threading.Event()
        self._socket: socket.socket | None = None

    @property
    def cursor(self) -> str | None:
        """Return the id to come back with: of the last event handed out, or of the silence after it."""
        return self._following.cursor

    @property
    def state(self) -> State:
        """Return how it stands: `connecting`, `catching-up`, `live`, `offline` or `over`."""
        return self._following.state

    def __enter__(self) -> Self:
        """Connect, and wait until the stream is open: what happens from now on will come."""
        with contextlib.suppress(StopIteration):
            while (item := self._next()) is not None:
                self._ahead.append(item)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event | Reset:
        if self._ahead:
            return self._ahead.pop(0)
        while (item := self._next()) is None:
            pass
        return item

    def _next(self) -> Event | Reset | None:
        try:
            return next(self._items)
        except RuntimeError:  # httpx's, of a client that was closed meanwhile
            if self._client.http.is_closed:
                raise StopIteration from None
            raise

    def close(self) -> None:
        """Leave; from another thread too, whose wait for the next event then ends the iteration."""
        self._left.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(ValueError):  # another thread is in it, and ends it itself
            self._items.close()

    def _run(self) -> Generator[Event | Reset | None]:
        following = self._following
        while not following.over and not self._left.is_set():
            try:
                with self._client._connect(following) as answer:
                    body = b"" if answer.status_code == 200 else answer.read()
                    if following.answered(answer.status_code, answer.headers, body):
                        self._socket = answer.extensions["network_stream"].get_extra_info("socket")
                        for chunk in answer.iter_bytes():
                            for item in following.feed(chunk):
                                yield item
                                if self._left.is_set():
                                    return
                            if following.ended or self._left.is_set():
                                break
            except (httpx.TransportError, OSError):
                pass  # silence is one of them: the read's time is up
            finally:
                self._socket = None
            if not following.over and not self._client.http.is_closed:
                self._left.wait(following.broke())


class Job(Stream):
    """A job's events: `start`, `progress`, what it sends by its own names, then `complete` or `error`."""

    def __init__(
        self,
        client: Client,
        *,
        name: str = "",
        params: Mapping[str, Any] | None = None,
        job_id: str | None = None,
        last_event_id: str | None = None,
    ) -> None:
        self.id = job_id
        self._asking = requests.starting(name, params or {})
        super().__init__(client, JobFollowing(job_id, last_event_id, renewable=client._renew is not None))

    def cancel(self) -> None:
        """Stop the job, which then ends with `error`. Raises ValueError where it was not asked for yet."""
        self._client._call(requests.cancelling(self.id))

    def result(self) -> Any:
        """Wait for the end; return the result, or raise JobFailed."""
        for event in self:
            if isinstance(event, Event):
                match event.type:
                    case "complete":
                        return event.data["result"]
                    case "error":
                        raise JobFailed(event.data["error"], event.data["error_type"])
        raise JobFailed("What became of the job is no longer known.", "Forgotten")

    def _run(self) -> Generator[Event | Reset | None]:
        if self.id is None:
            asked = self._client._call(self._asking)
            self.id = str(asked["id"])
            self._following.path = asked["stream"]
            yield Event("start", {"job_id": self.id, "stream": asked["stream"]}, EARLIEST)
        yield from super()._run()

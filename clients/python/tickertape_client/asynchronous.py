"""The asynchronous client."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, cast

import httpx
from httpx_sse import aconnect_sse

from tickertape_client import requests
from tickertape_client.errors import JobFailed
from tickertape_client.events import Event, Reset, State
from tickertape_client.following import EARLIEST, SILENCE, Following, JobFollowing
from tickertape_client.requests import Attempts, Call, NewEvent

Token = str | Callable[[], str | Awaitable[str]]


class AsyncClient:
    """Streams, events and jobs of one service; use as an asynchronous context manager.

    `token` is a stream token, or a function that returns one, asked again when the last one has run out;
    `api_key` is for `publish` alone; `login` begins a session. `heartbeat_seconds` is the service's
    `STREAMS_HEARTBEAT_SECONDS`: a stream that is silent for two and a half of them is taken for dead.
    `http` is the httpx client underneath, for all else that the API offers.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        api_key: str | None = None,
        heartbeat_seconds: float = 15.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        # As many streams as one likes: a bound here would let the next one wait for ever.
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.AsyncClient(base_url=url, timeout=10, limits=limits, transport=transport)
        self._renew = token if callable(token) else None
        self._token = None if callable(token) else token
        self._key = api_key
        self._timeout = httpx.Timeout(10, read=SILENCE * heartbeat_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection, streams too."""
        await self.http.aclose()

    async def login(self, user: str, password: str) -> None:
        """Begin a session, as a person does."""
        answer = await self._call(requests.logging_in(user, password))
        self.http.headers.update(requests.session_headers(str(self.http.base_url), answer))

    async def mint_token(self, channels: Sequence[str], *, ttl: int | None = None) -> str:
        """Return a stream token for channels that the session may read, for somebody else to use."""
        return str((await self._call(requests.minting(channels, ttl)))["token"])

    def stream(
        self, channels: Sequence[str] = (), *, last_event_id: str | None = None, mine: bool = False
    ) -> "AsyncStream":
        """Follow channels from an id on, or from now; `earliest` is all that is kept.

        `mine` adds what concerns the user. Nothing is connected before the first event is asked for, or
        `async with` is entered, which waits until the stream is open.
        """
        path = "/streams/me/" if mine else "/streams/"
        return AsyncStream(self, Following(path, channels, last_event_id, renewable=self._renew is not None))

    async def publish(self, events: Sequence[NewEvent]) -> list[str]:
        """Append events with the API key, all or none, once however often it takes; return their ids.

        Raises Refused, and Unavailable where the service did not answer in time.
        """
        return list((await self._call(requests.publishing(events, self._key)))["ids"])

    def run(self, name: str, params: Mapping[str, Any] | None = None) -> "AsyncJob":
        """Ask for a job when its first event is asked for; leaving it does not cancel it."""
        return AsyncJob(self, name=name, params=params or {})

    def job(self, job_id: str, *, last_event_id: str | None = None) -> "AsyncJob":
        """Follow a job that somebody asked for already: all of it, or from an id on."""
        return AsyncJob(self, job_id=job_id, last_event_id=last_event_id)

    async def _call(self, call: Call) -> Any:
        attempts = Attempts(call)
        while True:
            try:
                answer = await self.http.request(
                    call.method, call.path, json=call.json, headers=dict(call.headers)
                )
                wait = attempts.heard(answer.status_code, answer.headers, answer.content)
                if wait is None:
                    return answer.json() if answer.content else None
            except (httpx.TransportError, OSError) as error:
                wait = attempts.failed(f"cannot be reached ({type(error).__name__})")
            await asyncio.sleep(wait)

    async def _authorization(self, following: Following) -> dict[str, str]:
        if self._renew is not None and (self._token is None or following.renew):
            token = self._renew()
            self._token = await token if inspect.isawaitable(token) else token
            following.renewed()
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    @asynccontextmanager
    async def _connect(self, following: Following) -> AsyncIterator[httpx.Response]:
        headers = {**following.headers(), **await self._authorization(following)}
        opening = aconnect_sse(
            self.http, "GET", following.path, params=following.params, headers=headers, timeout=self._timeout
        )
        try:
            source = await opening.__aenter__()
        except AttributeError as error:  # anyio's, of a connection that is reset while it is made
            raise httpx.ConnectError(str(error)) from error
        try:
            yield source.response
        finally:
            await opening.__aexit__(None, None, None)


class AsyncStream:
    """The events of one stream, over as many connections as it takes. Iterate once, in one task."""

    def __init__(self, client: AsyncClient, following: Following) -> None:
        self._client = client
        self._following = following
        self._items = self._run()
        self._reading: asyncio.Future[Event | Reset | None] | None = None
        self._ahead: list[Event | Reset] = []

    @property
    def cursor(self) -> str | None:
        """Return the id to come back with: of the last event handed out, or of the silence after it."""
        return self._following.cursor

    @property
    def state(self) -> State:
        """Return how it stands: `connecting`, `catching-up`, `live`, `offline` or `over`."""
        return self._following.state

    async def __aenter__(self) -> Self:
        """Connect, and wait until the stream is open: what happens from now on will come."""
        with suppress(StopAsyncIteration):
            while (item := await self._next()) is not None:
                self._ahead.append(item)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Reset:
        if self._ahead:
            return self._ahead.pop(0)
        while (item := await self._next()) is None:
            pass
        return item

    async def _next(self) -> Event | Reset | None:
        # In a task of its own: who gives up waiting gives up neither the connection nor the pause before it.
        if self._reading is None:
            self._reading = asyncio.ensure_future(anext(self._items))
        await asyncio.wait([self._reading])
        reading, self._reading = self._reading, None
        try:
            return reading.result()
        except RuntimeError:  # httpx's, of a client that was closed meanwhile
            if self._client.http.is_closed:
                raise StopAsyncIteration from None
            raise

    async def aclose(self) -> None:
        """Leave."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        await self._items.aclose()

    async def _run(self) -> AsyncGenerator[Event | Reset | None]:
        following = self._following
        while not following.over:
            try:
                async with self._client._connect(following) as answer:
                    body = b"" if answer.status_code == 200 else await answer.aread()
                    if following.answered(answer.status_code, answer.headers, body):
                        pieces = cast("AsyncGenerator[bytes]", answer.aiter_bytes())
                        async with aclosing(pieces) as chunks:
                            async for chunk in chunks:
                                for item in following.feed(chunk):
                                    yield item
                                if following.ended:
                                    break
            except (httpx.TransportError, OSError):
                pass  # silence is one of them: the read's time is up
            if not following.over and not self._client.http.is_closed:
                await asyncio.sleep(following.broke())


class AsyncJob(AsyncStream):
    """A job's events: `start`, `progress`, what it sends by its own names, then `complete` or `error`."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        name: str = "",
        params: Mapping[str, Any] | None = None,
        job_id: str | None = None,
        last_event_id: str | None = None,
    ) -> None:
        self.id = job_id
        self._asking = requests.starting(name, params or {})
        super().__init__(client, JobFollowing(job_id, last_event_id, renewable=client._renew is not None))

    async def cancel(self) -> None:
        """Stop the job, which then ends with `error`. Raises ValueError where it was not asked for yet."""
        await self._client._call(requests.cancelling(self.id))

    async def result(self) -> Any:
        """Wait for the end; return the result, or raise JobFailed."""
        async for event in self:
            if isinstance(event, Event):
                match event.type:
                    case "complete":
                        return event.data["result"]
                    case "error":
                        raise JobFailed(event.data["error"], event.data["error_type"])
        raise JobFailed("What became of the job is no longer known.", "Forgotten")

    async def _run(self) -> AsyncGenerator[Event | Reset | None]:
        if self.id is None:
            asked = await self._client._call(self._asking)
            self.id = str(asked["id"])
            self._following.path = asked["stream"]
            yield Event("start", {"job_id": self.id, "stream": asked["stream"]}, EARLIEST)
        async with aclosing(super()._run()) as items:
            async for item in items:
                yield item

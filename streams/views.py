"""Streams over HTTP: authorise, then answer with a stream that joins, replays, goes live and leaves.

A fault that will pass (database away, over capacity, draining) is answered with a stream that
ends at once: EventSource comes back from that, and from no other status than 200.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET

from events.channels import Channel, own_channels, parse
from events.errors import BadRequest, FieldError, TickertapeError, TooManyChannels, Unavailable
from events.http import problem
from events.peer import address
from events.transactions import PRESSURE_SQL
from streams import jobs, metrics, rendering, switchboard
from streams.hub import Hub
from streams.permission import Choose, admit
from streams.response import EventStream
from streams.subscriber import DATABASE_AWAY, Subscriber

logger = logging.getLogger(__name__)


class NotReady(Unavailable):
    """This process cannot serve yet, or not any more; the parts say why."""

    code = "not_ready"


Serve = Callable[[Hub, Subscriber, str | None], Awaitable[HttpResponseBase]]

START_SECONDS = 3.0  # a hub that has not read the log by then answers "database"
READY_SECONDS = 2.0  # longest a health check waits for the log


@require_GET
async def channels(request: HttpRequest) -> HttpResponseBase:
    """Stream the channels named in the query."""

    def choose(user: AbstractBaseUser) -> Sequence[Channel]:
        if not (named := _named(request)):
            error = FieldError("channel", "name at least one, as in ?channel=item:42")
            raise BadRequest("No channel was named.", errors=(error,))
        return named

    return await _stream(request, choose)


@require_GET
async def me(request: HttpRequest) -> HttpResponseBase:
    """Stream what concerns the user (own channel, their groups' and `system`), and what the query names."""
    return await _stream(request, lambda user: [*own_channels(user), *_named(request)])


def _named(request: HttpRequest) -> Sequence[Channel]:
    """Return the channels that the query names; raise TooManyChannels, ChannelMalformed."""
    names = request.GET.getlist("channel")
    if len(names) > settings.STREAMS_MAX_CHANNELS:  # before each of them costs a query
        raise TooManyChannels(f"{len(names)} channels; {settings.STREAMS_MAX_CHANNELS} is the most.")
    return [parse(name) for name in dict.fromkeys(names)]


@require_GET
async def item(request: HttpRequest, item_id: str) -> HttpResponseBase:
    """Stream an item's events."""
    return await _stream(request, lambda user: [parse(f"item:{item_id}")])


@require_GET
async def job(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Stream a job's events, where it stands first; the stream ends with the job."""

    async def serve(hub: Hub, subscriber: Subscriber, last_event_id: str | None) -> HttpResponseBase:
        return await jobs.serve(hub, subscriber, UUID(job_id), last_event_id)

    return await _stream(request, lambda user: [parse(f"job:{job_id}")], serve)


async def _serve(hub: Hub, subscriber: Subscriber, last_event_id: str | None) -> HttpResponseBase:
    return EventStream(subscriber.chunks(last_event_id), subscriber=subscriber)


async def _stream(request: HttpRequest, choose: Choose, serve: Serve = _serve) -> HttpResponseBase:
    hub = await switchboard.hub()
    if not await _running(hub) or not hub.database_up:
        return EventStream.ended("database")
    try:
        since = hub.cursor  # before the check: what changes access after it ends the stream
        reader, chosen = await sync_to_async(admit)(request, choose)
        html = rendering.asked_for(request)
    except TickertapeError as error:
        return problem(error)
    except (OperationalError, InterfaceError) as error:
        logger.warning("A stream could not be authorised.", extra={"error": type(error).__name__})
        return EventStream.ended("database")
    if hub.draining:
        return EventStream.ended("drain")
    subscriber = Subscriber(hub, chosen, reader, since=since, address=address(request))
    try:
        response = await serve(hub, subscriber, _last_event_id(request))
        if html and isinstance(response, EventStream):
            response.through(hub.replay.rendering.html)
        return response
    except (*DATABASE_AWAY, OperationalError, InterfaceError):
        return EventStream.ended("database")


def _last_event_id(request: HttpRequest) -> str | None:
    """Return the client's place: the header beats the query, and an empty one counts as none."""
    query = request.GET.get("last_event_id") or request.GET.get("lastEventId")
    return request.headers.get("Last-Event-ID") or query or None


async def _running(hub: Hub) -> bool:
    try:
        # From its start on, not from now: who waits keeps others from being asked in.
        async with asyncio.timeout(max(0.0, hub.started_at + START_SECONDS - time.monotonic())):
            await hub.running.wait()
    except TimeoutError:
        return False
    return True


@require_GET
async def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers."""
    return _state({"status": "ok"})


@require_GET
async def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether to send requests here: the log answers, the hub follows it, a worker was seen.

    Redis away, or the last worker gone, is degraded and not unready: nothing is lost by it, and
    taking every web process out of service would help nobody.
    """
    hub = await switchboard.hub()
    try:
        # Shielded: psycopg waits for the server also when it is to stop waiting for it.
        await asyncio.wait_for(asyncio.shield(hub.look()), READY_SECONDS)
        database = True
    except DATABASE_AWAY:
        database = False
    parts = {
        "database": database,
        "hub": hub.running.is_set(),
        "redis": hub.redis_up,
        "worker": hub.worker_up,
    }
    ready = database and hub.running.is_set() and hub.worker_seen and not hub.draining
    said = {**parts, "draining": hub.draining}
    if ready:
        return _state({"status": "ok" if all(parts.values()) else "degraded", **said})
    response = problem(NotReady(), **said)
    response._has_been_logged = True  # type: ignore[attr-defined]  # an answer, asked for every second
    return response


@require_GET
async def show_metrics(request: HttpRequest) -> HttpResponse:
    """Show this process's numbers to Prometheus; keep the address from the public by the proxy."""
    hub = await switchboard.hub()
    pressure: tuple[Any, ...] = ()
    with contextlib.suppress(*DATABASE_AWAY):
        asked = asyncio.ensure_future(hub.fetch(PRESSURE_SQL))
        [pressure] = await asyncio.wait_for(asyncio.shield(asked), READY_SECONDS)
    return HttpResponse(metrics.render(hub, pressure), content_type=metrics.CONTENT_TYPE)


def _state(body: dict[str, object]) -> HttpResponse:
    response = JsonResponse(body)
    response["Cache-Control"] = "no-store"
    return response

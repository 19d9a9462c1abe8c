"""Streams over HTTP: authorise, then answer with a stream that joins, replays, goes live and leaves.

A fault that will pass (database away, over capacity, draining) is answered with a stream that
ends at once: EventSource comes back from that, and from no other status than 200.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET

from events.channels import JOB_ID, parse
from events.errors import TickertapeError, Unavailable
from events.http import problem
from events.transactions import PRESSURE_SQL
from streams import jobs, metrics, opening, rendering, switchboard
from streams.behind import DATABASE_AWAY
from streams.hub import Hub
from streams.reader import Choose
from streams.response import EventStream
from streams.subscriber import Subscriber

logger = logging.getLogger(__name__)


class NotReady(Unavailable):
    """This process cannot serve yet, or not any more; the parts say why."""

    code = "not_ready"


Serve = Callable[[Hub, Subscriber, str | None], Awaitable[HttpResponseBase]]

READY_SECONDS = 2.0  # longest a health check waits for the log


@require_GET
async def channels(request: HttpRequest) -> HttpResponseBase:
    """Stream the channels named in the query."""
    return await _stream(request, opening.named(request))


@require_GET
async def me(request: HttpRequest) -> HttpResponseBase:
    """Stream what concerns the user (own channel, their groups' and `system`), and what the query names."""
    return await _stream(request, lambda user: [*opening.own(user), *opening.also_named(request, user)])


@require_GET
async def item(request: HttpRequest, item_id: str) -> HttpResponseBase:
    """Stream an item's events."""
    return await _stream(request, lambda user: [parse(f"item:{item_id}")])


@require_GET
async def job(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Stream a job's events, where it stands first; the stream ends with the job."""

    async def serve(hub: Hub, subscriber: Subscriber, last_event_id: str | None) -> HttpResponseBase:
        if not JOB_ID.fullmatch(job_id):  # as only an issuer's token opens: a job of a program's own
            return await _serve(hub, subscriber, last_event_id)
        return await jobs.serve(hub, subscriber, UUID(job_id), last_event_id)

    return await _stream(request, lambda user: [parse(f"job:{job_id}")], serve)


async def _serve(hub: Hub, subscriber: Subscriber, last_event_id: str | None) -> HttpResponseBase:
    return EventStream.of(subscriber, last_event_id)


async def _stream(request: HttpRequest, choose: Choose, serve: Serve = _serve) -> HttpResponseBase:
    try:
        hub, subscriber = await opening.subscriber(request, choose)
        html = rendering.asked_for(request)
        response = await serve(hub, subscriber, opening.place_of(request))
    except TickertapeError as error:
        return problem(error)
    except opening.NotNow as error:
        return EventStream.ended(str(error))
    except (*DATABASE_AWAY, OperationalError, InterfaceError):
        return EventStream.ended("database")
    if html and isinstance(response, EventStream):
        response.through(hub.replay.rendering.html)
    return response


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

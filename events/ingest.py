"""Events from other programs: what a key may append, and the way in.

A key is shown once, when it is made; kept is only a digest. It names the channels and types that it
may append to, by patterns. What a key appends is an event like any other, but for what would make the
log say something that the rows do not: types that read models are folded from have verbs of their
own, and a job of this service tells its own life.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from secrets import token_urlsafe
from typing import Annotated, Any, Self
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from ninja import Status
from ninja.security.base import AuthBase
from pydantic import BaseModel, Field, ValidationError

from events import jobs, limits, log, readmodels, registry
from events.channels import Channel, kind_of, parse
from events.errors import (
    ChannelMalformed,
    FieldError,
    Forbidden,
    Invalid,
    NotLoggedIn,
    PayloadInvalid,
)
from events.http import MOST_FAULTS
from events.log_api import router
from events.models import ApiKey, Job
from events.registry import EventType
from events.rest import Body, Problem

MOST_EVENTS = 100  # of one request: each is checked before any is appended
BEGINNING = 8  # characters of a secret that are kept: enough to tell keys apart, of 43
PREFIX = "tt_"  # so that a secret is known for one wherever it is found

_PATTERN = re.compile(r"[A-Za-z0-9_.@:+*-]{1,182}")


class KeyUnknown(NotLoggedIn):
    """Give a key that is valid, as a bearer."""

    code = "api_key_unknown"
    challenge = "Bearer"


class KeyForbids(Forbidden):
    """The key is not for these channels or types."""

    code = "api_key_scope"


# --- Keys -----------------------------------------------------------------------------------------


def make_key(*, name: str, channels: Sequence[str], types: Sequence[str]) -> tuple[ApiKey, str]:
    """Return a new key with its secret, which is never to be had again. Raises Invalid."""
    faults = tuple(pattern_faults(channels, types))
    if faults:
        raise Invalid(errors=faults)
    secret = PREFIX + token_urlsafe(32)
    key = ApiKey.objects.create(
        name=name,
        digest=_digest(secret),
        beginning=secret[: len(PREFIX) + BEGINNING],
        channels=list(channels),
        types=list(types),
    )
    return key, secret


def pattern_faults(channels: Sequence[str], types: Sequence[str]) -> Iterator[FieldError]:
    """Yield what is wrong with a key's patterns."""
    for field, patterns in (("channels", channels), ("types", types)):
        for pattern in patterns:
            if not _PATTERN.fullmatch(pattern):
                message = f"{pattern[:80]!r} is no pattern: use letters, digits, _ . @ : + - and *"
                yield FieldError(field, message)


def revoke_key(key: ApiKey) -> None:
    """Have a key open nothing any more; what it appended stays."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def key_of(secret: str) -> ApiKey:
    """Return the key of a secret; raise KeyUnknown."""
    key = ApiKey.objects.filter(digest=_digest(secret), revoked_at=None).first()
    if key is None:
        raise KeyUnknown
    return key


def _digest(secret: str) -> bytes:
    # 256 random bits need no salt and no slow hash: there is nothing to guess.
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()


# --- Appending --------------------------------------------------------------------------------------


class NewEvent(Body):
    """An event to append."""

    channels: Annotated[list[str], Field(min_length=1, max_length=100)]
    type: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,63}$")]
    data: dict[str, Any]
    id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,200}$")] | None = Field(
        None, description="Sent again with the same id by the same key, it is appended once"
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What is asked once for all events of a request."""

    jobs: frozenset[UUID]  # of those that they name, the ones of this service
    folded: frozenset[type[EventType]]  # what read models are made of

    @classmethod
    def of(cls, events: Sequence[NewEvent]) -> Self:
        """Ask, by one query at the most."""
        channels = (channel for event in events for channel in event.channels)
        named: list[Any] = [name.removeprefix("job:") for name in channels if name.startswith("job:")]
        named += [event.data.get("job_id") for event in events if "job_id" in event.data]
        ids = {job_id for job_id in map(_uuid, named) if job_id is not None}
        found = Job.objects.filter(pk__in=ids).values_list("pk", flat=True) if ids else ()
        models = readmodels.registered().values()
        return cls(frozenset(found), frozenset(kind for model in models for kind in model.types))

    def is_ours(self, job_id: Any) -> bool:
        """Tell whether a job is one of this service's."""
        return _uuid(job_id) in self.jobs


def append_all(key: ApiKey, events: Sequence[NewEvent]) -> list[log.EventId]:
    """Append events in their order, all of them or none; return their ids.

    Raises KeyForbids, and Invalid or what is particular, each naming the event by its place.
    """
    known = _Known.of(events)
    return log.append_alone(
        [_new(key, event, f"events.{place}", known) for place, event in enumerate(events)]
    )


def _new(key: ApiKey, event: NewEvent, place: str, known: _Known) -> log.New:
    if not _allowed(key.types, event.type):
        raise KeyForbids(errors=(FieldError(f"{place}.type", "is not in the key's scope"),))
    for channel in event.channels:
        if not _allowed(key.channels, channel):
            raise KeyForbids(errors=(FieldError(f"{place}.channels", f"{channel[:80]} is not in its scope"),))
    key_of_event = None if event.id is None else f"key:{key.pk}:{event.id}"
    return _checked(event, unique_key=key_of_event, known=known, place=f"{place}.")


def append_event(event: NewEvent, *, unique_key: str | None) -> log.EventId:
    """Append an event from elsewhere, checked by its type's declaration, within a transaction.

    Raises Invalid or what is particular, each naming a field.
    """
    return log.append_all([_checked(event, unique_key=unique_key, known=_Known.of([event]))])[0]


def _checked(event: NewEvent, *, unique_key: str | None, known: _Known, place: str = "") -> log.New:
    channels = [_channel(name, place, known) for name in event.channels]
    kind = registry.types().get(event.type)
    data = event.data if kind is None else _data(kind, event, channels, place, known)
    try:
        return log.new_raw(
            event.type,
            data,
            version=1 if kind is None else kind.version,
            channels=channels,
            unique_key=unique_key,
        )
    except PayloadInvalid as error:
        faults = (FieldError(f"{place}data.{fault.field}", fault.message) for fault in error.errors)
        raise PayloadInvalid(errors=tuple(faults)) from None


def _allowed(patterns: Sequence[str], name: str) -> bool:
    """Tell whether a pattern fits the whole name; `*` is anything, and nothing else is special."""
    return any(_compiled(pattern).fullmatch(name) for pattern in patterns)


@lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _channel(name: str, place: str, known: _Known) -> Channel:
    try:
        channel = parse(name)  # so none of the log's own, which nobody can read
    except ChannelMalformed as error:
        raise Invalid(errors=(FieldError(f"{place}channels", error.detail),)) from None
    kind, _, job_id = channel.partition(":")
    if kind == "job" and known.is_ours(job_id):
        raise Invalid(errors=(FieldError(f"{place}channels", "a job of this service tells its own life"),))
    return channel


def _data(
    kind: type[EventType], event: NewEvent, channels: Sequence[Channel], place: str, known: _Known
) -> dict[str, Any]:
    """Return the payload, checked with its channels against the type's declaration."""
    if kind.transient:
        raise Invalid(errors=(FieldError(f"{place}type", "is never in the log"),))
    ours = kind in (*jobs.LIFE, jobs.JobSent) and known.is_ours(event.data.get("job_id"))
    elsewhere = kind in jobs.LIFE and kind is not jobs.JobQueued
    if ours or (kind in known.folded and not elsewhere):
        raise Invalid(errors=(FieldError(f"{place}type", "has a verb of its own: use that"),))
    if kind.sent_on and (others := {*map(kind_of, channels)} - {*kind.sent_on}):
        message = f"{event.type} is not sent on channels of the kind {min(others)}"
        raise Invalid(errors=(FieldError(f"{place}channels", message),))
    try:
        return kind.model_validate(event.data).model_dump(mode="json")
    except ValidationError as error:
        raise Invalid(
            errors=tuple(
                FieldError(f"{place}data.{'.'.join(map(str, fault['loc']))}", fault["msg"])
                for fault in error.errors()[:MOST_FAULTS]
            )
        ) from None


def _uuid(job_id: Any) -> UUID | None:
    try:
        return UUID(str(job_id))
    except ValueError:
        return None


# --- The way in ---------------------------------------------------------------------------------------


class Bearer(AuthBase):
    """A key as `Authorization: Bearer`, counted; no cookie, so no CSRF."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __call__(self, request: HttpRequest) -> ApiKey:
        """Return the key; raise KeyUnknown, then RateLimited."""
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise KeyUnknown
        key = key_of(secret.strip())
        limits.spend(f"key:{key.pk}", per_minute=settings.EVENTS_KEY_POSTS_PER_MINUTE)
        return key


class NewEvents(Body):
    """Events to append, all or none."""

    events: Annotated[list[NewEvent], Field(min_length=1, max_length=MOST_EVENTS)]


class Ids(BaseModel):
    """The events' ids in the log, in the order given."""

    ids: list[str]


_ERRORS = frozenset({400, 401, 403, 413, 415, 422, 429, 503})


@router.post("/events", auth=Bearer(), response={201: Ids, _ERRORS: Problem})
def append_events(request: HttpRequest, body: NewEvents) -> Status[Ids]:
    """Append events with an API key: all of them or none; those with an `id` once, however often sent."""
    key: ApiKey = request.auth  # type: ignore[attr-defined]
    return Status(201, Ids(ids=[str(event_id) for event_id in append_all(key, body.events)]))

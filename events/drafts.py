"""Drafts: what an admin composes, and what is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from django.utils import timezone
from pydantic import TypeAdapter, ValidationError

from events import audiences
from events.errors import FieldError, Invalid
from events.fields import Link, check_text

TITLE_MOST = 200  # characters: a heading, not a text
MESSAGE_MOST = 5_000  # characters: a notice, not a letter
LONGEST = timedelta(days=5 * 366)  # ahead: what lies beyond is a slip of the pen
LATE = timedelta(minutes=1)  # a start so little ago is meant as now; one before that is a mistake

Severity = Literal["info", "warning", "critical"]

_link = TypeAdapter(Link)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an admin composes. Times are full seconds; `starts_at` None is at once."""

    message: str
    audience: tuple[str, ...]
    severity: str = "info"
    title: str = ""
    link: str | None = None
    starts_at: datetime | None = None
    expires_at: datetime | None = None


def check(draft: Draft, before: Draft | None = None) -> None:
    """Raise Invalid with all that is wrong in what was composed; what stood there before may stand."""
    faults = [*_wrong_words(draft), *_wrong_times(draft, before)]
    if before is None or draft.audience != before.audience:
        faults += audiences.faults(draft.audience)
    if faults:
        raise Invalid(errors=tuple(faults))


def _wrong_words(draft: Draft) -> Iterator[FieldError]:
    for field, text, most in (("title", draft.title, TITLE_MOST), ("message", draft.message, MESSAGE_MOST)):
        if text or field == "message":
            try:
                check_text(text, field=field, most=most)
            except Invalid as error:
                yield from error.errors
    if draft.severity not in get_args(Severity):
        yield FieldError("severity", "must be info, warning or critical")
    if draft.link is not None:
        try:
            _link.validate_python(draft.link)
        except ValidationError as error:
            yield from (FieldError("link", fault["msg"]) for fault in error.errors())


def _wrong_times(draft: Draft, before: Draft | None) -> Iterator[FieldError]:
    now = timezone.now()
    starts_at = draft.starts_at or now
    if (before is None or draft.starts_at != before.starts_at) and starts_at < now - LATE:
        yield FieldError("starts_at", "is in the past")
    if draft.expires_at is not None:
        if draft.expires_at <= starts_at:
            yield FieldError("expires_at", "must be after the start")
        elif draft.expires_at <= now:
            yield FieldError("expires_at", "is in the past")
    for field, moment in (("starts_at", starts_at), ("expires_at", draft.expires_at or now)):
        if moment > now + LONGEST:
            yield FieldError(field, "is more than five years ahead")

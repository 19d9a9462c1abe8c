"""Preferences: how somebody wants to be told, for each kind of notification, and when to be left in peace.

`live` is shown at once, `digest` stands in the inbox and is mailed, `off` is not raised at all. In
quiet hours what is live only goes into the inbox. Broadcasts of severity `critical` are always live.
And whether others are shown what one has open.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo, available_timezones

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction

from events import arrays, erasure, inbox, readmodels
from events.channels import user_channel
from events.erasure import ERASED
from events.errors import FieldError, Invalid
from events.kinds import KINDS
from events.log import EventId, append
from events.models import Preferences
from events.readmodels import ReadModel
from events.registry import EventType

Way = Literal["live", "off", "digest"]
Delivery = Literal["live", "quiet", "digest"]
Presence = Literal["shown", "hidden"]


def _since_one_can_hide(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "presence": "shown"}


class PreferencesChanged(EventType):
    """Somebody wants to be told otherwise; all of it is given. Quiet hours are `HH:MM`, of their zone."""

    version: ClassVar = 2
    upcasts: ClassVar = {1: _since_one_can_hide}
    personal: ClassVar = {"time_zone": "user_id"}
    sent_on: ClassVar = ("user",)

    user_id: str
    types: dict[str, Way]
    quiet_start: str | None
    quiet_end: str | None
    time_zone: str
    presence: Presence


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody chose. A kind that `types` does not name is live."""

    types: Mapping[str, Way]
    quiet: tuple[str, str] | None = None
    time_zone: str = "UTC"
    presence: Presence = "shown"

    def way(self, kind: str) -> Way:
        """Return how they want to be told of a kind."""
        return self.types.get(kind, "live")

    def delivery(self, kind: str, at: datetime, *, critical: bool = False) -> Delivery | None:
        """Return how a notification of a kind is to reach them at a moment; None for not at all."""
        way = self.way(kind)
        if critical:
            return "live"
        if way == "off":
            return None
        return "quiet" if way == "live" and self.is_quiet(at) else way

    def is_quiet(self, at: datetime) -> bool:
        """Tell whether a moment is in the quiet hours, which may span midnight."""
        if self.quiet is None:
            return False
        start, end = self.quiet
        now = at.astimezone(_zone(self.time_zone)).strftime("%H:%M")
        return start <= now < end if start < end else now >= start or now < end


DEFAULT = Choice({})


def of(user_ids: Iterable[int]) -> Mapping[int, Choice]:
    """Return what each of some users chose, or the default."""
    wanted = list(user_ids)
    with connection.cursor() as cursor:  # an array: a list of parameters would cost each of hundreds more
        cursor.execute(
            "SELECT user_id FROM events_preferences WHERE user_id = ANY (%s)", [arrays.ids(wanted)]
        )
        chose = [user_id for (user_id,) in cursor.fetchall()]
    rows = Preferences.objects.in_bulk(chose) if chose else {}  # most have chosen nothing
    return {user_id: _choice(rows.get(user_id)) for user_id in wanted}


def is_hidden(user: AbstractBaseUser) -> bool:
    """Tell whether others are not to be shown what a user has open."""
    return Preferences.objects.filter(user_id=user.pk, presence="hidden").exists()


@transaction.atomic
def change(user: AbstractBaseUser, **given: Any) -> Choice:
    """Choose what is given of `types`, `quiet`, `time_zone` and `presence`; kinds that are left out stay.

    Nothing is recorded where nothing differs. Raises Invalid.
    """
    inbox.lock([user.pk])
    before = of([user.pk])[user.pk]
    after = replace(before, **{**given, "types": {**before.types, **given.get("types", {})}})
    if faults := tuple(_faults(after)):
        raise Invalid(errors=faults)
    if after == before:
        return before
    start, end = after.quiet or (None, None)
    event = PreferencesChanged(
        user_id=str(user.pk),
        types=dict(after.types),
        quiet_start=start,
        quiet_end=end,
        time_zone=after.time_zone,
        presence=after.presence,
    )
    _fold(event, append(event, channels=[user_channel(user.pk)], actor_id=user.pk))
    return after


def _choice(row: Preferences | None) -> Choice:
    if row is None:
        return DEFAULT
    quiet = (row.quiet_start, row.quiet_end) if row.quiet_start and row.quiet_end else None
    return Choice(row.types, quiet, row.time_zone, "hidden" if row.presence == "hidden" else "shown")


def _faults(choice: Choice) -> Iterable[FieldError]:
    for kind in choice.types:
        if kind not in KINDS:
            yield FieldError(f"types.{kind}", f"is no kind of notification; there are {', '.join(KINDS)}")
    if choice.quiet and choice.quiet[0] == choice.quiet[1]:
        yield FieldError("quiet_hours.end", "must differ from the start; null is for none")
    if choice.time_zone not in zones():
        yield FieldError("time_zone", "is not the name of a time zone, such as Europe/Berlin")


@cache
def zones() -> frozenset[str]:
    """Return the names of the time zones that there are."""
    return frozenset(available_timezones() | {"UTC"})


@cache
def _zone(name: str) -> tzinfo:
    # One that was erased, or that this machine's tables lack, must not keep anybody from being told.
    return ZoneInfo(name) if name in zones() and name != "UTC" else UTC


# --- The fold, and what of a person is here ----------------------------------------------------


def _fold(event: EventType, event_id: EventId) -> None:
    assert isinstance(event, PreferencesChanged)  # noqa: S101 (the one type there is)
    Preferences.objects.update_or_create(
        user_id=int(event.user_id),
        defaults={"event_id": event_id, **event.model_dump(exclude={"user_id"})},
    )


def _erase(user_id: int) -> int:
    theirs = Preferences.objects.filter(user_id=user_id)
    return theirs.exclude(time_zone=ERASED).update(time_zone=ERASED)


readmodels.register(
    ReadModel("preferences", table=Preferences, born_of="event_id", types=(PreferencesChanged,), fold=_fold)
)
erasure.register("preferences", _erase)

"""Erasure of a person: what they wrote and are called by goes, the events' places stay.

Each event type says which of its fields are personal and whose (`EventType.personal`); these are
overwritten in the log, by the one function of the database that may. Each module that keeps rows
registers what overwrites them in the same way. What remains is a number, of an account without a
name. Hubs forget by `LogErased`, and `UserErased` says for good who erased whom, and how much.

Erasing again is harmless, and finds what a request that had begun before wrote after.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import ClassVar

from django.apps import apps
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import BooleanField, CharField, TextField

from events import log, registry
from events.channels import TRACE
from events.models import IdempotencyKey
from events.registry import EventType

ERASED = "[erased]"  # not empty: clients may rely on a text being there
BATCH = 5_000  # positions looked at in one statement, of which few are rewritten
WAIT_SECONDS = 10.0  # for what the person's requests are still writing
PAUSE_SECONDS = 0.05  # between two looks whether they have

_erasers: dict[str, Callable[[int], int]] = {}


class LogErased(EventType):
    """Events at or below the position `upto` have other data: what was kept of them is void."""

    sent_on: ClassVar = ("internal",)

    upto: int
    events: int


class UserErased(EventType):
    """What was personal to a user was erased; `events` of the log. `timestamp` is in Unix seconds."""

    sent_on: ClassVar = ("internal",)

    user_id: str
    erased_by: str
    events: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did: `rows` by where they are; `whole` unless something was still being written."""

    events: int
    rows: Mapping[str, int]
    whole: bool


def register(name: str, erase: Callable[[int], int]) -> None:
    """Have a function overwrite or remove what rows hold of a user, by id; it returns how many did."""
    _erasers[name] = erase


def erase_user(
    user: AbstractBaseUser,
    *,
    by: str,
    actor_id: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Erased:
    """Erase a person: close and anonymise the account, then overwrite log and rows. Not in a transaction.

    `by` says who does it. `progress` is told the position reached and the head, batch by batch.
    """
    whole = _wait_for_writers(_close_account(user.pk))
    while log.place().count:
        pass
    events = 0
    for erased, position in _erase_log(user.pk):
        events += erased
        if progress:
            progress(position, log.head().position)
    rows = {}
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT tickertape_take_turns()")  # a rebuild has read what this overwrites
        for name, erase in _erasers.items():
            rows[name] = erase(user.pk)
        trace = UserErased(user_id=str(user.pk), erased_by=by, events=events, timestamp=int(time.time()))
        log.append(trace, channels=[TRACE], actor_id=actor_id)
    log.place()
    return Erased(events, rows, whole)


def vacuum() -> None:
    """Have PostgreSQL overwrite the rows' old versions, which it keeps until then."""
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True, include_views=False):
            cursor.execute(f"VACUUM {connection.ops.quote_name(table)}")


# --- The account ------------------------------------------------------------------------------


@transaction.atomic
def _close_account(user_id: int) -> str:
    """Leave a nameless account that nobody can log in to; return this transaction's id."""
    user = get_user_model()._default_manager.select_for_update().get(pk=user_id)
    _end_sessions(str(user_id))
    IdempotencyKey.objects.filter(user_id=user_id).delete()  # they hold what was answered
    _anonymise(user)
    _rename_in_admin(user)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text")
        return str(cursor.fetchone()[0])


def _rename_in_admin(user: AbstractBaseUser) -> None:
    """Have the admin's history call the account by its new name, where there is an admin."""
    if apps.is_installed("django.contrib.admin"):
        from django.contrib.admin.models import LogEntry
        from django.contrib.contenttypes.models import ContentType

        kind = ContentType.objects.get_for_model(user)
        entries = LogEntry.objects.filter(content_type=kind, object_id=str(user.pk))
        entries.update(object_repr=user.get_username(), change_message="")


def _end_sessions(user_id: str) -> None:
    # What a session holds is signed, not indexed: each is opened.
    for session in Session.objects.iterator():
        if session.get_decoded().get(SESSION_KEY) == user_id:
            session.delete()


def _anonymise(user: AbstractBaseUser) -> None:
    """Empty every field of an account that holds text, and all it is allowed."""
    name = _free_name(user)
    for field in user._meta.concrete_fields:
        if isinstance(field, CharField | TextField) and not field.primary_key:
            setattr(user, field.attname, None if field.null else name if field.unique else "")
        elif isinstance(field, BooleanField):
            setattr(user, field.attname, False)
    user.last_login = None
    user.set_unusable_password()
    setattr(user, get_user_model().USERNAME_FIELD, name)
    user.save()
    for many in user._meta.many_to_many:
        getattr(user, many.name).clear()


def _free_name(user: AbstractBaseUser) -> str:
    name = f"erased-{user.pk}"
    others = get_user_model()._default_manager.exclude(pk=user.pk)
    while others.filter(**{get_user_model().USERNAME_FIELD: name}).exists():
        name = f"erased-{user.pk}-{token_hex(4)}"
    return name


def _wait_for_writers(closed: str) -> bool:
    """Wait for the transactions that began before the account was closed; tell whether all have ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot()) > %s::xid8", [closed])
            if cursor.fetchone()[0]:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)


# --- The log -------------------------------------------------------------------------------------


def _erase_log(user_id: int) -> Iterator[tuple[int, int]]:
    """Overwrite what is personal in the log; yield, batch by batch, how many events and where it is."""
    rules = json.dumps(
        [
            {"type": name, "member": field, "whose": whose}
            for name, kind in registry.types().items()
            for field, whose in kind.personal_fields()
        ]
    )
    position, done = _oldest() - 1, False
    while not done:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT erased, covered_to, done FROM tickertape_erase(%s, %s, %s, %s, %s)",
                [str(user_id), rules, ERASED, position, BATCH],
            )
            erased, position, done = cursor.fetchone()
        if erased:
            log.place()  # hubs hear of it now, not when all is done
            log.announce()
        yield erased, position


def _oldest() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT oldest FROM events_logstate")
        return int(cursor.fetchone()[0])

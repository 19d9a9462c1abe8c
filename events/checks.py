"""System checks: what would break a promise later is said at start, with the way out."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 (Django's name)
from django.db import connections

from events import catalogue
from events.comments import TEXT_MOST

POSTGRESQL_OLDEST = 14  # what Django 5.2 supports
# The longest comment takes six bytes a character where each is escaped, and its other fields some more.
PAYLOAD_LEAST = 6 * TEXT_MOST + 1_000

_POSTGRESQL = "django.db.backends.postgresql"
_SESSIONS = frozenset({"django.contrib.sessions.backends.db", "django.contrib.sessions.backends.cached_db"})


@register()
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check the settings that the log rests on, and that the catalogue says all of each event type."""
    return [*_database_faults(), *_limit_faults(), *_session_faults(), *_catalogue_faults()]


@register(Tags.database)
def check_server(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check the server's version. Runs where the databases are asked for, as in `migrate`."""
    connection = connections["default"]
    if "default" not in (databases or ()) or connection.vendor != "postgresql":
        return []
    version: int = connection.pg_version  # type: ignore[attr-defined]
    if version // 10_000 >= POSTGRESQL_OLDEST:
        return []
    hint = f"Use PostgreSQL {POSTGRESQL_OLDEST} or newer."
    return [Error(f"PostgreSQL {version // 10_000} is too old for the log.", hint=hint, id="events.E002")]


def _database_faults() -> Iterator[CheckMessage]:
    database = connections["default"].settings_dict
    if database["ENGINE"] != _POSTGRESQL:
        hint = "Give DATABASE_URL as postgresql://user:password@host:port/name."
        yield Error("The log needs PostgreSQL.", hint=hint, id="events.E001")
    if database["ATOMIC_REQUESTS"]:
        hint = "Remove it: the verbs open the transactions they need."
        yield Error(
            "ATOMIC_REQUESTS puts lists and placing inside a transaction, where they cannot be.",
            hint=hint,
            id="events.E003",
        )


def _limit_faults() -> Iterator[CheckMessage]:
    if settings.EVENTS_MAX_PAYLOAD_BYTES < PAYLOAD_LEAST:
        yield Error(
            "EVENTS_MAX_PAYLOAD_BYTES is too small for the longest comment.",
            hint=f"Set it to {PAYLOAD_LEAST} or more.",
            id="events.E004",
        )
    if settings.EVENTS_MAX_CHANNELS < 2:
        hint = "Set it to 2 or more: a membership is told to the item and to the member."
        yield Error("EVENTS_MAX_CHANNELS is too small.", hint=hint, id="events.E005")
    if settings.DATA_UPLOAD_MAX_MEMORY_SIZE is None:
        hint = "Set DATA_UPLOAD_MAX_MEMORY_SIZE to some bytes, such as 1048576."
        yield Warning("Bodies of requests have no limit.", hint=hint, id="events.W001")


def _session_faults() -> Iterator[CheckMessage]:
    if settings.SESSION_ENGINE not in _SESSIONS:
        yield Warning(
            "A logout does not end live streams at once: sessions are not kept in the database.",
            hint="Set SESSION_ENGINE to django.contrib.sessions.backends.db or .cached_db.",
            id="events.W002",
        )


def _catalogue_faults() -> Iterator[CheckMessage]:
    hint = "See docs/your-own-events.md."
    for fault in catalogue.all_faults():
        yield Error(fault, hint=hint, id="events.E006")

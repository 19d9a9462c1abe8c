"""What the log tells of a broadcast, for people: each step with who did it, when, and what it changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model

from events.log import Entry
from events.models import Event

_WORDS = {
    "SystemAlert": "Told its audience",
    "SystemAlertUpdated": "Changed",
    "SystemAlertRecalled": "Recalled",
}
_FIELDS = ("title", "message", "severity", "link", "starts_at", "expires_at", "audience")


@dataclass(frozen=True, slots=True)
class Step:
    """One step in a broadcast's life. `changes` are fields, each with what it was and what it became."""

    what: str
    who: str
    at: datetime
    changes: Sequence[tuple[str, Any, Any]]


def told(entries: Sequence[Entry]) -> list[Step]:
    """Return the steps that a broadcast's events make; an audience of many users was told by several."""
    names = _names({entry.actor_id for entry in entries if entry.actor_id is not None})
    times = dict(Event.objects.filter(pk__in=[e.id for e in entries]).values_list("pk", "created_at"))
    steps: list[Step] = []
    before: dict[str, Any] = {}
    last = ("", "")
    for entry in entries:
        if last == (entry.type, entry.data):
            continue
        last = (entry.type, entry.data)
        data = {name: value for name, value in json.loads(entry.data).items() if name in _FIELDS}
        what = _WORDS.get(entry.type, "Composed" if not before else "Changed the plan")
        known = bool(before)
        changes = [
            (name.replace("_at", "").capitalize(), _shown(name, before[name]), _shown(name, data[name]))
            for name in data
            if known and name in before and before[name] != data[name]
        ]
        before |= data
        who = names.get(entry.actor_id or 0, f"user {entry.actor_id}")
        steps.append(Step(what, who, times[entry.id], changes))
    return steps


def _shown(name: str, value: Any) -> Any:
    if name.endswith("_at") and value is not None:
        return datetime.fromtimestamp(value, UTC)
    return ", ".join(value) if isinstance(value, list) else value


def _names(user_ids: set[int]) -> Mapping[int, str]:
    users = get_user_model()._default_manager.in_bulk(list(user_ids))
    return {pk: user.get_username() for pk, user in users.items()}

"""Access taken away, as events: hubs end the live streams that it concerns.

The database itself appends one, in the transaction that takes the access away, for what
Django keeps: users disabled, deleted or with another password, staff rights, groups and
sessions (migration 0004), so that no admin page, shell or bulk update gets past it. The
verbs of items append theirs here.
"""

import json
from hashlib import sha256
from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db.models.signals import m2m_changed, post_delete, post_save

from events.channels import ACCESS, Channel
from events.log import EventId, announce, append
from events.registry import EventType

_DIGEST_LENGTH = 32  # hexadecimal digits: 128 bits, as in the migration
# What of a user decides about access; logging in saves `last_login`, which does not.
_WATCHED = frozenset({"is_active", "is_staff", "password"})


class AccessChanged(EventType):
    """End every live stream that matches all the fields that are given.

    `session` is a `session_digest`. Streams that come back are authorised anew.
    """

    sent_on: ClassVar = ("internal",)

    user_id: str | None = None
    channel: str | None = None
    session: str | None = None
    reason: str


def read_change(data: str | bytes) -> AccessChanged:
    """Read a change of access, also one that a newer version wrote: what is not understood ends more.

    A field that this version does not know could only narrow the change, so leaving it out errs on
    the safe side; a change that cannot be read at all ends every stream.
    """
    try:
        fields = json.loads(data)
        known = {name: fields.get(name) for name in ("user_id", "channel", "session")}
        return AccessChanged(reason=str(fields.get("reason")), **known)
    except (ValueError, AttributeError):
        return AccessChanged(reason="not understood")


def session_digest(session_key: str) -> str:
    """Return what the log calls a session by: its key would let whoever reads the log be its user."""
    return sha256(session_key.encode()).hexdigest()[:_DIGEST_LENGTH]


def access_changed(reason: str, *, user_id: int | None = None, channel: Channel | None = None) -> EventId:
    """Record, in the transaction that decides it, that a user or everyone lost a channel."""
    event = AccessChanged(user_id=None if user_id is None else str(user_id), channel=channel, reason=reason)
    return append(event, channels=[ACCESS])


def connect() -> None:
    """Announce what the database appended by itself, so that it need not wait for a worker's clock."""
    user = get_user_model()
    post_save.connect(_user_saved, sender=user, dispatch_uid="events.access.saved")
    post_delete.connect(_announce, sender=user, dispatch_uid="events.access.deleted")
    post_delete.connect(_announce, sender=Session, dispatch_uid="events.access.logout")
    post_save.connect(_announce, sender=Group, dispatch_uid="events.access.renamed")
    m2m_changed.connect(_announce, sender=user.groups.through, dispatch_uid="events.access.groups")


def _user_saved(*, created: bool, update_fields: frozenset[str] | None, **kwargs: Any) -> None:
    if not created and (update_fields is None or _WATCHED & update_fields):
        _announce()


def _announce(**kwargs: Any) -> None:
    announce()

"""Channels: the addresses people watch, and who may read which.

A channel is `kind:key`, or a bare kind. Each kind has a rule, registered here or by an
app; a kind without one can be appended to but never read.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser

from events.errors import ChannelForbidden, ChannelMalformed, FieldError

Channel = NewType("Channel", str)

SYSTEM = Channel("system")
INTERNAL = "internal"  # the kind of the log's own channels, which nobody may read
ACCESS = Channel("internal:access")  # changes of who may read what: for hubs, never for people
LOG = Channel("internal:log")  # what the log says of itself
TRACE = Channel("internal:trace")  # who did what to the log: to be looked up, and no hub's business

_NAME = re.compile(r"([a-z][a-z0-9_]{0,31})(?::([A-Za-z0-9_.@+-]{1,150}))?")
_ID = re.compile(r"[1-9][0-9]{0,18}")
_MAX_ID = 2**63 - 1
JOB_KEY = re.compile(r"[A-Za-z0-9-]{1,64}")  # programs call jobs of their own as they like
JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # of ours; `UUID` reads more


Rule = Callable[[AbstractBaseUser, str], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of channel: the form of its keys, the rule of who may read one, and what is told first.

    `latest` is SQL that returns a transient event type's name and its payload (jsonb) for each of
    `%(keys)s`: what nobody will be told again, who comes late is told at once. It is asked of keys of the
    form `latest_key`, if that is given. `about` says, for the catalogue, what is told there and who reads it.
    `allows` is the rule once more, as SQL: true where the user of the row `reader` may read `asked.key`. So a
    stream opens with neither a thread nor the ORM. It may refuse what the rule lets be read, which is then
    asked; never the other way round.
    """

    name: str
    key: re.Pattern[str] | None
    may_read: Rule
    latest: str | None = None
    latest_key: re.Pattern[str] | None = None
    about: str = ""
    allows: str | None = None


_kinds: dict[str, Kind] = {}


def register(
    name: str,
    *,
    key: re.Pattern[str] | None = _ID,
    may_read: Rule,
    latest: str | None = None,
    latest_key: re.Pattern[str] | None = None,
    about: str = "",
    allows: str | None = None,
) -> None:
    """Let channels of a kind be read by whom `may_read(user, key)` does not refuse.

    The rule raises ChannelForbidden or ChannelUnknown; it runs in a thread, with the ORM.
    """
    _kinds[name] = Kind(name, key, may_read, latest, latest_key, about, allows)


def kinds() -> Mapping[str, Kind]:
    """Return every kind of channel that can be read, by its name."""
    return _kinds


def kind_of(channel: str) -> str:
    """Return the name of a channel's kind."""
    return channel.partition(":")[0]


def parse(name: str) -> Channel:
    """Return the name as a channel that can be read; raise ChannelMalformed."""
    match = _NAME.fullmatch(name)
    kind = _kinds.get(match[1]) if match else None
    if not match or not kind:
        raise _malformed(name)
    key = match[2]
    if kind.key is None:
        fits = key is None
    else:
        fits = key is not None and kind.key.fullmatch(key) is not None
        if fits and kind.key is _ID:
            fits = int(key) <= _MAX_ID
    if not fits:
        raise _malformed(name)
    return Channel(name)


def check_names(names: Sequence[str]) -> None:
    """Raise ChannelMalformed unless every name could be a channel's (readable or not)."""
    for name in names:
        if not is_name(name):
            raise _malformed(name)


def is_name(name: str) -> bool:
    """Tell whether a name could be a channel's."""
    return _NAME.fullmatch(name) is not None


def authorise(user: AbstractBaseUser, channels: Iterable[Channel]) -> None:
    """Raise ChannelForbidden or ChannelUnknown unless the user may read all the channels."""
    for channel in channels:
        kind, _, key = channel.partition(":")
        _kinds[kind].may_read(user, key)


def latest_of(channels: Iterable[Channel]) -> Iterator[tuple[str, list[str]]]:
    """Yield what to ask for the latest of the channels that have such: the SQL and its keys."""
    keys: dict[str, list[str]] = {}
    for channel in channels:
        name, _, key = channel.partition(":")
        kind = _kinds.get(name)
        if kind is None or kind.latest is None:
            continue
        if kind.latest_key is None or kind.latest_key.fullmatch(key):
            keys.setdefault(kind.latest, []).append(key)
    yield from keys.items()


def user_channel(user_id: int | str) -> Channel:
    """Return a user's own channel."""
    return Channel(f"user:{user_id}")


def item_channel(item_id: int | str) -> Channel:
    """Return an item's channel."""
    return Channel(f"item:{item_id}")


def job_channel(job_id: UUID | str) -> Channel:
    """Return a job's channel."""
    return Channel(f"job:{job_id}")


def own_channels(user: AbstractBaseUser) -> list[Channel]:
    """Return what a user hears without asking: their own channel, their groups' and `system`.

    A user who was read together with their groups has the names in `group_names`.
    """
    groups = user.__dict__.get("group_names")
    if groups is None:
        groups = user.groups.values_list("name", flat=True)  # type: ignore[attr-defined]
    named = (f"group:{name}" for name in groups)
    return [user_channel(user.pk), *(Channel(n) for n in named if is_name(n)), SYSTEM]


def _malformed(name: str) -> ChannelMalformed:
    shown = name[:80].encode("unicode_escape").decode()
    return ChannelMalformed(
        f"“{shown}” is not the name of a channel.",
        errors=(FieldError("channel", "use user:<id>, item:<id>, job:<id>, group:<name> or system"),),
    )


def _own_only(user: AbstractBaseUser, key: str) -> None:
    if str(user.pk) != key:
        raise ChannelForbidden


def _members_only(user: AbstractBaseUser, key: str) -> None:
    if not user.groups.filter(name=key).exists():  # type: ignore[attr-defined]
        raise ChannelForbidden


def _everyone(user: AbstractBaseUser, key: str) -> None:
    """Let every logged-in user read."""


register(
    "user",
    may_read=_own_only,
    allows="reader.id::text = asked.key",
    about="What concerns a user. They alone read it.",
)
register(
    "group",
    key=re.compile(r"[A-Za-z0-9_.@+-]{1,150}"),
    may_read=_members_only,
    allows="""EXISTS (
        SELECT FROM auth_user_groups JOIN auth_group ON auth_group.id = group_id
        WHERE user_id = reader.id AND name = asked.key)""",
    about="What concerns a group. Its members read it.",
)
register(
    "system",
    key=None,
    may_read=_everyone,
    allows="true",
    about="What concerns everyone. Whoever is logged in reads it.",
)

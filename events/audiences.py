"""Audiences: whom a broadcast is for, as addresses, which are channels of one kind.

`system` is everyone, `group:<name>` a group, `user:<id>` a user; `item:<id>` stands for the item's
watchers, who are reached by their own channels wherever they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, Group
from django.db.models import Q, QuerySet

from events import edge, items, watching
from events.channels import SYSTEM, Channel, is_name, item_channel, own_channels, user_channel
from events.errors import FieldError
from events.models import Broadcast, Item

USERS_MOST = 1_000  # of one audience: who means more of them means a group
CHANNELS_MOST = (
    99  # of one event, besides the broadcast's own; more users take more events, more groups are refused
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many an audience has: in all, and with a stream open now, if that is known."""

    reach: int
    connected: int | None

    def __str__(self) -> str:
        """Say it as a sentence."""
        users = "1 user" if self.reach == 1 else f"{self.reach:,} users"
        if self.connected is None:
            return f"About {users}; who is connected now is unknown."
        return f"About {users}, {self.connected:,} of them connected now."


def channels(audience: Sequence[str]) -> list[Channel]:
    """Return the channels that reach an audience as it is now; an item may have no watcher."""
    kind, key = _split(audience[0])
    if kind == "item":
        return [user_channel(user_id) for user_id in sorted(_watchers(int(key)))]
    return [Channel(address) for address in audience]


def described(audience: Sequence[str]) -> dict[str, Any]:
    """Return an audience in the API's form."""
    keys = [_split(address)[1] for address in audience]
    match _split(audience[0])[0]:
        case "group":
            return {"groups": keys}
        case "user":
            return {"users": keys}
        case "item":
            return {"item": keys[0]}
        case _:
            return {"all": True}


def addresses(user: AbstractBaseUser, broadcasts: QuerySet[Broadcast]) -> list[str]:
    """Return the addresses that mean a user, of items only those that some broadcasts are for."""
    named = {int(_split(audience[0])[1]) for audience in broadcasts.values_list("audience", flat=True)}
    watched = watching.watched_by(user, named) if named else ()
    return [*own_channels(user), *map(item_channel, watched)]


def members(audience: Sequence[str]) -> QuerySet[AbstractBaseUser]:
    """Return who is in an audience now: who could log in, each once."""
    users: QuerySet[AbstractBaseUser] = get_user_model()._default_manager.filter(is_active=True)
    if SYSTEM in audience:
        return users
    ids: set[int] = set()
    groups = []
    for kind, key in map(_split, audience):
        match kind:
            case "user":
                ids.add(int(key))
            case "group":
                groups.append(key)
            case "item":
                ids |= _watchers(int(key))
    return users.filter(Q(pk__in=ids) | Q(groups__name__in=groups)).distinct()


def reach(audience: Sequence[str]) -> int:
    """Return how many users an audience has, each counted once."""
    return members(audience).count()


def estimate(audience: Sequence[str]) -> Estimate:
    """Return how many an audience has, by one count, however many are connected."""
    connected = edge.connected()
    if connected is None:
        return Estimate(reach(audience), None)
    if SYSTEM in audience:  # whoever is connected may log in, or their stream ends within a second
        users = reach(audience)
        return Estimate(users, min(users, len(connected)))
    ids = set(members(audience).values_list("pk", flat=True))
    return Estimate(len(ids), len(ids & connected))


def faults(audience: Sequence[str]) -> Iterator[FieldError]:
    """Yield what is wrong with an audience: it is of one kind, and all that it names is there."""
    kinds = {_split(address)[0] for address in audience}
    keys = list(dict.fromkeys(_split(address)[1] for address in audience))
    if len(kinds) != 1:
        yield FieldError("audience", "must be one of all, groups, users and item, and not empty")
        return
    match kinds.pop():
        case "user" if len(keys) > USERS_MOST:
            yield FieldError("audience.users", f"must be at most {USERS_MOST}: use a group for more")
        case "user":
            there = get_user_model()._default_manager.filter(pk__in=keys, is_active=True)
            yield from _unknown("users", keys, {str(pk) for pk in there.values_list("pk", flat=True)})
        case "group" if len(keys) > CHANNELS_MOST:
            yield FieldError("audience.groups", f"must be at most {CHANNELS_MOST}")
        case "group":
            names = Group.objects.filter(name__in=keys).values_list("name", flat=True)
            # A group whose name cannot be a channel's is heard by nobody.
            yield from _unknown("groups", keys, {name for name in names if is_name(f"group:{name}")})
        case "item" if len(keys) > 1 or not Item.objects.filter(pk__in=keys).exists():
            yield FieldError("audience.item", "there is no such item")


def _unknown(field: str, keys: Sequence[str], there: set[str]) -> Iterator[FieldError]:
    for index, key in enumerate(keys):
        if key not in there:
            yield FieldError(f"audience.{field}[{index}]", "is not known, or cannot be reached")


def _split(address: str) -> tuple[str, str]:
    kind, _, key = address.partition(":")
    return kind, key


def _watchers(item_id: int) -> set[int]:
    """Return who is told of an item's news now: who watches it, did not mute it and may read it."""
    item = Item.objects.filter(pk=item_id).first()
    if item is None:
        return set()
    found = watching.audience(item)
    return items.readers(item, found.watching - found.muted)

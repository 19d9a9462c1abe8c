"""Mentions: whom a text names, as `@bob`."""

import re
from collections.abc import Iterator
from unicodedata import normalize

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.db.models.functions import Lower

# What Django's user names are made of; not behind what an address of e-mail could begin with.
_MENTION = re.compile(r"(?<![\w.+@-])@([\w.@+-]{1,150})")
_ENDS = ".@+-"  # of a name, or of the sentence


def names(text: str) -> list[tuple[str, ...]]:
    """Return what a text may mean by each of its mentions: `@bob.` is `bob.` or `bob`.

    Only the first so many different ones count: a text must not call everybody.
    """
    normal = normalize("NFKC", text)  # as Django stores user names
    found = dict.fromkeys(tuple(_readings(match[1])) for match in _MENTION.finditer(normal))
    return list(found)[: settings.EVENTS_MAX_MENTIONS]


def mentioned(text: str) -> set[int]:
    """Return the ids of the users that a text mentions: those of that name, else in other letter case."""
    readings = names(text)
    if not readings:
        return set()
    ids = _ids({name for reading in readings for name in reading})
    found: set[int] = set()
    for reading in readings:
        found |= next(filter(None, (_called(name, ids) for name in reading)), set())
    return found


def _readings(word: str) -> Iterator[str]:
    yield word
    while word and word[-1] in _ENDS:
        word = word[:-1]
        if word:
            yield word


def _ids(wanted: set[str]) -> dict[str, int]:
    users = get_user_model()._default_manager
    field = get_user_model().USERNAME_FIELD
    found = users.annotate(lower_name=Lower(field)).filter(
        Q(**{f"{field}__in": wanted}) | Q(lower_name__in={name.lower() for name in wanted})
    )
    return dict(found.values_list(field, "pk"))


def _called(name: str, ids: dict[str, int]) -> set[int]:
    if name in ids:
        return {ids[name]}
    return {user_id for known, user_id in ids.items() if known.lower() == name.lower()}

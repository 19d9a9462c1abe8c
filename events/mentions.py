"""Mentions: whom a text names, as `@bob`."""

import re
from collections.abc import Iterator, Sequence
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
    return mentioned_in([text])[0]


def mentioned_in(texts: Sequence[str]) -> list[set[int]]:
    """Return whom each of some texts mentions."""
    readings = [names(text) for text in texts]
    wanted = {name for of_text in readings for reading in of_text for name in reading}
    called = _called(wanted) if wanted else {}
    return [
        set().union(*(next(filter(None, (called.get(name) for name in reading)), ()) for reading in of_text))
        for of_text in readings
    ]


def _readings(word: str) -> Iterator[str]:
    yield word
    while word and word[-1] in _ENDS:
        word = word[:-1]
        if word:
            yield word


def _called(wanted: set[str]) -> dict[str, set[int]]:
    """Return by its name who is called so: in just these letters, else in others' case."""
    users = get_user_model()._default_manager
    field = get_user_model().USERNAME_FIELD
    found = users.annotate(lower_name=Lower(field)).filter(
        Q(**{f"{field}__in": wanted}) | Q(lower_name__in={name.lower() for name in wanted})
    )
    exactly: dict[str, set[int]] = {}
    roughly: dict[str, set[int]] = {}
    for name, user_id in found.values_list(field, "pk"):
        exactly[name] = {user_id}
        roughly.setdefault(name.lower(), set()).add(user_id)
    return {name: exactly.get(name) or roughly.get(name.lower(), set()) for name in wanted}

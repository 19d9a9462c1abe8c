"""The kinds of notifications there are: what each is about, and how it is put into words."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of notification. `did` is what somebody did, where a comment on an item is the cause."""

    about: str
    did: str = ""


# The reasons of one comment stand in the order of their strength: one who has several is told the first.
KINDS: Mapping[str, Kind] = {
    "mention": Kind("somebody names you", "mentioned you on"),
    "reply": Kind("an answer to a comment of yours", "replied to you on"),
    "comment": Kind("a comment on an item of yours", "commented on"),
    "watch": Kind("a comment on an item that you watch", "commented on"),
    "job": Kind("a job of yours ended"),
    "broadcast": Kind("an admin speaks"),
}


def words(kind: str, *, actor: str, people: int, title: str) -> str:
    """Return what is said of comments: by whom, the latest by name, and on what."""
    others = people - 1
    who = actor if not others else f"{actor} and {others} other{'s' if others > 1 else ''}"
    return f"{who} {KINDS[kind].did} “{title}”"

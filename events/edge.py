"""What only the live edge knows: who is connected now, and how many connections a broadcast was handed to.

Whoever knows it registers here; until somebody does, and while they cannot say, it is unknown (None).
"""

from collections.abc import Callable, Collection, Mapping
from uuid import UUID

Connected = Callable[[], set[int] | None]
Delivered = Callable[[Collection[UUID]], Mapping[UUID, int] | None]

_connected: Connected = lambda: None  # noqa: E731  (until somebody registers)
_delivered: Delivered = lambda broadcast_ids: None  # noqa: E731


def register(*, connected: Connected | None = None, delivered: Delivered | None = None) -> None:
    """Have functions answer that can: soon, and without raising, whatever they ask."""
    global _connected, _delivered
    _connected = connected or _connected
    _delivered = delivered or _delivered


def connected() -> set[int] | None:
    """Return the ids of the users who have a stream open now, if that is known."""
    return _connected()


def delivered(broadcast_ids: Collection[UUID]) -> Mapping[UUID, int] | None:
    """Return to how many connections each of some broadcasts was handed, at least, if that is known."""
    return _delivered(broadcast_ids)

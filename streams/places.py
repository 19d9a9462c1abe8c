"""Where a client stood, by what it says of itself, or why the log cannot go on from there."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from events.cursor import Cursor

if TYPE_CHECKING:
    from streams.hub import Hub

EARLIEST = "earliest"


async def find(
    hub: "Hub", last_event_id: str, *, looked: Callable[[Cursor], Awaitable[None]] | None = None
) -> tuple[str | None, int]:
    """Return a position and no reason; or why the log cannot prove continuity from what was named.

    `looked` is called with a place that this process had not come to, once the log was asked for it.
    Raises what says that the log is away. What is returned is so until the caller awaits something.
    """
    if last_event_id == EARLIEST:
        return None, hub.oldest - 1
    try:
        cursor = Cursor.parse(last_event_id)
    except ValueError:
        return "malformed", 0
    if cursor.epoch != hub.epoch or cursor.position > hub.position:
        # Another process may know more than this one does: ask the log before saying no.
        await hub.look()
        if looked is not None:
            await looked(cursor)
    # From here on there is no await: what is decided is still so when the opening says it.
    if cursor.epoch != hub.epoch:
        return "epoch", 0
    if cursor.position > hub.head:
        return "ahead", 0
    if cursor.position < hub.oldest - 1:
        return "pruned", 0
    return None, cursor.position

"""Pages of the log: how placed events are asked for and read back, here and by the live edge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NewType

from events.channels import Channel
from events.registry import current

EventId = NewType("EventId", int)


@dataclass(frozen=True, slots=True)
class Entry:
    """One placed event, as it is read back: in its type's shape of today."""

    position: int
    id: EventId
    type: str
    version: int
    data: str
    channels: tuple[Channel, ...]
    actor_id: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries: all there are above `after` up to and including `covered_to`.

    Where `oldest > after + 1`, something between was pruned: continuity is not proven. The epoch
    began with the head at `began`: positions above it may have been others' in an earlier one.
    """

    epoch: str
    began: int
    head: int
    oldest: int
    after: int
    covered_to: int
    entries: tuple[Entry, ...]


_FOUND = """SELECT position, id, type, version, data, actor_id, channels, parked FROM events_event
    WHERE position > %(after)s ORDER BY position LIMIT %(limit)s"""

# Everything above %(after)s, whatever it is: for publishers and hubs. One statement is one snapshot,
# so the head, the oldest position and the rows belong together. It walks an index, and no plan is left
# to choose: a join by position would, on a guess, read the whole log.
ALL_SQL = f"""
WITH found AS (
    {_FOUND}
), sized AS (
    SELECT f.position, f.id, f.type, f.version, f.data, f.actor_id,
           CASE WHEN f.parked IS NULL THEN f.channels ELSE '{{}}' END AS channels,
           sum(octet_length(f.data)) OVER (ORDER BY f.position) - octet_length(f.data) AS before
    FROM found f
)
SELECT l.epoch, l.began, l.head, l.oldest, (SELECT max(position) FROM found),
       (SELECT count(*) FROM found),
       s.position, s.id, s.type, s.version, s.data, s.channels, s.actor_id
FROM (SELECT * FROM events_logstate ORDER BY id DESC LIMIT 1) l LEFT JOIN sized s ON s.before < %(bytes)s
ORDER BY s.position
"""  # noqa: S608

# The same for some channels. The first LATERAL takes at most a page from each channel's index, so
# a page costs the page and not the channel's history; the other one looks up each event.
CHANNELS_SQL = ALL_SQL.replace(
    _FOUND,
    """SELECT e.* FROM (
        SELECT DISTINCT hit.position FROM unnest(%(channels)s::text[]) AS wanted (channel)
        CROSS JOIN LATERAL (
            SELECT position FROM events_channelposition
            WHERE channel = wanted.channel AND position > %(after)s
            ORDER BY position LIMIT %(limit)s
        ) AS hit
        ORDER BY hit.position LIMIT %(limit)s
    ) AS hit
    CROSS JOIN LATERAL (SELECT * FROM events_event e WHERE e.position = hit.position LIMIT 1) AS e""",
)

# The same for some types, picked from the next %(window)s positions: it walks the same index, and a page
# costs these and not the way to the next event that is wanted.
TYPES_SQL = ALL_SQL.replace(
    _FOUND,
    f"""SELECT * FROM ({_FOUND.replace("%(limit)s", "%(window)s")}) AS seen
    WHERE type = ANY (%(types)s::text[]) ORDER BY position LIMIT %(limit)s""",  # noqa: S608
)
WINDOW = 10_000  # positions: looked through in 2 ms, and a reader is seldom so far behind


def page_of(rows: Sequence[Sequence[Any]], *, after: int, limit: int, window: int | None = None) -> Page:
    """Make a page of the rows that ALL_SQL or CHANNELS_SQL returned, or with a `window` TYPES_SQL."""
    epoch, began, head_, oldest, last_found, found = rows[0][:6]
    entries = tuple(
        Entry(row[6], EventId(row[7]), row[8], *current(*row[8:11]), tuple(row[11]), row[12])
        for row in rows
        if row[6] is not None
    )
    whole = found < limit and (not entries or entries[-1].position == last_found)
    covered_to = max(head_, after) if whole else entries[-1].position
    if whole and window is not None:
        # There the window ends, or later, where positions are missing: below `oldest`, which is moved in the
        # transaction that removes them.
        covered_to = min(covered_to, max(max(after, oldest - 1) + window, last_found or 0))
    return Page(epoch, began, head_, oldest, after, covered_to, entries)

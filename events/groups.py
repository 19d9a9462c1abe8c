"""Groups: what happened for the same reason on the same item is one notification, until somebody looks.

Notifications come in hundreds at a time, so their rows are read and written here, by one statement each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.db import connection

from events import arrays
from events.log import EventId

Place = tuple[int, int, str]  # item, user and kind: there is one open group of each

# Item and user are together found in one index, which holds just what nobody has looked at. OFFSET has each
# looked up in it: for hundreds at once the planner would rather read all that nobody has looked at.
_OPEN_SQL = """
SELECT wanted.item_id, wanted.user_id, n.kind,
       n.id::text, extract(epoch FROM n.since)::bigint, n.actors, n.people, n.count
FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (item_id, user_id)
CROSS JOIN LATERAL (
    SELECT id, event_id, kind, since, actors, people, count FROM events_notification
    WHERE item_id = wanted.item_id AND user_id = wanted.user_id AND NOT read OFFSET 0
) n ORDER BY n.event_id
"""


@dataclass(slots=True)
class Group:
    """One notification: whose doing it is, the latest first, how many they are, and how often they did it.

    `since` is when the first of it happened, in Unix seconds.
    """

    id: str
    since: int
    actors: list[int] = field(default_factory=list)
    people: int = 0
    count: int = 0

    def add(self, actor_id: int, *, keep: int) -> None:
        """Count one time more, by somebody; of those who did it the last so many are kept."""
        self.people += actor_id not in self.actors
        self.actors = [actor_id, *(actor for actor in self.actors if actor != actor_id)][:keep]
        self.count += 1


def open_groups(of: Iterable[tuple[int, int]]) -> dict[Place, Group]:
    """Return the groups that nobody has looked at, of some items and users each."""
    wanted = set(of)
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_OPEN_SQL, [arrays.ids(each) for each in zip(*wanted, strict=True)])
        return {(row[0], row[1], row[2]): Group(*row[3:]) for row in cursor.fetchall()}


_COLUMNS = (
    "event_id", "user_id", "kind", "delivery", "message", "item_id", "comment_id", "job_id", "actor_id",
    "owner_id", "actors", "people", "count", "since", "created_at", "read", "archived",
)  # fmt: skip

# What is raised is not seen yet, whatever there was.
_STORE_SQL = f"""
INSERT INTO events_notification (id, {", ".join(_COLUMNS)})
SELECT notification_id, event_id, user_id, kind, delivery, message, item_id, comment_id, job_id, actor_id,
       owner_id, actors, people, count, to_timestamp(since), to_timestamp("timestamp"), FALSE, FALSE
FROM json_to_recordset(%s::json) AS raised (
    notification_id uuid, event_id bigint, user_id bigint, kind text, delivery text, message text,
    item_id bigint, comment_id uuid, job_id text, actor_id bigint, owner_id bigint, actors bigint[],
    people integer, count integer, since bigint, "timestamp" bigint
)
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{column} = excluded.{column}" for column in _COLUMNS)}
"""  # noqa: S608 (ours)


def store(raised: Sequence[tuple[EventId, str]]) -> None:
    """Write each row anew from the data of its `NotificationRaised` alone; of each notification one."""
    rows = ",".join(f'{{"event_id":{event_id},{data[1:]}' for event_id, data in raised)
    with connection.cursor() as cursor:
        cursor.execute(_STORE_SQL, [f"[{rows}]"])

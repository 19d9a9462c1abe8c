"""The lock under which an inbox changes: whoever changes one does so in turns."""

from collections.abc import Iterable

from django.db import connection

from events import arrays


def lock(user_ids: Iterable[int]) -> None:
    """Have changes of these inboxes take turns, until the transaction's end.

    The order of an inbox's events is so the order in which they changed it. Rows, because a
    reaction may lock more inboxes than the server has room for other locks; sorted, so that two
    who lock several do not wait for each other.
    """
    wanted = arrays.ids(sorted(user_ids))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO events_inbox (user_id, digested_to) SELECT id, 0 FROM unnest(%s::bigint[]) AS id"
            " WHERE NOT EXISTS (SELECT FROM events_inbox WHERE user_id = id)"
            " ORDER BY id ON CONFLICT DO NOTHING",
            [wanted],
        )
        cursor.execute(
            "SELECT user_id FROM events_inbox WHERE user_id = ANY (%s) ORDER BY user_id FOR UPDATE", [wanted]
        )

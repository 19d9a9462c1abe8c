"""What the fields of events are called: one word an idea, with what it means and an example.

Where a type's field says nothing of its own (`Field(description=…, examples=[…])`), the catalogue
takes the meaning from here. So the same name means the same in every type, and looks the same.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Word(NamedTuple):
    """What a field of this name means, and what may stand in it."""

    about: str
    example: Any


_JOB = "5b6f2a34-0c1d-4e5f-8a9b-1c2d3e4f5a6b"

VOCABULARY: Mapping[str, Word] = {
    # Who and what: ids are strings.
    "user_id": Word("The id of the user whom it concerns", "7"),
    "actor_id": Word("The id of the user whose doing it is", "8"),
    "owner_id": Word("The id of the item's owner", "7"),
    "author_id": Word("The id of the user who wrote it", "8"),
    "author_name": Word("The author's user name, as it was then", "bob"),
    "item_id": Word("The item's id", "42"),
    "comment_id": Word("The comment's id", "0d9f4c1e-7a52-4f3b-9c55-2f6f0c0a1b2c"),
    "reply_to": Word("The id of the comment that it answers", None),
    "notification_id": Word("The notification's id", "9e107d9d-372b-4c81-a7d1-5f3a1c2b4d5e"),
    "notification_ids": Word("The notifications' ids", ["9e107d9d-372b-4c81-a7d1-5f3a1c2b4d5e"]),
    "broadcast_id": Word("The broadcast's id", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
    "broadcast_ids": Word("The broadcasts' ids", ["3f2504e0-4f89-41d3-9a0c-0305e82c3301"]),
    "job_id": Word("The job's id", _JOB),
    "correlation_id": Word(
        "What the mail server's log calls the mail by", "c0ffee00-1234-4abc-8def-0123456789ab"
    ),
    # What was said.
    "title": Word("The title", "A first item"),
    "text": Word("The text, exactly as it was sent", "Hello"),
    "new_text": Word("The text from now on, exactly as it was sent", "Hello, world"),
    "message": Word("What to show", "bob commented on “A first item”"),
    "link": Word("Where to read more", "https://example.org/maintenance"),
    "severity": Word("How much it matters", "warning"),
    "visibility": Word("Who may read the item: `public` or `members`", "public"),
    "audience": Word("The addresses that it is for", ["system"]),
    "kind": Word("What it is about: `mention`, `reply`, `comment`, `watch` or `job`", "comment"),
    "delivery": Word("Whether to show it at once (`live`) or leave it in the inbox", "live"),
    "actors": Word("The ids of those whose doing it is, the latest first", ["8"]),
    "people": Word("How many people's doing it is", 1),
    "count": Word("How many times it happened", 1),
    "sent_to": Word("The address that it was mailed to", "alice@example.org"),
    "email_type": Word("Which mail it is", "digest"),
    "types": Word("How to be told, by kind of notification", {"watch": "digest"}),
    "quiet_start": Word("When quiet hours begin, as `HH:MM`", "22:00"),
    "quiet_end": Word("When quiet hours end, as `HH:MM`", "07:00"),
    "time_zone": Word("The time zone that the hours are meant in", "Europe/Rome"),
    "presence": Word("Whether others are shown what one has open: `shown` or `hidden`", "shown"),
    # Of jobs.
    "task_type": Word("Which job it is", "export"),
    "params": Word("What the job was asked with", {}),
    "attempt": Word("Which attempt it is, from 1", 1),
    "done": Word("How much is done", 3),
    "total": Word("How much there is to do, where that is known", 10),
    "state": Word("`queued`, `running`, `complete`, `failed` or `cancelled`", "running"),
    "progress": Word("How far it is: `done`, `total` and `message`", {"done": 3, "total": 10, "message": ""}),
    "stopping": Word("Whether it was asked to stop, and has not yet", False),
    "result": Word("What the job returned", {"rows": 10}),
    "error": Word("What went wrong", "The disk is full."),
    "error_type": Word("The kind of error", "OSError"),
    "duration_ms": Word("How long it took, in milliseconds", 1234),
    "event": Word("What the job's code calls it", None),
    "data": Word("What the job's code sent", {"page": 1}),
    # When: in Unix seconds.
    "timestamp": Word("When it happened, in Unix seconds", 1_700_000_000),
    "since": Word("When the first of it happened, in Unix seconds", 1_700_000_000),
    "edited_at": Word("When it was changed, in Unix seconds", 1_700_000_060),
    "recalled_at": Word("When it was taken back, in Unix seconds", 1_700_000_600),
    "starts_at": Word("From when on to show it, in Unix seconds", 1_700_000_000),
    "expires_at": Word("Until when to show it, in Unix seconds; null: until it is recalled", 1_700_003_600),
    "retry_at": Word("When it is tried again, in Unix seconds", 1_700_000_030),
    # What the log says of itself.
    "oldest": Word("The first position that is kept", 1_001),
    "upto": Word("The last position that it is about", 1_000),
    "events": Word("How many events", 12),
    "erased_by": Word("Who did it", "admin"),
    "channel": Word("The channel", "item:42"),
    "session": Word("A digest of the session", None),
    "reason": Word("Why", "logged out"),
}

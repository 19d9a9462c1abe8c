"""Promise 1: an event and the change that it records are one transaction."""

import time

import pytest
from django.db import transaction

from events import comments, items, log
from events.models import Comment, Event
from tests.faults.people import at_best, both, new_item, noted, notes, on_both
from tests.faults.wire import append


def test_promise_1_a_rolled_back_append_is_never_seen(rough):
    alice = both(rough, "alice")
    channel = f"item:{new_item(alice['daphne'])}"
    path = f"/streams/?channel={channel}"

    with on_both(rough, alice, path) as live, rough.connect() as doomed, rough.connect() as sound:
        with doomed.transaction(force_rollback=True):
            append(doomed, channel, data={"n": "undone"})
            append(sound, channel, data={"n": "beside it"})
            seen = {name: stream.until(noted("beside it")) for name, stream in live.items()}
        append(sound, channel, data={"n": "after it"})
        for name, stream in live.items():
            seen[name] += stream.until(noted("after it"))

    with on_both(rough, alice, path, last_event_id="earliest") as replays:
        replayed = {name: stream.until(noted("after it")) for name, stream in replays.items()}
    for got in (*seen.values(), *replayed.values()):
        assert notes(got) == ["beside it", "after it"]


def test_promise_1_a_change_that_fails_leaves_no_event(users):
    item = items.create_item(users.alice, title="A thing")
    before = Event.objects.count()
    head = log.place().head

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        comments.add_comment(users.alice, item.pk, text="never")
        assert Event.objects.count() == before + 1
        raise ZeroDivisionError

    log.place()
    assert Event.objects.count() == before
    assert log.head().position == head
    assert not Comment.objects.exists()


def test_promise_1_an_append_outside_of_a_transaction_is_refused(users):
    event = comments.CommentDeleted(comment_id="1", item_id="1")

    with pytest.raises(transaction.TransactionManagementError):
        log.append(event, channels=["item:1"])


def test_promise_1_what_was_committed_arrives_though_nobody_was_told(rough):
    # As after a crash of the web process between its commit and its hint.
    alice = both(rough, "alice")
    channel = f"item:{new_item(alice['daphne'])}"

    with on_both(rough, alice, f"/streams/?channel={channel}") as live, rough.connect() as connection:

        def took() -> float:
            """How long it is until both have what was committed."""
            began = time.monotonic()
            append(connection, channel, data={"n": began})  # another each time
            for stream in live.values():
                stream.until(noted(began))
            return time.monotonic() - began

        assert at_best(took, lambda found: found < 2) < 2

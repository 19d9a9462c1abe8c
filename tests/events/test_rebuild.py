"""Rebuildable: the comments dropped and folded from the log again are the same rows."""

import random
from concurrent.futures import TimeoutError as NotYet
from datetime import UTC, datetime

import pytest
from django.db import transaction

from events import comments, items, log, readmodels
from events.models import Comment
from tests.events.support import until_someone_waits


def rebuild():
    return readmodels.rebuild(readmodels.registered()["comments"])


def rows():
    return list(Comment.objects.order_by("event_id").values())


def live_a_while(users, steps=120):
    """Add, edit and delete at random, over a few items of which some go."""
    chance = random.Random(7)
    people = [users.alice, users.bob, users.carol]
    shown = [items.create_item(users.alice, title=f"Item {n}") for n in range(4)]
    for step in range(steps):
        item, person = chance.choice(shown), chance.choice(people)
        own = Comment.objects.filter(author_id=person.pk).order_by("?").first()
        match chance.choice(["add", "add", "add", "edit", "edit", "delete"]):
            case "edit" if own:
                comments.edit_comment(person, own.pk, text=f"edited {step}")
            case "delete" if own:
                comments.delete_comment(person, own.pk)
            case _:
                comments.add_comment(person, item.pk, text=f"text {step}\r\n\u2028")
        if step == steps // 2:
            items.delete_item(users.alice, shown.pop().pk)


def test_a_rebuild_makes_the_same_rows(users):
    live_a_while(users)
    before = rows()
    assert len(before) > 10
    assert any(row["edited_at"] for row in before)
    Comment.objects.all().delete()

    assert rebuild() == readmodels.Rebuilt(rows=len(before), removed=0, added=len(before))
    assert rows() == before


def test_a_rebuild_repairs_rows_that_were_tampered_with(users, comment):
    before = rows()
    Comment.objects.update(text="tampered", edited_at=datetime.now(UTC))

    rebuild()

    assert rows() == before


def test_a_rebuild_outlives_the_authors(users, comment):
    before = rows()
    users.bob.delete()
    Comment.objects.all().delete()

    rebuild()

    assert rows() == before


def test_a_rebuild_of_a_pruned_log_keeps_the_rows_older_than_it(users, item):
    old = comments.add_comment(users.bob, item.pk, text="old")
    log.place()
    log.prune(log.head().position)
    new = comments.add_comment(users.bob, item.pk, text="new")
    comments.edit_comment(users.bob, old.pk, text="old, edited")
    before = rows()

    rebuild()

    assert rows() == before
    assert {row["id"] for row in before} == {old.pk, new.pk}


def test_a_rebuild_waits_for_a_comment_being_made(users, item, held, background):
    with held(lambda: comments.add_comment(users.bob, item.pk, text="just now")):
        rebuilding = background(rebuild)
        until_someone_waits()
        with pytest.raises(NotYet):
            rebuilding.result(0)
    rebuilding.result(20)

    assert [row["text"] for row in rows()] == ["just now"]


def test_a_comment_made_during_a_rebuild_is_there_once(users, comment, held, background):
    with held(rebuild):
        adding = background(lambda: comments.add_comment(users.bob, comment.item_id, text="meanwhile"))
        until_someone_waits()
    adding.result(20)

    assert [row["text"] for row in rows()] == ["First!", "meanwhile"]


def test_a_rebuild_rolled_back_changes_nothing(users, comment):
    before = rows()
    with transaction.atomic():
        Comment.objects.update(text="tampered")
        rebuild()
        transaction.set_rollback(True)

    assert rows() == before

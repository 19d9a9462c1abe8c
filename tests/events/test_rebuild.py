"""Rebuildable: the comments dropped and folded from the log again are the same rows."""

import dataclasses
import random
import threading
import time
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from events import (
    broadcasts,
    comments,
    items,
    jobs,
    log,
    marks,
    notifications,
    preferences,
    readmodels,
    registry,
    runs,
    watching,
)
from events.channels import Channel, user_channel
from events.drafts import Draft
from events.models import Comment, Event, Notification
from events.runs import Failure
from tests.events.support import until_someone_waits
from tests.inbox import react


def rebuild():
    return readmodels.rebuild(readmodels.registered()["comments"])


def rows():
    return list(Comment.objects.order_by("event_id").values())


def live_a_while(users, steps=120):
    """Comment, watch, be told and look at random, over a few items of which some go."""
    chance = random.Random(7)
    people = [users.alice, users.bob, users.carol]
    shown = [items.create_item(users.alice, title=f"Item {n}") for n in range(4)]
    for step in range(steps):
        item, person = chance.choice(shown), chance.choice(people)
        # On these items alone: two who live at once must not pull the rug from under each other.
        own = Comment.objects.filter(author_id=person.pk, item__in=shown).order_by("?").first()
        match chance.choice(["add"] * 5 + ["edit", "edit", "delete"] + ["attend"] * 4):
            case "edit" if own:
                comments.edit_comment(person, own.pk, text=f"{person.get_username()} edited {step}")
            case "delete" if own:
                comments.delete_comment(person, own.pk)
            case "attend":
                attend(person, item, chance)
            case _:
                comments.add_comment(person, item.pk, text=f"{person.get_username()} {step}\r\n\u2028")
        if step % 10 == 9:
            react()
        if step % 6 == 0:
            live_a_job(person, chance)
            hear_an_admin(users.admin, person, chance)
        if step == steps // 2:
            items.delete_item(users.alice, shown.pop().pk)


def attend(person, item, chance):
    """Decide what to be told of, or do something about what one was told."""
    told = Notification.objects.filter(user_id=person.pk).order_by("?").first()
    match chance.choice(["watch", "look", "look", "choose"]):
        case "watch":
            decide = (watching.watch, watching.unwatch, watching.mute, watching.unmute)
            chance.choice(decide)(person, item.pk)
        case "look" if told:
            look = (notifications.mark_read, notifications.mark_unread, notifications.archive)
            chance.choice(look)(person, told.pk)
        case "look":
            notifications.read_all(person)
            for standing in marks.page(person, limit=1, before=None, unread=False, archived=False):
                notifications.mark_unread(person, standing.broadcast.pk)
        case "choose":
            way = chance.choice(["live", "digest"])
            preferences.change(person, types={chance.choice(["comment", "watch"]): way})


def live_a_job(person, chance):
    """Have a job come to one of its ends, or be on the way there."""
    job = jobs.queue(person, name="slow", params={"steps": 3})
    held = runs.claim(job.pk, task_id="t")
    match chance.choice(["run", "retry", "complete", "fail", "stop"]):
        case "retry":
            runs.fail(held, Failure("Not yet.", "OSError", retry_seconds=1))
        case "complete":
            runs.complete(held, {"rows": 1.5, "text": "\u2028"})
        case "fail":
            runs.fail(held, Failure("It broke.", "ValueError"))
        case "stop":
            jobs.cancel(person, job.pk)
            runs.stopped(held)


def hear_an_admin(admin, person, chance):
    """Have a broadcast come to one of its ends, or be on the way there."""
    soon = timezone.now().replace(microsecond=0) + timedelta(hours=1)
    draft = Draft(message=f"Hear {chance.random()}", audience=("system",), link="https://example.org/")
    match chance.choice(["plan", "change", "edit", "dismiss", "recall", "recall a plan"]):
        case "plan":
            broadcasts.send(admin, replace(draft, starts_at=soon, expires_at=soon + timedelta(hours=1)))
        case "change":
            planned = broadcasts.send(admin, replace(draft, starts_at=soon))
            broadcasts.change(admin, planned.pk, audience=(f"user:{person.pk}",), starts_at=None)
        case "edit":
            broadcasts.change(admin, broadcasts.send(admin, draft).pk, title="Hear", severity="critical")
        case "dismiss":
            marks.dismiss(person, broadcasts.send(admin, draft).pk)
        case "recall":
            broadcasts.recall(admin, broadcasts.send(admin, draft).pk)
        case "recall a plan":
            broadcasts.recall(admin, broadcasts.send(admin, replace(draft, starts_at=soon)).pk)


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


def test_a_rebuild_that_waits_keeps_nobody_from_commenting(users, comment, held, background):
    """One comment waits for its item, which is held for long; the rebuild waits for it, and nobody else."""
    other = items.create_item(users.alice, title="Another")
    with held(lambda: items.lock(comment.item_id)):
        waits = background(lambda: comments.add_comment(users.bob, comment.item_id, text="behind it"))
        until_someone_waits()
        rebuilding = background(rebuild)
        until_waiting_for_a_table()
        background(lambda: comments.add_comment(users.bob, other.pk, text="elsewhere")).result(10)
        with pytest.raises(NotYet):
            rebuilding.result(0)
    waits.result(20)
    rebuilding.result(20)

    assert {row["text"] for row in rows()} == {"First!", "behind it", "elsewhere"}


def until_waiting_for_a_table():
    """Return once somebody waits for a table's lock."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND NOT granted")
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits for a table")


def test_a_rebuild_rolled_back_changes_nothing(users, comment):
    before = rows()
    with transaction.atomic():
        Comment.objects.update(text="tampered")
        rebuild()
        transaction.set_rollback(True)

    assert rows() == before


# --- Every read model there is ---------------------------------------------------------------

EVERY = sorted(readmodels.registered())


def rows_of(model):
    return list(model.table._default_manager.order_by(model.born_of).values())


@pytest.fixture(params=EVERY)
def model(request):
    return readmodels.registered()[request.param]


def test_every_read_model_comes_out_the_same(users, model):
    live_a_while(users)
    log.place()
    before = rows_of(model)
    assert before, "a read model that this life leaves empty needs a life of its own"

    assert readmodels.rebuild(model) == readmodels.Rebuilt(rows=len(before), removed=0, added=0)
    model.table._default_manager.all().delete()
    readmodels.rebuild(model)

    assert rows_of(model) == before


def test_every_read_model_comes_out_the_same_after_half_the_log_was_pruned(users, model):
    live_a_while(users)
    log.place()
    head = log.head()
    oldest = log.read(0).oldest
    log.prune((oldest + head.position) // 2)
    before = rows_of(model)

    assert readmodels.rebuild(model) == readmodels.Rebuilt(rows=len(before), removed=0, added=0)
    assert rows_of(model) == before


def test_every_read_model_comes_out_the_same_while_people_write(users, model, background):
    live_a_while(users, steps=60)
    stop = threading.Event()

    def write():
        rounds = 0
        while not stop.is_set():
            live_a_while(users, steps=12)
            log.place()
            rounds += 1
        return rounds

    writing = [background(write) for _ in range(2)]
    try:
        for _ in range(4):
            readmodels.rebuild(model)
    finally:
        stop.set()
    assert all(each.result(30) for each in writing)
    before = rows_of(model)

    again = readmodels.rebuild(model)

    assert (again.removed, again.added) == (0, 0)
    assert rows_of(model) == before


def test_rows_whose_event_was_pruned_stay_although_an_older_id_is_still_there(users, item, held):
    """Positions are given in the order of commits: the oldest event kept need not have the lowest id."""
    with held(lambda: items.create_item(users.bob, title="began first, committed last")):
        comments.add_comment(users.bob, item.pk, text="pruned")
        log.place()
        upto = log.head().position
    log.place()
    log.prune(upto)
    before = rows()
    assert [row["text"] for row in before] == ["pruned"]

    rebuild()

    assert rows() == before


def test_a_row_that_the_last_events_make_anew_takes_the_place_of_the_one_there(users, comment, held):
    log.place()
    react()
    model = readmodels.registered()["notifications"]
    told = Event.objects.get(type="NotificationRaised", channels=[user_channel(users.alice.pk)])
    again = registry.decode(told.type, told.version, told.data)

    def raise_again():
        return log.append(again, channels=[Channel(name) for name in told.channels])

    with held(raise_again):  # began first, and has no place yet when the rebuild compares
        with transaction.atomic():
            model.fold(again, raise_again())
        log.place()
    before = rows_of(model)

    assert readmodels.rebuild(model) == readmodels.Rebuilt(rows=len(before), removed=1, added=1)
    assert {row["id"] for row in rows_of(model)} == {row["id"] for row in before}


def test_who_writes_waits_only_for_the_last_moment(users, comment, monkeypatch, background):
    model = readmodels.registered()["comments"]
    folding, go_on = threading.Event(), threading.Event()
    log.place()

    def slowly(event, event_id):
        folding.set()
        assert go_on.wait(20)
        model.fold(event, event_id)

    rebuilding = background(lambda: readmodels.rebuild(dataclasses.replace(model, fold=slowly)))
    assert folding.wait(20)
    try:
        comments.add_comment(users.bob, comment.item_id, text="meanwhile")
        comments.edit_comment(users.bob, comment.pk, text="First, edited")
        assert [row["text"] for row in rows()] == ["First, edited", "meanwhile"], "who reads does not wait"
    finally:
        go_on.set()
    assert rebuilding.result(20) == readmodels.Rebuilt(rows=2, removed=0, added=0)

    assert [row["text"] for row in rows()] == ["First, edited", "meanwhile"]


def test_only_rows_that_are_wrong_are_written(users, comment):
    comments.add_comment(users.bob, comment.item_id, text="right")
    Comment.objects.filter(pk=comment.pk).update(text="tampered")
    with connection.cursor() as cursor:
        cursor.execute("SELECT ctid::text FROM events_comment WHERE text = 'right'")
        place = cursor.fetchone()

        assert rebuild() == readmodels.Rebuilt(rows=2, removed=1, added=1)

        cursor.execute("SELECT ctid::text FROM events_comment WHERE text = 'right'")
        assert cursor.fetchone() == place


def test_a_rebuild_that_fails_leaves_the_rows_and_no_table(users, comment):
    before = rows()

    def broken(event, event_id):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        readmodels.rebuild(dataclasses.replace(readmodels.registered()["comments"], fold=broken))

    assert rows() == before
    rebuild()


# --- The command -------------------------------------------------------------------------------


def run(*names):
    out = StringIO()
    call_command("rebuild", *names, stdout=out)
    return out.getvalue()


def test_the_command_lists_the_read_models(database):
    assert run().split() == list(readmodels.registered())


def test_the_command_rebuilds_and_says_what_it_changed(users, comment):
    Comment.objects.update(text="tampered")

    assert "1 rows, 1 removed, 1 added." in run("comments")
    assert [row["text"] for row in rows()] == ["First!"]


def test_the_command_refuses_a_name_it_does_not_know_before_it_does_anything(users, comment):
    Comment.objects.update(text="tampered")

    with pytest.raises(
        CommandError, match=r"There is no read model 'coments'; there is: .*comments"
    ) as refused:
        run("comments", "coments")

    assert refused.value.returncode == 2
    assert Comment.objects.get().text == "tampered"

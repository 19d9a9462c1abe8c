"""Erasure: what a person wrote and is called by is gone; places, and others' words, stay."""

import contextlib
import dataclasses
import json
import threading
from io import StringIO
from itertools import pairwise
from types import SimpleNamespace
from typing import ClassVar

import psycopg
import pytest
from django.conf import settings as django_settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client

from events import comments, erasure, items, log, readmodels, registry
from events.channels import LOG, TRACE, Channel
from events.erasure import ERASED
from events.models import Comment, IdempotencyKey, Item
from events.registry import ACTOR, EventType
from tests.events.support import code_of, events_on, until_someone_waits
from tests.events.test_rebuild import live_a_while
from tests.inbox import react
from tests.stack import eventually

SECRET = "Zanzibar"  # in everything that bob writes, and in his name: nowhere afterwards


class Quoted(EventType):
    """A test's event on somebody's channel quotes another, or two."""

    personal: ClassVar = {"message": ("by_id", "other_id"), "note": ACTOR, "sent_to": "to_id"}

    message: str
    note: str | None = None
    sent_to: str = ""
    by_id: str
    other_id: str = ""
    to_id: str = ""
    count: int = 0


@pytest.fixture
def world(users):
    """Bob, who wrote something everywhere, among others."""
    bob = users.bob
    User.objects.filter(pk=bob.pk).update(
        username=f"bob-{SECRET}", email=f"{SECRET}@example.com", first_name=SECRET, last_name=SECRET
    )
    bob.refresh_from_db()
    bob.groups.add(Group.objects.create(name="editors"))
    item = items.create_item(users.alice, title="Alice's")
    own = items.create_item(bob, title=f"Bob's {SECRET}")
    items.change_item(bob, own.pk, title=f"Bob's other {SECRET}")
    items.add_member(users.alice, item.pk, member_id=bob.pk)
    first = comments.add_comment(bob, item.pk, text=f"added {SECRET} \u2028 ä 😀")
    comments.edit_comment(bob, first.pk, text=f"edited {SECRET}")
    gone = comments.add_comment(bob, item.pk, text=f"deleted {SECRET}")
    comments.delete_comment(bob, gone.pk)
    other = comments.add_comment(users.alice, own.pk, text="Alice's words")
    return SimpleNamespace(bob=bob, alice=users.alice, item=item, own=own, first=first, other=other)


def tables():
    """Yield each table of the database and all its rows as text."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            yield table, "\n".join(row[0] for row in cursor.fetchall())


def where_secret_is():
    return [table for table, text in tables() if SECRET in text]


def entries():
    log.place()
    return {entry.position: entry for entry in log.read(0, limit=5000, max_bytes=10**9).entries}


def erase(user, **more):
    return erasure.erase_user(user, by="test", **more)


def erase_command(*arguments):
    out = StringIO()
    call_command("erase_user", *arguments, "--no-vacuum", stdout=out)
    return out.getvalue()


def test_nothing_of_theirs_is_in_any_table_afterwards(world):
    assert {"events_event", "events_comment", "events_item", "auth_user"} <= set(where_secret_is())

    erased = erase(world.bob)

    assert where_secret_is() == []
    assert erased.whole
    assert erased.events == 5, "two titles, two comments, one edit"
    assert erased.rows["comments"] == 1
    assert erased.rows["items"] == 1


def test_positions_types_and_everyone_elses_bytes_stay(world):
    before = entries()

    erase(world.bob)

    after = entries()
    for position, entry in before.items():
        now = after[position]
        if SECRET not in entry.data:
            assert now == entry
            continue
        assert (now.id, now.type, now.channels, now.actor_id) == (
            entry.id,
            entry.type,
            entry.channels,
            entry.actor_id,
        )
        was, is_ = json.loads(entry.data), json.loads(now.data)
        changed = {name for name in was if was[name] != is_[name]}
        assert changed
        assert changed <= dict(registry.types()[entry.type].personal_fields()).keys()
        assert all(is_[name] == ERASED for name in changed)
        assert list(was) == list(is_), "in the same order"


def test_replaced_payloads_are_valid_and_canonical(world):
    erase(world.bob)
    for entry in entries().values():
        event = registry.decode(entry.type, entry.version, entry.data)
        if entry.type in {"CommentAdded", "CommentUpdated", "ItemCreated", "ItemChanged"}:
            assert registry.encode(event.model_dump(mode="json")) == entry.data


def test_others_words_stay(world):
    erase(world.bob)
    assert Comment.objects.get(pk=world.other.pk).text == "Alice's words"
    assert Item.objects.get(pk=world.item.pk).title == "Alice's"


def test_the_comment_stays_in_its_place_without_words_and_name(world):
    erase(world.bob)
    comment = Comment.objects.get(pk=world.first.pk)
    assert (comment.text, comment.author_name, comment.author_id) == (ERASED, ERASED, world.bob.pk)


@pytest.mark.parametrize("name", sorted(readmodels.registered()))
def test_a_read_model_is_as_a_rebuild_would_make_it(world, name):
    erase(world.bob)
    rebuilt = readmodels.rebuild(readmodels.registered()[name])
    assert (rebuilt.removed, rebuilt.added) == (0, 0)
    assert where_secret_is() == []


def test_of_a_whole_life_no_read_model_keeps_anything_and_none_is_empty(users):
    """Found by the registry: a read model that comes later is asked as well."""
    User.objects.filter(pk=users.bob.pk).update(username=f"bob-{SECRET}")
    users.bob.refresh_from_db()
    live_a_while(users)
    react()
    assert {"events_event", "events_comment", "events_notification"} <= set(where_secret_is())

    erase(users.bob)

    assert where_secret_is() == []
    for model in readmodels.registered().values():
        rebuilt = readmodels.rebuild(model)
        assert (rebuilt.rows > 0, rebuilt.removed, rebuilt.added) == (True, 0, 0), model.name
    assert where_secret_is() == []


def test_rows_whose_events_were_pruned_are_erased_too(world):
    log.place()
    log.prune(log.head().position)
    erase(world.bob)
    assert where_secret_is() == []


def test_a_type_says_whose_a_field_is(world):
    alice, bob = str(world.alice.pk), str(world.bob.pk)
    given = [
        (Quoted(message="1", by_id=bob), None),
        (Quoted(message="2", by_id=alice, other_id=bob), None),
        (Quoted(message="3", by_id=alice, note="n"), world.bob.pk),
        (Quoted(message="4", by_id=alice, note=None), world.bob.pk),
        (Quoted(message="5", by_id=alice, sent_to="a", to_id=bob, count=7), world.alice.pk),
        (Quoted(message="6", by_id=bob + "0", note="n", sent_to="a", to_id=alice), world.alice.pk),
    ]
    with transaction.atomic():
        for event, actor_id in given:
            log.append(event, channels=[Channel(f"user:{alice}")], actor_id=actor_id)

    erase(world.bob)

    found = [Quoted.model_validate_json(e.data) for e in entries().values() if e.type == "Quoted"]
    assert [(e.message, e.note, e.sent_to, e.count) for e in found] == [
        (ERASED, None, "", 0),
        (ERASED, None, "", 0),
        ("3", ERASED, "", 0),
        ("4", None, "", 0),
        ("5", None, ERASED, 7),
        ("6", "n", "a", 0),
    ]


def declare(**attributes):
    return type("Declared", (EventType,), {"__module__": __name__, **attributes})


@pytest.mark.parametrize(
    ("annotations", "personal"),
    [
        ({"text": str}, {"texts": ACTOR}),
        ({"count": int}, {"count": ACTOR}),
        ({"text": str}, {"text": "author_id"}),
        ({"text": str, "author_id": str}, {"text": ("author_id", "editor_id")}),
    ],
)
def test_a_declaration_that_could_not_be_kept_is_refused(annotations, personal):
    with pytest.raises(TypeError, match="personal"):
        declare(__annotations__=annotations, personal=personal)


def test_the_trace_says_who_when_and_how_many_and_nothing_personal(world):
    erased = erase(world.bob, actor_id=world.alice.pk)

    [(_, trace)] = [said for said in events_on(TRACE) if said[0] == "UserErased"]
    assert trace["user_id"] == str(world.bob.pk)
    assert trace["erased_by"] == "test"
    assert trace["events"] == erased.events
    assert trace["timestamp"] > 1_700_000_000
    last = max(p for p, e in entries().items() if ERASED in e.data)
    assert [said for name, said in events_on(LOG) if name == "LogErased"] == [
        {"upto": last, "events": erased.events}
    ]


def test_the_account_is_closed_and_nameless(world):
    session = Client()
    session.force_login(world.bob)
    elsewhere = Client()
    elsewhere.force_login(world.alice)
    IdempotencyKey.objects.create(user_id=world.bob.pk, key="k", digest=b"", body={"text": SECRET})
    LogEntry.objects.create(
        user=world.alice,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(world.bob.pk),
        object_repr=str(world.bob),
        action_flag=CHANGE,
        change_message=SECRET,
    )

    erase(world.bob)

    bob = User.objects.get(pk=world.bob.pk)
    assert (bob.username, bob.email, bob.first_name, bob.last_name) == (f"erased-{bob.pk}", "", "", "")
    assert (bob.is_active, bob.is_staff, bob.is_superuser, bob.last_login) == (False, False, False, None)
    assert not bob.has_usable_password()
    assert not bob.groups.exists()
    assert [s.get_decoded()["_auth_user_id"] for s in Session.objects.all()] == [str(world.alice.pk)]
    assert session.get("/api/items").status_code == 401
    assert elsewhere.get("/api/items").status_code == 200
    assert where_secret_is() == []


def test_a_name_that_somebody_took_is_not_taken_again(world):
    User.objects.create_user(f"erased-{world.bob.pk}")
    erase(world.bob)
    assert User.objects.get(pk=world.bob.pk).username.startswith(f"erased-{world.bob.pk}-")


def test_erasing_again_finds_nothing_and_harms_nothing(world):
    erase(world.bob)
    before, name = entries(), User.objects.get(pk=world.bob.pk).username

    again = erase(world.bob)

    assert again.events == 0
    assert set(again.rows.values()) == {0}
    assert User.objects.get(pk=world.bob.pk).username == name
    after = entries()
    assert [after[position] for position in before] == list(before.values())


def test_what_is_not_placed_yet_is_erased_too(world):
    log.place()
    comments.add_comment(world.bob, world.item.pk, text=f"unplaced {SECRET}")
    erase(world.bob)
    assert where_secret_is() == []


def test_what_is_being_written_is_waited_for(world, held, background):
    with held(lambda: comments.add_comment(world.bob, world.item.pk, text=f"late {SECRET}")):
        erasing = background(lambda: erase(world.bob))
        while User.objects.get(pk=world.bob.pk).is_active:
            pass
        assert not erasing.done()
    assert erasing.result(20).whole
    assert where_secret_is() == []


def test_what_takes_too_long_to_be_written_is_said_so(world, held, background, monkeypatch):
    with (
        monkeypatch.context() as patched,
        held(lambda: comments.add_comment(world.bob, world.item.pk, text=f"late {SECRET}")),
    ):
        patched.setattr(erasure, "WAIT_SECONDS", 0.2)
        assert not background(lambda: erase(world.bob)).result(20).whole
    assert where_secret_is() != []
    assert erase(world.bob).whole
    assert where_secret_is() == []


def test_a_rebuild_under_way_does_not_bring_it_back(world, held, background):
    log.place()
    with held(lambda: readmodels.rebuild(readmodels.registered()["comments"])):
        erasing = background(lambda: erase(world.bob))
        until_someone_waits()
    erasing.result(20)
    assert where_secret_is() == []


def test_a_rebuild_between_the_log_and_the_rows_does_not_bring_it_back(world, background, monkeypatch):
    """Rows whose events were pruned are taken over as they are: not while they are being erased."""
    log.place()
    log.prune(log.head().position)
    comments.add_comment(world.alice, world.item.pk, text="something to fold")
    log.place()
    monkeypatch.setattr(erasure, "_erase_log", lambda user_id: iter(()))
    monkeypatch.setattr(erasure, "WAIT_SECONDS", 0)
    model = readmodels.registered()["comments"]
    folding, go_on = threading.Event(), threading.Event()

    def slowly(event, event_id):
        folding.set()
        assert go_on.wait(20)
        model.fold(event, event_id)

    rebuilding = background(lambda: readmodels.rebuild(dataclasses.replace(model, fold=slowly)))
    assert folding.wait(20)
    erasing = background(lambda: erase(world.bob))
    with contextlib.suppress(TimeoutError):
        erasing.result(2)  # it waits, or has gone ahead
    go_on.set()
    rebuilding.result(20)
    erasing.result(20)

    assert "events_comment" not in where_secret_is()


def test_it_goes_in_batches_that_hold_nothing(world, monkeypatch):
    monkeypatch.setattr(erasure, "BATCH", 3)
    log.place()
    seen = []

    def progress(position, head):
        seen.append(position)
        with psycopg.connect(django_settings.DATABASE_URL, autocommit=True) as other:
            other.execute("SET lock_timeout = '2s'")
            other.execute("SELECT tickertape_take_turns(), tickertape_place(10)")

    erase(world.bob, progress=progress)

    assert len(seen) > 3
    assert {b - a for a, b in pairwise(seen)} <= {1, 2, 3}
    assert where_secret_is() == []


# --- What the database allows --------------------------------------------------------------------


@pytest.mark.parametrize("guard", ["retention", "erasure"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events_event SET position = position + 1000",
        "UPDATE events_event SET channels = '{item:9}'",
        "UPDATE events_event SET type = 'Other'",
        "UPDATE events_event SET data = '{}', actor_id = 9",
        "UPDATE events_channelposition SET channel = 'item:9'",
        "INSERT INTO events_event (type, data, version, channels, position) VALUES ('X', '{}', 1, '{}', 9)",
    ],
)
def test_neither_way_out_of_the_log_allows_more(world, guard, statement):
    log.place()
    with (
        psycopg.connect(django_settings.DATABASE_URL) as other,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        other.execute(f"SET tickertape.{guard} = 'on'")
        other.execute(statement)


@pytest.mark.parametrize(
    ("guard", "statement"),
    [
        ("erasure", "DELETE FROM events_event"),
        ("erasure", "TRUNCATE events_event"),
        ("erasure", "DELETE FROM events_channelposition"),
        ("retention", "UPDATE events_event SET data = '{}'"),
    ],
)
def test_one_way_out_does_not_open_the_other(world, guard, statement):
    log.place()
    with (
        psycopg.connect(django_settings.DATABASE_URL) as other,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        other.execute(f"SET tickertape.{guard} = 'on'")
        other.execute(statement)


def test_the_guard_is_shut_again_in_the_same_transaction(world):
    log.place()
    with psycopg.connect(django_settings.DATABASE_URL) as other:
        other.execute("SELECT tickertape_erase('1', '[]', 'x', 0, 10)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("UPDATE events_event SET data = '{}'")


# --- The command -------------------------------------------------------------------------------


def typed(monkeypatch, text):
    def answer(prompt=""):
        if text is None:
            raise EOFError
        return text

    monkeypatch.setattr("builtins.input", answer)


def test_the_command_erases_by_name_and_says_how_much(world):
    said = erase_command(world.bob.username, "--yes")
    assert f"Erased user {world.bob.pk}: 5 events; " in said
    assert "1 comments" in said
    assert "1 items" in said
    assert where_secret_is() == []


def test_the_command_erases_by_id_and_names_who_did_it(world):
    erase_command(str(world.bob.pk), "--yes", "--by", "alice")
    [(_, trace)] = [said for said in events_on(TRACE) if said[0] == "UserErased"]
    assert trace["erased_by"] == "alice"
    [entry] = [e for e in entries().values() if e.type == "UserErased"]
    assert entry.actor_id == world.alice.pk


def test_the_command_has_the_old_versions_of_the_rows_overwritten(world):
    tables = ("events_event", "events_comment", "events_item", "events_notification", "auth_user")

    def vacuumed():
        """Tell how often the table that was vacuumed least was."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT min(pg_stat_get_vacuum_count(name::regclass)) FROM unnest(%s::text[]) AS name",
                [list(tables)],
            )
            return cursor.fetchone()[0]

    before = vacuumed()
    call_command("erase_user", world.bob.username, "--yes", stdout=StringIO())
    eventually(lambda: vacuumed() > before)


def test_items_can_be_given_to_another_with_their_titles(world):
    erase_command(world.bob.username, "--yes", "--items-to", "alice")

    own = Item.objects.get(pk=world.own.pk)
    assert (own.owner_id, own.title) == (world.alice.pk, f"Bob's other {SECRET}")
    assert SECRET not in "".join(
        e.data for e in entries().values() if str(world.bob.pk) in e.data and e.type == "ItemCreated"
    )


def test_a_typed_name_confirms(world, monkeypatch):
    typed(monkeypatch, world.bob.username)
    erase_command(world.bob.username)
    assert where_secret_is() == []


@pytest.mark.parametrize("text", ["", "yes", "alice", None])
def test_anything_else_erases_nothing(world, monkeypatch, text):
    typed(monkeypatch, text)
    with pytest.raises(CommandError, match="nothing was erased"):
        erase_command(world.bob.username)
    assert Comment.objects.get(pk=world.first.pk).text == f"edited {SECRET}"
    assert User.objects.get(pk=world.bob.pk).is_active


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "There is no user 'nobody'."),
        (["0"], "There is no user '0'."),
        (["9" * 30], "There is no user '9"),
        (["alice", "--id"], "There is no user 'alice'."),
        (["alice", "--items-to", "nobody"], "--items-to: there is no active user 'nobody'."),
        (["alice", "--items-to", "alice"], "--items-to must name another user."),
        (["alice", "--by", "nobody"], "--by: there is no active user 'nobody'."),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(users, arguments, message):
    with pytest.raises(CommandError, match=message) as refused:
        erase_command(*arguments, "--yes")
    assert len(str(refused.value).splitlines()) == 1
    assert User.objects.get(pk=users.alice.pk).is_active


def test_one_users_name_that_is_anothers_id_is_asked_about(users):
    named = User.objects.create_user(str(users.bob.pk))
    with pytest.raises(CommandError, match="--id"):
        erase_command(named.username, "--yes")

    erase_command(named.username, "--yes", "--id")

    assert User.objects.get(pk=named.pk).is_active
    assert not User.objects.get(pk=users.bob.pk).is_active


def test_the_api_serves_what_is_left(world, api):
    erase(world.bob)
    alice = api("alice")
    listed = alice.get(f"/api/items/{world.item.pk}/comments").json()["results"]
    assert [(each["author_name"], each["text"]) for each in listed] == [(ERASED, ERASED)]
    assert alice.get(f"/api/items/{world.own.pk}").json()["title"] == ERASED
    answer = api("").post("/api/session", {"username": world.bob.username, "password": "demo-bob"})
    assert code_of(answer, answer.status_code)
    assert 400 <= answer.status_code < 500

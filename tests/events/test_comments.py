"""Comments: who may say, change and remove what, and that races leave log and table alike."""

from uuid import UUID, uuid4

import pytest
from django.db import transaction

from events import comments, items, log
from events.comments import CommentUnknown, NotTheAuthor
from events.errors import Invalid
from events.items import ItemForbidden, ItemUnknown
from events.models import Comment, Event
from tests.events.support import events_on, types_on, until_someone_waits

TYPED = {
    "carriage return": "a\rb",
    "line feed": "a\nb",
    "both": "a\r\nb",
    "next line": "a\x85b",
    "line separator": "a\u2028b\u2029c",
    "a field": "x\ndata: {}\n\nevent: SystemAlert\ndata: gotcha\n\n",
    "an id": "x\r\nid: 9-9\r\n\r\n",
    "emoji": "\U0001f389\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "right to left": "\u202eabc",
    "spaces around": "  kept  ",
    "markup": "<script>alert(1)</script>&amp;",
    "quotes": "\"'\\",
    "controls": "\x01\x1b[31m\x7f",
    "combining": "e\u0301 is not \u00e9",
    "longest": "\U0001f389" * 20_000,
}


def test_adding_tells_who_said_what(users, item):
    comment = comments.add_comment(users.bob, item.pk, text="First!")

    kind, data = events_on(f"item:{item.pk}")[-1]
    assert kind == "CommentAdded"
    assert data == {
        "comment_id": str(comment.pk),
        "item_id": str(item.pk),
        "author_id": str(users.bob.pk),
        "author_name": "bob",
        "text": "First!",
        "timestamp": int(comment.created_at.timestamp()),
        "reply_to": None,
    }
    assert Comment.objects.get().event_id == Event.objects.get(type="CommentAdded").pk


def test_a_reply_says_what_it_answers(users, item):
    first = comments.add_comment(users.bob, item.pk, text="First!")
    reply = comments.add_comment(users.carol, item.pk, text="Second", reply_to=first.pk)

    assert Comment.objects.get(pk=reply.pk).reply_to == first.pk
    assert events_on(f"item:{item.pk}")[-1][1]["reply_to"] == str(first.pk)
    comments.delete_comment(users.bob, first.pk)
    assert Comment.objects.get(pk=reply.pk).reply_to == first.pk


@pytest.mark.parametrize("answered", ["unknown", "on another item", "deleted"])
def test_a_reply_to_what_is_not_on_the_item_is_refused(users, item, answered):
    where = items.create_item(users.alice, title="Other") if answered == "on another item" else item
    first = comments.add_comment(users.bob, where.pk, text="First!")
    if answered == "deleted":
        comments.delete_comment(users.bob, first.pk)
    to = uuid4() if answered == "unknown" else first.pk

    with pytest.raises(Invalid) as refused:
        comments.add_comment(users.carol, item.pk, text="Second", reply_to=to)

    assert [fault.field for fault in refused.value.errors] == ["reply_to"]
    assert not Comment.objects.filter(author_id=users.carol.pk).exists()


@pytest.mark.parametrize("text", TYPED.values(), ids=TYPED.keys())
def test_text_is_kept_as_it_was_typed(users, item, text):
    comments.add_comment(users.bob, item.pk, text=text)

    assert Comment.objects.get().text == text
    assert events_on(f"item:{item.pk}")[-1][1]["text"] == text
    line = Event.objects.get(type="CommentAdded").data
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["", " ", "\r\n\t\u3000\u2028", "a\x00", "\ud800", "x\udfff", "x" * 20_001, "x" * 100_000]
)
def test_text_that_cannot_be_kept_is_refused_and_nothing_written(users, comment, text):
    before = Event.objects.count()
    for attempt in (
        lambda: comments.add_comment(users.bob, comment.item_id, text=text),
        lambda: comments.edit_comment(users.bob, comment.pk, text=text),
    ):
        with pytest.raises(Invalid) as refused:
            attempt()
        assert {fault.field for fault in refused.value.errors} == {"text"}

    assert Event.objects.count() == before
    assert Comment.objects.get().text == "First!"


def test_only_who_reads_an_item_comments_on_it(users, secret):
    comments.add_comment(users.bob, secret.pk, text="Inside")
    with pytest.raises(ItemForbidden):
        comments.add_comment(users.carol, secret.pk, text="Outside")
    with pytest.raises(ItemUnknown):
        comments.add_comment(users.carol, 999_999, text="Nowhere")

    assert types_on(f"item:{secret.pk}").count("CommentAdded") == 1


def test_only_the_author_edits(users, comment):
    for other in (users.alice, users.carol, users.admin):
        with pytest.raises(NotTheAuthor):
            comments.edit_comment(other, comment.pk, text="Not yours")
    edited = comments.edit_comment(users.bob, comment.pk, text="Second!")

    stored = Comment.objects.get()
    assert (stored.text, stored.edited_at) == ("Second!", edited.edited_at)
    assert stored.edited_at is not None
    assert events_on(f"item:{comment.item_id}")[-1] == (
        "CommentUpdated",
        {
            "comment_id": str(comment.pk),
            "item_id": str(comment.item_id),
            "new_text": "Second!",
            "edited_at": int(stored.edited_at.timestamp()),
        },
    )


def test_an_edit_to_the_same_text_is_no_event(users, comment):
    comments.edit_comment(users.bob, comment.pk, text="First!")

    assert types_on(f"item:{comment.item_id}") == ["ItemCreated", "CommentAdded"]


@pytest.mark.parametrize("who", ["bob", "alice"])
def test_the_author_and_the_items_owner_delete(users, comment, who):
    comments.delete_comment(getattr(users, who), comment.pk)

    assert not Comment.objects.exists()
    assert events_on(f"item:{comment.item_id}")[-1] == (
        "CommentDeleted",
        {"comment_id": str(comment.pk), "item_id": str(comment.item_id)},
    )


@pytest.mark.parametrize("who", ["carol", "admin"])
def test_nobody_else_deletes(users, comment, who):
    with pytest.raises(NotTheAuthor):
        comments.delete_comment(getattr(users, who), comment.pk)

    assert Comment.objects.exists()


def test_a_member_sent_away_no_longer_edits_or_deletes(users, secret):
    comment = comments.add_comment(users.bob, secret.pk, text="Inside")
    items.remove_member(users.alice, secret.pk, member_id=users.bob.pk)

    with pytest.raises(ItemForbidden):
        comments.edit_comment(users.bob, comment.pk, text="Still here")
    with pytest.raises(ItemForbidden):
        comments.delete_comment(users.bob, comment.pk)


def test_an_unknown_comment_is_unknown(users):
    with pytest.raises(CommentUnknown):
        comments.edit_comment(users.bob, uuid4(), text="x")
    with pytest.raises(CommentUnknown):
        comments.delete_comment(users.bob, uuid4())


def test_a_deleted_item_takes_its_comments_along(users, comment):
    items.delete_item(users.alice, comment.item_id)

    assert not Comment.objects.exists()
    with pytest.raises(CommentUnknown):
        comments.edit_comment(users.bob, comment.pk, text="x")


def test_an_edit_that_waited_for_a_delete_finds_nothing(users, comment, held, background):
    with held(lambda: comments.delete_comment(users.alice, comment.pk)):
        edit = background(lambda: comments.edit_comment(users.bob, comment.pk, text="Too late"))
        until_someone_waits()
    with pytest.raises(CommentUnknown):
        edit.result(20)

    assert not Comment.objects.exists()
    assert types_on(f"item:{comment.item_id}") == ["ItemCreated", "CommentAdded", "CommentDeleted"]


def test_a_delete_that_waited_for_an_edit_has_the_last_word(users, comment, held, background):
    with held(lambda: comments.edit_comment(users.bob, comment.pk, text="In time")):
        delete = background(lambda: comments.delete_comment(users.alice, comment.pk))
        until_someone_waits()
    delete.result(20)

    assert not Comment.objects.exists()
    assert types_on(f"item:{comment.item_id}")[-2:] == ["CommentUpdated", "CommentDeleted"]


def test_two_edits_at_once_leave_log_and_table_alike(users, comment, held, background):
    with held(lambda: comments.edit_comment(users.bob, comment.pk, text="First edit")):
        second = background(lambda: comments.edit_comment(users.bob, comment.pk, text="Second edit"))
        until_someone_waits()
    second.result(20)

    assert Comment.objects.get().text == "Second edit"
    assert events_on(f"item:{comment.item_id}")[-1][1]["new_text"] == "Second edit"


def test_comments_added_at_once_stand_in_the_logs_order(users, item, held, background):
    with held(lambda: comments.add_comment(users.alice, item.pk, text="one")):
        second = background(lambda: comments.add_comment(users.bob, item.pk, text="two"))
        until_someone_waits()
    second.result(20)

    in_table = list(Comment.objects.order_by("event_id").values_list("text", flat=True))
    in_log = [data["text"] for name, data in events_on(f"item:{item.pk}") if name == "CommentAdded"]
    assert in_table == in_log == ["one", "two"]


def test_comments_on_different_items_do_not_wait_for_each_other(users, item, held):
    other = items.create_item(users.alice, title="Another")
    with held(lambda: comments.add_comment(users.alice, item.pk, text="slow")):
        comments.add_comment(users.bob, other.pk, text="quick")

        assert Comment.objects.get().text == "quick"


@pytest.mark.parametrize("closed", ["their removal", "its closing", "its giving away"])
def test_a_comment_that_waited_for_what_keeps_its_author_out_is_refused(
    users, item, secret, held, background, closed
):
    author, where, keep_out = {
        "their removal": (
            users.bob,
            secret,
            lambda: items.remove_member(users.alice, secret.pk, member_id=users.bob.pk),
        ),
        "its closing": (
            users.bob,
            item,
            lambda: items.change_item(users.alice, item.pk, visibility="members"),
        ),
        "its giving away": (
            users.alice,
            secret,
            lambda: items.change_item(users.alice, secret.pk, owner_id=users.bob.pk),
        ),
    }[closed]
    with held(keep_out):
        late = background(lambda: comments.add_comment(author, where.pk, text="One more thing"))
        until_someone_waits()
    with pytest.raises(ItemForbidden):
        late.result(20)

    assert "CommentAdded" not in types_on(f"item:{where.pk}")
    assert not Comment.objects.exists()


def test_a_comment_that_waited_while_others_were_placed_is_placed_after_them(users, item, held, background):
    other = items.create_item(users.alice, title="Another")
    with held(lambda: items.lock(item.pk)):
        late = background(lambda: comments.add_comment(users.bob, item.pk, text="late"))
        until_someone_waits()
        for n in range(3):
            comments.add_comment(users.bob, other.pk, text=str(n))
            log.place()
        before = log.head().position
    event_id = late.result(20).event_id

    assert log.place().count == 1
    assert Event.objects.get(pk=event_id).position == before + 1


def test_a_comment_that_waited_until_its_item_was_gone_finds_none(users, item, held, background):
    with held(lambda: items.delete_item(users.alice, item.pk)):
        late = background(lambda: comments.add_comment(users.bob, item.pk, text="One more thing"))
        until_someone_waits()
    with pytest.raises(ItemUnknown):
        late.result(20)

    assert types_on(f"item:{item.pk}") == ["ItemCreated", "ItemDeleted"]


@pytest.mark.parametrize("opened", ["to its author", "to all"])
def test_a_comment_that_waited_until_its_item_was_opened_is_made(users, secret, held, background, opened):
    def to_its_author():
        items.add_member(users.alice, secret.pk, member_id=users.carol.pk)

    def to_all():
        items.change_item(users.alice, secret.pk, visibility="public")

    with held(to_all if opened == "to all" else to_its_author):
        late = background(lambda: comments.add_comment(users.carol, secret.pk, text="At last"))
        # Only where the item is locked: who is refused at sight, by what was, need not wait.
        until_someone_waits()
    late.result(20)

    assert Comment.objects.get().text == "At last"


def test_a_reply_that_waited_until_what_it_answers_was_gone_is_refused(users, comment, held, background):
    with held(lambda: comments.delete_comment(users.bob, comment.pk)):
        reply = background(
            lambda: comments.add_comment(users.carol, comment.item_id, text="Re", reply_to=comment.pk)
        )
        until_someone_waits()
    with pytest.raises(Invalid):
        reply.result(20)

    assert not Comment.objects.exists()


def test_a_rolled_back_verb_leaves_neither_event_nor_row(users, item):
    with transaction.atomic():
        comments.add_comment(users.bob, item.pk, text="never")
        transaction.set_rollback(True)

    assert types_on(f"item:{item.pk}") == ["ItemCreated"]
    assert not Comment.objects.exists()


def test_ids_are_uuids_that_nobody_can_count(users, comment):
    assert UUID(str(comment.pk)).version == 4


def test_adding_asks_the_database_for_no_more_than_it_needs(users, item, secret, django_assert_num_queries):
    with django_assert_num_queries(1):  # in which it locks, checks, records and folds
        comments.add_comment(users.bob, item.pk, text="quick")
    with django_assert_num_queries(6):  # that, BEGIN, the lock, whether a member, event with comment, COMMIT
        comments.add_comment(users.bob, secret.pk, text="a member's")

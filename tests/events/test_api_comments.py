"""Comments over HTTP: shapes, pages, cursors, and whatever people type."""

import json
from uuid import uuid4

import pytest

from events import comments, log
from events.cursor import Cursor
from events.models import Comment, Event
from tests.events.support import code_of, events_on, fields_of
from tests.events.test_comments import TYPED


def test_a_comment_is_made_of_a_text(users, api, item):
    answer = api("bob").post(f"/api/items/{item.pk}/comments", {"text": "First!"})

    assert answer.status_code == 201
    made = Comment.objects.get()
    assert answer.json() == {
        "id": str(made.pk),
        "item_id": str(item.pk),
        "author_id": str(users.bob.pk),
        "author_name": "bob",
        "text": "First!",
        "reply_to": None,
        "created_at": made.created_at.strftime("%FT%TZ"),
        "edited_at": None,
    }
    assert events_on(f"item:{item.pk}")[-1][1]["comment_id"] == str(made.pk)


@pytest.mark.parametrize("text", TYPED.values(), ids=TYPED.keys())
def test_what_a_user_types_comes_back_as_typed(users, api, item, text):
    client, path = api("bob"), f"/api/items/{item.pk}/comments"

    made = client.post(path, {"text": text})

    assert made.status_code == 201
    assert made.json()["text"] == text
    assert [row["text"] for row in client.get(path).json()["results"]] == [text]
    assert json.loads(Event.objects.get(type="CommentAdded").data)["text"] == text
    edited = client.patch(f"/api/comments/{made.json()['id']}", {"text": text + "!"[: 20_000 - len(text)]})
    assert edited.status_code == 200


def test_a_reply_names_the_comment_that_it_answers(users, api, comment):
    client, path = api("carol"), f"/api/items/{comment.item_id}/comments"

    made = client.post(path, {"text": "Second", "reply_to": str(comment.pk)})

    assert made.status_code == 201
    assert made.json()["reply_to"] == str(comment.pk)
    assert [row["reply_to"] for row in client.get(path).json()["results"]] == [None, str(comment.pk)]


@pytest.mark.parametrize("to", [str(uuid4()), "x", "", 1, True, [], {}, "\x00", "\ud83d"])
def test_a_bad_reply_is_refused_by_field_and_nothing_written(users, api, comment, to):
    before = Event.objects.count()
    answer = api("carol").post(f"/api/items/{comment.item_id}/comments", {"text": "x", "reply_to": to})

    assert set(fields_of(answer, 422)) == {"reply_to"}
    assert Event.objects.count() == before


def test_an_edit_cannot_make_a_reply(users, api, comment):
    answer = api("bob").patch(f"/api/comments/{comment.pk}", {"text": "x", "reply_to": str(comment.pk)})

    assert fields_of(answer, 422) == ["reply_to"]


BAD_TEXTS = {
    "empty": "",
    "blank": " \r\n\t\u2003",
    "NUL": "a\x00b",
    "only NUL": "\x00",
    "lone surrogate": "\ud83d",
    "swapped surrogates": "\udf89\ud83c",
    "one too many": "x" * 20_001,
    "100 kB": "x" * 100_000,
    "number": 1,
    "true": True,
    "null": None,
    "list": ["x"],
    "object": {"text": "x"},
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_a_bad_text_is_refused_by_field_and_nothing_written(users, api, comment, text):
    client, before = api("bob"), Event.objects.count()

    assert set(fields_of(client.post(f"/api/items/{comment.item_id}/comments", {"text": text}), 422)) == {
        "text"
    }
    assert set(fields_of(client.patch(f"/api/comments/{comment.pk}", {"text": text}), 422)) == {"text"}
    assert Event.objects.count() == before
    assert Comment.objects.get().text == "First!"


BAD_BODIES = {
    "nothing": (b"", 422, ["body"]),
    "null": (b"null", 422, ["body"]),
    "list": (b'[{"text":"x"}]', 422, ["body"]),
    "string": (b'"x"', 422, ["body"]),
    "no text": (b"{}", 422, ["text"]),
    "unknown field": (b'{"text":"x","author_id":"1"}', 422, ["author_id"]),
    "not JSON": (b"text=x", 400, []),
    "cut off": (b'{"text":"x', 400, []),
    "two": (b'{"text":"x"}{"text":"y"}', 400, []),
    "raw line end": (b'{"text":"a\nb"}', 400, []),
    "raw NUL": (b'{"text":"a\x00b"}', 400, []),
    "not UTF-8": (b'{"text":"\xff"}', 400, []),
    "UTF-16": ('{"text":"x"}'.encode("utf-16"), 400, []),
    "surrogate in UTF-8": (b'{"text":"\xed\xa0\x80"}', 400, []),
    "byte order mark": (b'\xef\xbb\xbf{"text":"x"}', 400, []),
    "not a number": (b'{"text":NaN}', 400, []),
    "deep": (b"[" * 200_000, 400, []),
    "deep in a field": (b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, []),
    "huge number": (b'{"text":' + b"9" * 10_000 + b"}", 400, []),
    "too large": (b'{"text":"' + b"x" * 1_100_000 + b'"}', 413, []),
}


@pytest.mark.parametrize(("body", "status", "fields"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_refused_and_nothing_written(users, api, item, body, status, fields):
    answer = api("bob").post(f"/api/items/{item.pk}/comments", body)

    assert fields_of(answer, status) == fields
    assert answer.json()["code"] == {400: "malformed_json", 413: "payload_too_large", 422: "invalid"}[status]
    assert not Comment.objects.exists()
    assert events_on(f"item:{item.pk}")[1:] == []


def test_a_body_of_nonsense_is_not_echoed_whole(users, api, item):
    body = {"text": "x", **{f"field {n} " + "x" * 500: n for n in range(500)}}
    answer = api("bob").post(f"/api/items/{item.pk}/comments", body)

    assert len(fields_of(answer, 422)) == 20
    assert len(answer.content) < 6_000


def test_an_edit_answers_the_comment(users, api, comment):
    answer = api("bob").patch(f"/api/comments/{comment.pk}", {"text": "Second!"})

    assert answer.status_code == 200
    assert answer.json()["text"] == "Second!"
    assert answer.json()["edited_at"].endswith("Z")


def test_who_may_edit_and_delete(users, api, comment):
    path = f"/api/comments/{comment.pk}"

    assert code_of(api("alice").patch(path, {"text": "x"}), 403) == "not_the_author"
    assert code_of(api("carol").delete(path), 403) == "not_the_author"
    assert api("alice").delete(path).status_code == 204
    assert code_of(api("bob").patch(path, {"text": "x"}), 404) == "comment_unknown"
    assert code_of(api("bob").delete(path), 404) == "comment_unknown"
    assert code_of(api("bob").delete(f"/api/comments/{uuid4()}"), 404) == "comment_unknown"


def test_comments_of_an_item_one_may_not_read(users, api, secret):
    path, carol = f"/api/items/{secret.pk}/comments", api("carol")

    assert code_of(carol.get(path), 403) == "item_forbidden"
    assert code_of(carol.post(path, {"text": "x"}), 403) == "item_forbidden"
    assert code_of(carol.get("/api/items/999999/comments"), 404) == "item_unknown"
    assert code_of(carol.post("/api/items/999999/comments", {"text": "x"}), 404) == "item_unknown"


def test_pages_hold_all_comments_once_oldest_first(users, api, item):
    for n in range(5):
        comments.add_comment(users.bob, item.pk, text=str(n))
    client, seen, after = api("bob"), [], ""
    for _ in range(3):
        page = client.get(f"/api/items/{item.pk}/comments?limit=2{after}").json()
        seen += [row["text"] for row in page["results"]]
        after = f"&after={page['next']}"

    assert seen == ["0", "1", "2", "3", "4"]
    assert page["next"] is None


def test_a_list_has_its_unplaced_events_placed_so_its_cursor_is_true(users, api, item):
    comments.add_comment(users.bob, item.pk, text="not placed yet")
    assert Event.objects.filter(position=None).count() == 2

    page = api("bob").get(f"/api/items/{item.pk}/comments").json()

    cursor = Cursor.parse(page["cursor"])
    assert [row["text"] for row in page["results"]] == ["not placed yet"]
    assert log.read(cursor.position, channels=[f"item:{item.pk}"]).entries == ()
    comments.add_comment(users.bob, item.pk, text="later")
    log.place()
    [after] = log.read(cursor.position, channels=[f"item:{item.pk}"]).entries
    assert json.loads(after.data)["text"] == "later"


def test_a_comment_being_made_is_in_the_list_or_after_its_cursor(users, api, item, held):
    with held(lambda: comments.add_comment(users.bob, item.pk, text="on its way")):
        page = api("bob").get(f"/api/items/{item.pk}/comments").json()
        assert page["results"] == []
    log.place()

    after = log.read(Cursor.parse(page["cursor"]).position, channels=[f"item:{item.pk}"]).entries
    assert [json.loads(entry.data)["text"] for entry in after] == ["on its way"]

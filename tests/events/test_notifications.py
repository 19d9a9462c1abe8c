"""The inbox over HTTP: pages, counts, marks that are events, and nobody else's."""

from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from events import comments, erasure, items, log, notifications, registry, watching
from events.cursor import Cursor
from events.erasure import ERASED
from events.models import Event, Inbox, Notification
from tests.events.support import code_of, fields_of, types_on, until_someone_waits
from tests.inbox import fold, react, shown, stream_of

READ, UNREAD, ARCHIVE = "read", "unread", "archive"


@pytest.fixture
def told(users):
    """Five notifications of alice's, each of an item of its own, the latest first; returns their ids."""
    for n in range(5):
        item = items.create_item(users.alice, title=f"Item {n}")
        comments.add_comment(users.bob, item.pk, text="Hello")
    react()
    found = Notification.objects.filter(user_id=users.alice.pk).order_by("-event_id")
    return [str(pk) for pk in found.values_list("pk", flat=True)]


def ids(answer):
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


def count(client):
    return client.get("/api/notifications/count").json()["unread"]


def mark(client, notification_id, how):
    return client.post(f"/api/notifications/{notification_id}/{how}")


def test_a_notification_as_the_api_shows_it(users, api, item):
    made = comments.add_comment(users.bob, item.pk, text="Hello")
    react()

    [row] = api("alice").get("/api/notifications").json()["results"]

    stored = Notification.objects.get()
    assert row == {
        "id": str(stored.pk),
        "kind": "comment",
        "message": "bob commented on “Tickets”",
        "item_id": str(item.pk),
        "comment_id": str(made.pk),
        "job_id": None,
        "actors": [str(users.bob.pk)],
        "people": 1,
        "count": 1,
        "delivery": "live",
        "muted": False,
        "read": False,
        "archived": False,
        "created_at": stored.created_at.strftime("%FT%TZ"),
        "broadcast": None,
    }


def test_the_latest_come_first_in_pages(users, api, told):
    client = api("alice")
    found, after, pages = [], "", 0
    while after is not None:
        answer = client.get(f"/api/notifications?limit=2{after and f'&after={after}'}")
        found += ids(answer)
        after, pages = answer.json()["next"], pages + 1

    assert found == told
    assert pages == 3


def test_one_that_is_raised_again_goes_to_the_top(users, api, told):
    first = Notification.objects.get(pk=told[-1])
    comments.add_comment(users.carol, first.item_id, text="Me too")
    react()

    assert ids(api("alice").get("/api/notifications")) == [told[-1], *told[:-1]]


@pytest.mark.parametrize(
    ("query", "wanted"), [("", [0, 1, 2, 4]), ("?unread=true", [2, 4]), ("?archived=true", [3])]
)
def test_the_unread_and_the_archived_can_be_asked_for(users, api, told, query, wanted):
    client = api("alice")
    for which, how in ((0, READ), (1, READ), (3, ARCHIVE)):
        assert mark(client, told[which], how).status_code == 204

    assert ids(client.get("/api/notifications" + query)) == [told[n] for n in wanted]
    assert count(client) == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("after=nonsense", "after"),
        ("after=%00", "after"),
        ("unread=maybe", "unread"),
        ("archived=2", "archived"),
    ],
)
def test_a_bad_query_is_refused_by_field(users, api, query, field):
    assert fields_of(api("alice").get(f"/api/notifications?{query}"), 422) == [field]


# --- Marks ------------------------------------------------------------------------------------


def test_marks_are_events_on_my_own_channel(users, api, told):
    client = api("alice")
    for how in (READ, UNREAD, ARCHIVE):
        mark(client, told[0], how)
    client.post("/api/notifications/read-all")

    marks = [(name, data) for name, data in stream_of(users.alice) if name.startswith("Notification")][5:]
    me = {"user_id": str(users.alice.pk)}
    assert marks == [
        ("NotificationsRead", {**me, "notification_ids": [told[0]], "item_id": None}),
        ("NotificationUnread", {**me, "notification_id": told[0]}),
        ("NotificationArchived", {**me, "notification_id": told[0]}),
        ("NotificationsRead", {**me, "notification_ids": None, "item_id": None}),
    ]
    assert Event.objects.get(type="NotificationArchived").actor_id == users.alice.pk


def test_a_mark_that_changes_nothing_is_no_event(users, api, told):
    client = api("alice")
    for how in (UNREAD, READ, READ, ARCHIVE, ARCHIVE, READ):
        assert mark(client, told[0], how).status_code == 204
    for _ in range(2):
        assert client.post("/api/notifications/read-all").status_code == 204
    assert api("carol").post("/api/notifications/read-all").status_code == 204

    marks = [name for name in types_on(f"user:{users.alice.pk}") if name != "NotificationRaised"]
    assert marks == ["NotificationsRead", "NotificationArchived", "NotificationsRead"]
    assert types_on(f"user:{users.carol.pk}") == []


def test_what_was_put_away_is_read_and_what_is_unread_comes_back(users, api, told):
    client = api("alice")
    mark(client, told[0], ARCHIVE)
    assert count(client) == 4

    mark(client, told[0], UNREAD)

    assert count(client) == 5
    assert ids(client.get("/api/notifications")) == told


@pytest.mark.parametrize("how", [READ, UNREAD, ARCHIVE])
def test_anothers_notification_does_not_exist(users, api, told, how):
    before = Event.objects.count()
    for whose in (told[0], str(uuid4())):
        assert code_of(mark(api("bob"), whose, how), 404) == "notification_unknown"
    assert mark(api("bob"), "1", how).status_code == 404

    assert Event.objects.count() == before
    assert count(api("alice")) == 5


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/notifications"),
        ("GET", "/api/notifications/count"),
        ("POST", "/api/notifications/read-all"),
        ("POST", f"/api/notifications/{uuid4()}/read"),
        ("POST", "/api/items/1/seen"),
        ("PUT", "/api/items/1/watch"),
        ("DELETE", "/api/items/1/mute"),
        ("GET", "/api/preferences"),
        ("PUT", "/api/preferences"),
    ],
)
def test_who_is_not_logged_in_has_no_inbox(users, api, method, path):
    assert code_of(api().send(method, path, {}), 401) == "not_logged_in"


def test_a_mark_sent_again_with_its_key_is_made_once(users, api, told):
    client = api("alice")
    path = f"/api/notifications/{told[0]}/read"
    assert client.post(path, Idempotency_Key="k").status_code == 204
    mark(client, told[0], UNREAD)

    assert client.post(path, Idempotency_Key="k").status_code == 204

    assert count(client) == 5
    other = client.post(f"/api/notifications/{told[1]}/read", Idempotency_Key="k")
    assert code_of(other, 422) == "idempotency_mismatch"


def test_a_mark_needs_the_token(users, api, told):
    client = api("alice")
    del client.headers["X-CSRFToken"]

    assert code_of(mark(client, told[0], READ), 403) == "csrf_failed"


def test_two_devices_that_read_at_once_make_one_event(users, told, held, background):
    with held(lambda: notifications.mark_read(users.alice, told[0])):
        second = background(lambda: notifications.mark_read(users.alice, told[0]))
        until_someone_waits()
    second.result(20)

    assert types_on(f"user:{users.alice.pk}").count("NotificationsRead") == 1


def test_inboxes_do_not_wait_for_each_other(users, told, held):
    with held(lambda: notifications.read_all(users.alice)):
        notifications.read_all(users.bob)


def test_a_mark_rolled_back_is_no_mark(users, api, told):
    with transaction.atomic():
        notifications.read_all(users.alice)
        transaction.set_rollback(True)

    assert count(api("alice")) == 5


# --- Opening the item -----------------------------------------------------------------------


def test_opening_the_item_reads_what_was_told_of_it(users, api, item, told):
    comments.add_comment(users.bob, item.pk, text="one")
    comments.add_comment(users.bob, item.pk, text="@alice two")
    react()
    client = api("alice")
    assert count(client) == 7

    for _ in range(2):
        assert client.post(f"/api/items/{item.pk}/seen").status_code == 204

    assert count(client) == 5
    name, data = stream_of(users.alice)[-1]
    assert name == "NotificationsRead"
    assert data == {"user_id": str(users.alice.pk), "notification_ids": None, "item_id": str(item.pk)}
    assert types_on(f"user:{users.alice.pk}").count("NotificationsRead") == 1


def test_opening_is_for_who_may_read_it(users, api, secret):
    assert code_of(api("carol").post(f"/api/items/{secret.pk}/seen"), 403) == "item_forbidden"
    assert code_of(api("carol").post("/api/items/999999/seen"), 404) == "item_unknown"


def test_opening_what_has_no_news_locks_and_writes_nothing(users, item, django_assert_num_queries):
    with django_assert_num_queries(4):  # BEGIN, the item, whether there is any, COMMIT
        notifications.see_item(users.alice, item.pk)

    assert not Inbox.objects.exists()


# --- The cursor -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/notifications", "/api/notifications/count", "/api/preferences"])
def test_an_answer_says_where_to_stream_from(users, api, told, path):
    """What is committed and not placed yet is placed first: the answer holds it, and so does the cursor."""
    client = api("alice")
    notifications.mark_read(users.alice, told[0])
    assert Event.objects.filter(position=None).exists()

    answer = client.get(path).json()

    assert Cursor.parse(answer["cursor"]) == log.head()
    assert not Event.objects.filter(position=None).exists()


def test_list_and_stream_fit_without_a_gap_or_a_double(users, api, told, held, background):
    """A mark that is committed only after the snapshot is not in the list, and comes after its cursor."""
    client = api("alice")
    with held(lambda: notifications.mark_read(users.alice, told[0])):
        during = client.get("/api/notifications").json()
    after = client.get("/api/notifications").json()

    assert [row["read"] for row in during["results"]] == [False] * 5
    assert [row["read"] for row in after["results"]] == [True] + [False] * 4
    log.place()
    page = log.read(Cursor.parse(during["cursor"]).position, channels=[f"user:{users.alice.pk}"])
    assert [entry.type for entry in page.entries] == ["NotificationsRead"]
    assert log.read(Cursor.parse(after["cursor"]).position).entries == ()


def test_a_client_that_folds_its_stream_has_what_the_api_says(users, api, told):
    client = api("alice")
    for which, how in ((0, READ), (1, ARCHIVE), (2, READ), (2, UNREAD)):
        mark(client, told[which], how)
    rows = client.get("/api/notifications").json()["results"]
    rows += client.get("/api/notifications?archived=true").json()["results"]

    assert sorted(map(shown, rows)) == sorted(map(shown, fold(stream_of(users.alice))))


# --- Watching -----------------------------------------------------------------------------------


def attention(client, item):
    answer = client.get(f"/api/items/{item.pk}/watch").json()
    return answer["watching"], answer["muted"]


def test_watching_and_muting_are_events_and_change_nothing_twice(users, api, item):
    client, path = api("carol"), f"/api/items/{item.pk}"
    assert attention(client, item) == (False, False)
    steps = (
        ("PUT", "watch", (True, False)),
        ("PUT", "mute", (True, True)),
        ("DELETE", "mute", (True, False)),
        ("DELETE", "watch", (False, False)),
    )
    for method, what, then in steps:
        for _ in range(2):
            assert client.send(method, f"{path}/{what}").status_code == 204
        assert attention(client, item) == then

    assert types_on(f"user:{users.carol.pk}") == ["ItemWatched", "ItemMuted", "ItemUnmuted", "ItemUnwatched"]
    assert "ItemWatched" not in types_on(f"item:{item.pk}"), "it is nobody else's business"


def test_owners_and_commenters_watch_until_they_do_not(users, api, item, comment):
    assert attention(api("alice"), item) == (True, False)
    assert attention(api("bob"), item) == (True, False)
    watching.unwatch(users.bob, item.pk)
    comments.add_comment(users.bob, item.pk, text="again")

    assert attention(api("bob"), item) == (False, False)


def test_the_inbox_says_whose_items_are_muted_by_one_more_query_a_page(users, api, told):
    client = api("alice")
    loud, quiet = (
        row["item_id"] for row in client.get("/api/notifications").json()["results"][:2]
    )  # fmt: skip
    for which in ("limit=5", "limit=1"):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/api/notifications?{which}").status_code == 200
        assert sum("events_watch" in query["sql"] for query in queries) == 1
    watching.mute(users.alice, int(quiet))
    watching.watch(users.alice, int(loud))
    watching.mute(users.bob, int(loud))

    rows = client.get("/api/notifications").json()["results"]

    assert {row["item_id"] for row in rows if row["muted"]} == {quiet}
    watching.unmute(users.alice, int(quiet))
    assert not any(row["muted"] for row in client.get("/api/notifications").json()["results"])


def test_an_unmute_of_what_is_not_muted_is_no_event(users, api, item):
    assert api("carol").delete(f"/api/items/{item.pk}/mute").status_code == 204

    assert types_on(f"user:{users.carol.pk}") == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("what", ["watch", "mute"])
def test_only_what_one_may_read_is_watched(users, api, secret, method, what):
    client = api("carol")

    assert code_of(client.send(method, f"/api/items/{secret.pk}/{what}"), 403) == "item_forbidden"
    assert code_of(client.send(method, f"/api/items/999999/{what}"), 404) == "item_unknown"
    assert types_on(f"user:{users.carol.pk}") == []
    assert code_of(client.get(f"/api/items/{secret.pk}/watch"), 403) == "item_forbidden"


def test_watching_goes_with_the_item(users, item):
    watching.watch(users.carol, item.pk)
    items.delete_item(users.alice, item.pk)

    assert types_on(f"user:{users.carol.pk}") == ["ItemWatched"]


def test_a_watch_that_waited_for_the_items_end_is_refused(users, item, held, background):
    with held(lambda: items.delete_item(users.alice, item.pk)):
        late = background(lambda: watching.watch(users.carol, item.pk))
        until_someone_waits()
    with pytest.raises(items.ItemUnknown):
        late.result(20)


# --- The description ----------------------------------------------------------------------------


def test_the_api_describes_the_inbox_with_examples(users, api):
    schema = api().get("/api/openapi.json").json()
    inbox = [
        each for path in schema["paths"].values() for each in path.values() if each.get("tags") == ["inbox"]
    ]

    assert len(inbox) == 14
    assert [each["operationId"] for each in inbox if not each.get("description")] == []
    for name in ("NotificationOut", "CountOut", "AttentionOut", "PreferencesOut", "NewPreferences"):
        [example] = schema["components"]["schemas"][name]["examples"]
        assert set(example) <= set(schema["components"]["schemas"][name]["properties"])
        assert set(schema["components"]["schemas"][name].get("required", ())) <= set(example)


# --- Erasure -------------------------------------------------------------------------------------


def test_erasing_somebody_erases_them_from_everyones_inbox(users, item):
    users.bob.username = "bob-Zanzibar"
    users.bob.save()
    owned = items.create_item(users.bob, title="Zanzibar plans")
    watching.watch(users.carol, owned.pk)
    comments.add_comment(users.bob, item.pk, text="x")
    comments.add_comment(users.alice, owned.pk, text="y")
    react()
    messages = dict(Notification.objects.values_list("user_id", "message"))
    assert [user for user, said in messages.items() if "Zanzibar" in said] == list(messages)

    erasure.erase_user(users.bob, by="test")

    assert set(Notification.objects.values_list("message", flat=True)) == {ERASED}
    assert not Event.objects.filter(data__contains="Zanzibar").exists()
    for user in (users.alice, users.bob, users.carol):
        api_rows = Notification.objects.filter(user_id=user.pk).values_list("message", flat=True)
        assert [row["message"] for row in fold(stream_of(user))] == list(api_rows)


def test_a_group_goes_on_after_one_of_it_was_erased(users, item):
    comments.add_comment(users.bob, item.pk, text="x")
    react()
    erasure.erase_user(users.bob, by="test")
    comments.add_comment(users.carol, item.pk, text="y")
    react()

    [row] = Notification.objects.filter(user_id=users.alice.pk)
    assert row.message == "carol and 1 other commented on “Tickets”"


def test_what_is_personal_is_declared(users):
    assert dict(registry.types()["NotificationRaised"].personal) == {
        "message": ("user_id", "actor_id", "owner_id")
    }

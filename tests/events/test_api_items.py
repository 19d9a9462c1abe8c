"""Items and members over HTTP."""

import pytest

from events import items, log
from events.channels import item_channel
from events.cursor import Cursor
from events.models import Item, ItemMember
from tests.events.support import code_of, fields_of, types_on


def test_an_item_is_made_of_a_title(users, api):
    answer = api("alice").post("/api/items", {"title": "Tickets"})

    assert answer.status_code == 201
    made = Item.objects.get()
    body = answer.json()
    assert body.pop("created_at").endswith("Z")
    assert body == {
        "id": str(made.pk),
        "title": "Tickets",
        "owner": str(users.alice.pk),
        "visibility": "public",
    }


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["title"]),
        ({"title": ""}, ["title"]),
        ({"title": " \t"}, ["title"]),
        ({"title": "x" * 201}, ["title"]),
        ({"title": "a\x00"}, ["title"]),
        ({"title": "\ud800"}, ["title"]),
        ({"title": 7}, ["title"]),
        ({"title": None}, ["title"]),
        ({"title": "x", "visibility": "secret"}, ["visibility"]),
        ({"title": "x", "visibility": None}, ["visibility"]),
        ({"title": "x", "id": "1"}, ["id"]),
        ([], ["body"]),
    ],
)
def test_a_bad_item_is_refused_by_field_and_not_made(users, api, body, fields):
    assert fields_of(api("alice").post("/api/items", body), 422) == fields
    assert not Item.objects.exists()


def test_an_item_is_read_changed_and_deleted(users, api, item):
    client = api("alice")

    assert client.get(f"/api/items/{item.pk}").json()["title"] == "Tickets"
    changed = client.patch(f"/api/items/{item.pk}", {"title": "Seats"})
    assert (changed.status_code, changed.json()["title"]) == (200, "Seats")
    assert client.patch(f"/api/items/{item.pk}", {"visibility": "members"}).json()["visibility"] == "members"
    handed = client.patch(f"/api/items/{item.pk}", {"owner": str(users.bob.pk)})
    assert handed.json()["owner"] == str(users.bob.pk)
    assert api("bob").delete(f"/api/items/{item.pk}").status_code == 204
    assert code_of(api("bob").get(f"/api/items/{item.pk}"), 404) == "item_unknown"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"title": ""}, ["title"]),
        ({"title": None}, ["title"]),
        ({"owner": "999999"}, ["owner"]),
        ({"owner": "9" * 19}, ["owner"]),
        ({"owner": "alice"}, ["owner"]),
        ({"owner": 1}, ["owner"]),
        ({"owner": "1\n"}, ["owner"]),
        ({"visibility": "all"}, ["visibility"]),
        ({"created_at": "now"}, ["created_at"]),
    ],
)
def test_a_bad_change_is_refused_by_field(users, api, item, body, fields):
    assert fields_of(api("alice").patch(f"/api/items/{item.pk}", body), 422) == fields
    assert types_on(f"item:{item.pk}") == ["ItemCreated"]


def test_a_change_of_nothing_answers_the_item(users, api, item):
    answer = api("alice").patch(f"/api/items/{item.pk}", {})

    assert (answer.status_code, answer.json()["title"]) == (200, "Tickets")


def test_who_may_not_is_told_so(users, api, item, secret):
    carol = api("carol")

    assert code_of(carol.get(f"/api/items/{secret.pk}"), 403) == "item_forbidden"
    assert code_of(carol.patch(f"/api/items/{item.pk}", {"title": "Mine"}), 403) == "not_the_owner"
    assert code_of(carol.delete(f"/api/items/{item.pk}"), 403) == "not_the_owner"
    assert code_of(carol.put(f"/api/items/{item.pk}/members/{users.carol.pk}"), 403) == "not_the_owner"
    assert code_of(carol.get("/api/items/999999"), 404) == "item_unknown"


@pytest.mark.parametrize("bad", ["0", "-1", "x", "1.0", "9" * 19, "9" * 5000, "%00", "1%20", "٣"])
def test_an_id_that_cannot_be_one_is_not_found(users, api, bad):
    client = api("alice")

    for path in (f"/api/items/{bad}", f"/api/items/{bad}/comments"):
        code_of(client.get(path), 404)
    code_of(client.put(f"/api/items/1/members/{bad}"), 404)
    code_of(client.delete(f"/api/comments/{bad}"), 404)


def test_members_come_and_go(users, api, secret):
    alice, carol = api("alice"), api("carol")
    place = f"/api/items/{secret.pk}/members/{users.carol.pk}"

    for _ in range(2):
        assert alice.put(place).status_code == 204
    assert carol.get(f"/api/items/{secret.pk}").status_code == 200
    for _ in range(2):
        assert alice.delete(place).status_code == 204
    assert code_of(carol.get(f"/api/items/{secret.pk}"), 403) == "item_forbidden"
    assert code_of(alice.put(f"/api/items/{secret.pk}/members/999999"), 404) == "user_unknown"
    assert ItemMember.objects.count() == 1


def test_the_list_holds_what_one_may_read_newest_first(users, api, item, secret):
    def listed(name):
        return [row["id"] for row in api(name).get("/api/items").json()["results"]]

    assert listed("bob") == [str(secret.pk), str(item.pk)]
    assert listed("carol") == [str(item.pk)]
    assert listed("admin") == [str(secret.pk), str(item.pk)]


def test_pages_hold_everything_once(users, api):
    made = [str(items.create_item(users.alice, title=f"{n}").pk) for n in range(7)]
    client, seen, after = api("bob"), [], ""
    for _ in range(4):
        page = client.get(f"/api/items?limit=2{after}").json()
        seen += [row["id"] for row in page["results"]]
        after = f"&after={page['next']}"

    assert seen == made[::-1]
    assert page["next"] is None


def test_a_page_that_ends_where_the_list_ends_says_so(users, api, item):
    assert api("bob").get("/api/items?limit=1").json()["next"] is None


@pytest.mark.parametrize(
    "token", ["x", "!", "", "MA", "LTE", "eA", "MQ==", "MDE", "%00", "OTk5OTk5OTk5OTk5OTk5OTk5OTk"]
)
@pytest.mark.parametrize("path", ["/api/items", "/api/items/{}/comments"])
def test_a_token_that_is_none_of_ours_is_refused(users, api, item, token, path):
    assert fields_of(api("bob").get(f"{path.format(item.pk)}?after={token}"), 422) == ["after"]


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "", "1.5", "9" * 30])
def test_a_limit_out_of_bounds_is_refused(users, api, limit):
    assert fields_of(api("bob").get(f"/api/items?limit={limit}"), 422) == ["limit"]


def test_the_cursor_of_a_list_is_past_what_it_shows(users, api, item):
    cursor = Cursor.parse(api("bob").get("/api/items").json()["cursor"])

    assert cursor == log.head()
    channel = [item_channel(item.pk)]
    [created] = log.read(0, channels=channel).entries
    assert created.position <= cursor.position
    assert log.read(cursor.position, channels=channel).entries == ()

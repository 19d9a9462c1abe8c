"""Events from other programs: by a key, within its scope, all or none, once each."""

import json
from hashlib import sha256
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from events import ingest, jobs
from events.errors import Invalid
from events.models import ApiKey, Event
from events.registry import EventType
from tests.events.support import code_of, events_on, fields_of, types_on, until_someone_waits


class Shipped(EventType):
    """A test's declared type."""

    order: int


@pytest.fixture
def key(database):
    return ingest.make_key(name="shop", channels=["item:*", "user:7"], types=["Shipped", "Cart*"])


@pytest.fixture
def post(key):
    """Post a body as the shop does."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)

    def send(body, secret=key[1], **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
        return client.post("/api/events", data, content_type="application/json", headers={**given, **headers})

    return send


def event(n=1, *, channels=("item:42",), type="CartFilled", **more):  # noqa: A002 (the field's name)
    return {"channels": list(channels), "type": type, "data": {"n": n}, **more}


def nothing_written():
    return not Event.objects.exists()


# --- Keys -------------------------------------------------------------------------------------------


def test_a_secret_is_kept_nowhere(key):
    row, secret = key
    assert len(secret) > 40
    assert bytes(row.digest) == sha256(secret.encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute("SELECT k::text FROM events_apikey k")
        assert secret not in cursor.fetchone()[0]


@pytest.mark.parametrize("secret", [None, "", "tt_", "nope", "é", "a b"])
def test_without_a_valid_key_nothing_is_written(post, secret):
    answer = post({"events": [event()]}, secret)

    assert code_of(answer, 401) == "api_key_unknown"
    assert answer["WWW-Authenticate"] == "Bearer"
    assert nothing_written()


def test_a_session_is_no_key(users, api):
    assert code_of(api("admin").post("/api/events", {"events": [event()]}), 401) == "api_key_unknown"
    assert nothing_written()


def test_a_revoked_key_opens_nothing_any_more_and_what_it_appended_stays(post, key):
    assert post({"events": [event()]}).status_code == 201
    ingest.revoke_key(key[0])

    assert post({"events": [event()]}).status_code == 401
    assert Event.objects.count() == 1


@pytest.mark.parametrize("pattern", ["", " ", "a,b", "item:é", "x" * 183])
def test_what_is_no_pattern_makes_no_key(database, pattern):
    with pytest.raises(Invalid) as refused:
        ingest.make_key(name="x", channels=[pattern], types=["*"])
    assert refused.value.errors[0].field == "channels"
    assert not ApiKey.objects.exists()


# --- Scope -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "field"),
    [
        (event(channels=["user:8"]), "events.0.channels"),
        (event(channels=["item:42", "user:77"]), "events.0.channels"),
        (event(channels=["system"]), "events.0.channels"),
        (event(channels=["internal:access"]), "events.0.channels"),
        (event(type="Other"), "events.0.type"),
        (event(type="AccessChanged"), "events.0.type"),
        (event(type="ShippedTwice"), "events.0.type"),
    ],
)
def test_what_the_key_is_not_for_is_403_and_nothing_written(post, one, field):
    answer = post({"events": [one]})

    assert fields_of(answer, 403) == [field]
    assert answer.json()["code"] == "api_key_scope"
    assert nothing_written()


@pytest.fixture
def mighty(database):
    """A key for everything."""
    return ingest.make_key(name="all", channels=["*"], types=["*"])[1]


@pytest.mark.parametrize(
    "channel", ["internal:access", "internal:log", "nope:1", "item:0", "item:x", "job:a_b"]
)
def test_no_key_is_for_channels_that_nobody_can_read(post, mighty, channel):
    assert fields_of(post({"events": [event(channels=[channel])]}, mighty), 422) == ["events.0.channels"]
    assert nothing_written()


@pytest.mark.parametrize("name", ["CommentAdded", "JobQueued", "ItemDeleted"])
def test_no_key_is_for_what_rows_are_folded_from(post, mighty, name):
    assert fields_of(post({"events": [event(type=name)]}, mighty), 422) == ["events.0.type"]
    assert nothing_written()


@pytest.mark.parametrize("name", ["JobProgressed", "JobState"])
def test_no_key_is_for_what_is_never_in_the_log(post, mighty, name):
    assert fields_of(post({"events": [event(type=name)]}, mighty), 422) == ["events.0.type"]
    assert nothing_written()


def test_a_job_of_another_program_tells_its_life_and_one_of_ours_does_that_itself(users, post, mighty):
    ours = jobs.queue(users.alice, name="slow", params={})
    before = types_on(f"job:{ours.pk}")
    done = {"user_id": "7", "job_id": "theirs", "task_type": "thumbs", "result": [1], "duration_ms": 5}

    assert (
        post(
            {"events": [event(channels=["user:7"], type="TaskComplete") | {"data": done}]}, mighty
        ).status_code
        == 201
    )
    forged = event(channels=["user:7"], type="TaskComplete") | {"data": done | {"job_id": str(ours.pk)}}
    assert fields_of(post({"events": [forged]}, mighty), 422) == ["events.0.type"]
    said = {"job_id": str(ours.pk), "user_id": "7", "data": "I am it"}
    in_its_name = event(channels=["user:7"], type="JobSent") | {"data": said}
    assert fields_of(post({"events": [in_its_name]}, mighty), 422) == ["events.0.type"]
    nobodys = event(channels=["user:7"], type="TaskComplete") | {"data": done | {"user_id": "me"}}
    assert fields_of(post({"events": [nobodys]}, mighty), 422) == ["events.0.data.user_id"]
    intruding = event(channels=[f"job:{ours.pk}"], type="TaskComplete") | {"data": done}
    assert fields_of(post({"events": [intruding]}, mighty), 422) == ["events.0.channels"]

    assert types_on(f"job:{ours.pk}") == before
    assert types_on("user:7") == ["TaskComplete"]


# --- Appending -------------------------------------------------------------------------------------------


def test_whose_the_jobs_are_is_asked_once_for_a_request(users, post, mighty):
    ours = [str(jobs.queue(users.alice, name="slow", params={}).pk) for _ in range(3)]
    others = [str(uuid4()) for _ in range(20)]

    def told(job_id, channels):
        data = {"job_id": job_id, "user_id": "7", "data": 1}
        return {"channels": channels, "type": "JobSent", "data": data}

    with CaptureQueriesContext(connection) as queries:
        answer = post({"events": [told(each, [f"job:{each}"]) for each in others]}, mighty)
    assert answer.status_code == 201, answer.content
    assert sum("events_job" in query["sql"] for query in queries) == 1

    for wrong in (told(others[0], [f"job:{ours[2]}"]), told(ours[1], [f"job:{others[1]}"])):
        batch = [told(each, [f"job:{each}"]) for each in others[:2]] + [wrong]
        [field] = fields_of(post({"events": batch}, mighty), 422)
        assert field in ("events.2.channels", "events.2.type")


def test_a_batch_is_appended_in_its_order(post):
    answer = post({"events": [event(n) for n in range(100)]})

    assert answer.status_code == 201
    assert answer.json()["ids"] == [
        str(pk) for pk in Event.objects.order_by("id").values_list("pk", flat=True)
    ]
    assert [data["n"] for _, data in events_on("item:42")] == list(range(100))


def test_all_or_none(post):
    bad = [event(1), event(2), event(3, channels=["user:8"])]

    assert fields_of(post({"events": bad}), 403) == ["events.2.channels"]
    assert nothing_written()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"events": []}, ["events"]),
        ({"events": [event(n) for n in range(101)]}, ["events"]),
        ({}, ["events"]),
        ({"events": [{}]}, ["events.0.channels", "events.0.type", "events.0.data"]),
        ({"events": [event(type="lower")]}, ["events.0.type"]),
        ({"events": [event(channels=[])]}, ["events.0.channels"]),
        ({"events": [event(id="")]}, ["events.0.id"]),
        ({"events": [event(id="x" * 201)]}, ["events.0.id"]),
        ({"events": [event(), event() | {"data": [1]}]}, ["events.1.data"]),
        ({"events": [event() | {"data": {"a": "x\x00"}}]}, ["events.0.data.a"]),
        ({"events": [event() | {"data": {"a": {"b": [2**53]}}}]}, ["events.0.data.a.b[0]"]),
        ({"events": [event() | {"extra": 1}]}, ["events.0.extra"]),
        ({"events": [event(type="Shipped")]}, ["events.0.data.order", "events.0.data.n"]),
        ({"events": [event(type="Shipped") | {"data": {"order": "x"}}]}, ["events.0.data.order"]),
    ],
)
def test_what_is_wrong_is_named_and_nothing_written(post, body, fields):
    assert fields_of(post(body), 422) == fields
    assert nothing_written()


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b'{"events":[NaN]}', 400), (b"x" * 1_100_000, 413)]
)
def test_a_body_that_cannot_be_read_is_refused(post, body, status):
    assert post(body).status_code == status
    assert nothing_written()


def test_sent_again_an_id_is_appended_once(post):
    ids = [post({"events": [event(n, id="order-1"), event(n)]}).json()["ids"] for n in range(2)]

    assert ids[0][0] == ids[1][0]
    assert [data["n"] for _, data in events_on("item:42")] == [0, 0, 1]


def test_an_id_is_its_keys_own(post):
    other = ingest.make_key(name="other", channels=["*"], types=["*"])[1]
    for secret in (None, other):
        sent = post({"events": [event(id="1")]}, secret) if secret else post({"events": [event(id="1")]})
        assert sent.status_code == 201
    assert Event.objects.count() == 2


def test_the_same_id_sent_twice_at_once_is_appended_once(key, held, background):
    one = ingest.NewEvent.model_validate(event(id="race"))
    with held(lambda: ingest.append_all(key[0], [one])):
        second = background(lambda: ingest.append_all(key[0], [one]))
        until_someone_waits()
    assert second.result(20) == [Event.objects.get().pk]


def test_a_key_is_used_so_often_and_is_told_when_to_come_back(post, settings):
    settings.EVENTS_KEY_POSTS_PER_MINUTE = 3
    other = ingest.make_key(name="other", channels=["item:*"], types=["Cart*"])[1]
    body = {"events": [event(), event()]}
    assert [post(body).status_code for _ in range(3)] == [201] * 3

    refused = post(body)

    assert code_of(refused, 429) == "rate_limited"
    assert 1 <= int(refused["Retry-After"]) <= 20  # a third of a minute
    assert Event.objects.count() == 6
    assert post(body, other).status_code == 201, "each key is counted alone"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE events_allowance SET spent_until = spent_until - interval '20 seconds'")
    assert [post(body).status_code for _ in range(2)] == [201, 429]


def test_what_is_refused_counts_too_and_what_no_key_came_with_does_not(post, settings):
    settings.EVENTS_KEY_POSTS_PER_MINUTE = 2
    assert post({"events": []}).status_code == 422
    assert post(b"{").status_code == 400
    assert post({"events": [event()]}).status_code == 429
    assert [post({"events": [event()]}, "tt_wrong").status_code for _ in range(3)] == [401] * 3


def test_a_declared_types_data_is_as_declared(post):
    assert post({"events": [event(type="Shipped") | {"data": {"order": 3}}]}).status_code == 201
    assert events_on("item:42") == [("Shipped", {"order": 3})]


# --- The admin ------------------------------------------------------------------------------------------


def test_a_key_is_made_in_the_admin_and_shown_once(users):
    client = Client()
    client.force_login(users.admin)
    form = {"name": "shop", "channels": "item:*,user:7", "types": "Shipped"}

    shown = client.post("/admin/events/apikey/add/", form, follow=True).content.decode()

    row = ApiKey.objects.get()
    secret = shown.partition("shown only this once: ")[2].split("<")[0].strip()
    assert ingest.key_of(secret).pk == row.pk
    assert (row.channels, row.types, row.name) == (["item:*", "user:7"], ["Shipped"], "shop")
    for page in ("/admin/events/apikey/", f"/admin/events/apikey/{row.pk}/change/"):
        assert secret not in client.get(page).content.decode()


def test_what_is_no_pattern_is_refused_in_the_admin(users):
    client = Client()
    client.force_login(users.admin)

    answer = client.post("/admin/events/apikey/add/", {"name": "x", "channels": "a b", "types": "*"})

    assert b"is no pattern" in answer.content
    assert not ApiKey.objects.exists()


def test_a_key_is_revoked_in_the_admin(users, key):
    client = Client()
    client.force_login(users.admin)
    chosen = {"action": "revoke", "_selected_action": [key[0].pk]}

    assert b"open nothing any more" in client.post("/admin/events/apikey/", chosen, follow=True).content
    with pytest.raises(ingest.KeyUnknown):
        ingest.key_of(key[1])


def test_staff_without_the_permission_make_and_revoke_no_keys(users, key):
    users.bob.is_staff = True
    users.bob.save()
    client = Client()
    client.force_login(users.bob)

    assert (
        client.post("/admin/events/apikey/add/", {"name": "x", "channels": "*", "types": "*"}).status_code
        == 403
    )
    client.post("/admin/events/apikey/", {"action": "revoke", "_selected_action": [key[0].pk]})
    assert ingest.key_of(key[1]).pk == key[0].pk
    assert ApiKey.objects.count() == 1


def test_the_log_names_no_secret(post, key, caplog):
    post({"events": [event()]})
    post({"events": [event(channels=["user:8"])]})
    post({"events": [event()]}, key[1] + "x")

    assert key[1] not in caplog.text

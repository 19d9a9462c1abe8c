"""Errors over HTTP: problem+json from whatever part of the house they come."""

import json
import logging
import time

import pytest
from django.db import OperationalError, connection
from django.test import Client, RequestFactory, override_settings

from events import items
from events.errors import ChannelForbidden, FieldError, Invalid
from events.http import problem, problems, translate
from tests.events.support import code_of, fields_of


class answer_of:  # noqa: N801 (reads as a function)
    """A bare response with what a test client's answers have."""

    def __init__(self, response):
        self.response, self.status_code, self.content = response, response.status_code, response.content

    def __getitem__(self, name):
        return self.response[name]

    def json(self):
        return json.loads(self.content)


def test_an_error_tells_itself():
    answer = problem(Invalid("Both.", errors=(FieldError("a", "is bad"), FieldError("b", "is worse"))))

    assert fields_of(answer_of(answer), 422) == ["a", "b"]
    assert b'"title": "Some fields were refused."' in answer.content
    assert b'"detail": "Both."' in answer.content
    assert code_of(answer_of(problem(ChannelForbidden())), 403) == "channel_forbidden"


def test_an_unknown_address_is_a_problem(users, api):
    assert code_of(api().get("/api/nothing"), 404) == "not_found"
    assert code_of(api().get("/api/nothing", Accept="text/html"), 404) == "not_found"
    assert code_of(api().get("/streams/nothing", Accept="text/html"), 404) == "not_found"
    assert code_of(api().get("/nothing"), 404) == "not_found"


def test_a_person_elsewhere_keeps_a_page(users, api):
    answer = api().get("/nothing", Accept="text/html,*/*;q=0.8")

    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/session", {"GET", "POST", "DELETE"}),
        ("DELETE", "/api/items", {"GET", "POST"}),
        ("POST", "/api/items/1", {"GET", "PATCH", "DELETE"}),
        ("GET", "/api/items/1/members/1", {"PUT", "DELETE"}),
        ("TRACE", "/api/items", {"GET", "POST"}),
    ],
)
def test_a_method_that_is_not_taken_says_which_are(users, api, method, path, allowed):
    answer = api("alice").send(method, path)

    assert code_of(answer, 405) == "method_not_allowed"
    assert set(answer["Allow"].split(", ")) == allowed


@override_settings(ALLOWED_HOSTS=["tickertape.example"])
def test_another_host_is_a_problem(users):
    answer = Client(raise_request_exception=False).get("/api/items", headers={"Host": "evil.example"})

    assert code_of(answer, 400) == "bad_request"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_a_body_that_is_not_said_to_be_json_is_refused(users, api, item, kind):
    client = api("bob")
    answer = client.client.generic(
        "POST", f"/api/items/{item.pk}/comments", b'{"text":"x"}', content_type=kind, headers=client.headers
    )

    assert code_of(answer, 415) == "unsupported_media_type"


def test_json_may_name_its_charset(users, api, item):
    client = api("bob")
    answer = client.client.post(
        f"/api/items/{item.pk}/comments",
        {"text": "x"},
        content_type="application/json; charset=utf-8",
        headers=client.headers,
    )

    assert answer.status_code == 201


def test_a_form_that_is_too_large_is_413(users, api, item):
    client = api("bob")
    answer = client.client.generic(
        "POST",
        f"/api/items/{item.pk}/comments",
        b"x=" + b"y" * 1_100_000,
        content_type="application/x-www-form-urlencoded",
        headers=client.headers,
    )

    assert code_of(answer, 413) == "payload_too_large"


def test_a_database_that_is_away_is_503_at_once_and_heals(users, api, item, monkeypatch, caplog):
    client = api("bob")
    connection.close()
    port = connection.settings_dict["PORT"]
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")  # where nothing listens
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        answers = [
            client.get("/api/items"),
            client.post(f"/api/items/{item.pk}/comments", {"text": "not for the log's eyes"}),
            client.post("/api/session", {"username": "bob", "password": "demo-bob"}),
        ]

    assert time.monotonic() - began < 8
    for answer in answers:
        assert code_of(answer, 503) == "unavailable"
        assert int(answer["Retry-After"]) > 0
    assert "not for the log's eyes" not in caplog.text
    assert "demo-bob" not in caplog.text
    monkeypatch.setitem(connection.settings_dict, "PORT", port)
    connection.close()
    assert client.get("/api/items").status_code == 200


def test_a_503_to_a_post_says_whether_it_is_safe_to_send_again(users, api, item, monkeypatch):
    client = api("bob")
    path = f"/api/items/{item.pk}/comments"
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")  # where nothing listens

    assert "Idempotency-Key" in client.post(path, {"text": "x"}).json()["detail"]
    assert "Idempotency-Key" not in client.post(path, {"text": "x"}, Idempotency_Key="1").json()["detail"]
    assert "Idempotency-Key" not in client.get(path).json()["detail"]
    monkeypatch.undo()
    connection.close()


def test_a_database_lost_outside_of_a_view_is_503_too():
    def lost(request):
        from events.http import server_fault

        try:
            raise OperationalError
        except OperationalError:
            return server_fault(request)

    answer = problems(lost)(RequestFactory().get("/api/items"))

    assert code_of(answer_of(answer), 503) == "unavailable"


def test_what_nobody_foresaw_is_a_problem_and_in_the_log(users, api, item, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("with a secret in it")

    monkeypatch.setattr(items, "get_item", broken)
    answer = api("bob").get(f"/api/items/{item.pk}")

    assert code_of(answer, 500) == "server_fault"
    assert b"secret" not in answer.content
    assert "ZeroDivisionError" in caplog.text


async def test_the_middleware_serves_async_views_as_they_are():
    from django.http import HttpResponseNotFound

    async def view(request):
        return HttpResponseNotFound()

    answer = await problems(view)(RequestFactory().get("/streams/items/x/"))

    assert code_of(answer_of(answer), 404) == "not_found"


def test_a_library_text_never_reaches_a_client():
    assert "secret" not in translate(OperationalError("host secret")).detail
    assert "secret" not in translate(ValueError("secret")).detail


def test_the_api_describes_itself(users, api):
    schema = api().get("/api/openapi.json").json()

    assert set(schema["paths"]) == {
        "/api/session",
        "/api/items",
        "/api/items/{item_id}",
        "/api/items/{item_id}/members/{user_id}",
        "/api/items/{item_id}/comments",
        "/api/items/{item_id}/watch",
        "/api/items/{item_id}/mute",
        "/api/items/{item_id}/seen",
        "/api/comments/{comment_id}",
        "/api/notifications",
        "/api/notifications/count",
        "/api/notifications/read-all",
        "/api/notifications/{notification_id}/read",
        "/api/notifications/{notification_id}/unread",
        "/api/notifications/{notification_id}/archive",
        "/api/preferences",
        "/api/broadcasts",
        "/api/broadcasts/active",
        "/api/broadcasts/estimate",
        "/api/broadcasts/{broadcast_id}",
        "/api/broadcasts/{broadcast_id}/dismiss",
        "/api/jobs",
        "/api/jobs/{name}",
        "/api/jobs/{name}/file",
        "/api/events",
        "/api/items/{item_id}/presence",
        "/api/tokens",
        "/streams/",
        "/streams/me/",
        "/streams/items/{item_id}/",
        "/streams/jobs/{job_id}/",
        "/streams/poll/",
    }
    post = schema["paths"]["/api/items/{item_id}/comments"]["post"]
    assert {each["name"] for each in post["parameters"]} == {"item_id", "Idempotency-Key"}
    answers = post["responses"]
    assert "201" in answers
    assert answers["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    assert schema["components"]["securitySchemes"]["Session"]["in"] == "cookie"


def test_the_api_page_comes_from_this_server_alone(users, api):
    page = api().get("/api/docs", Accept="text/html").content.decode()

    assert "swagger-ui" in page
    assert "http://" not in page
    assert "https://" not in page

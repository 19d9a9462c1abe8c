"""Idempotency-Key: sent again, a POST has one effect and the same answer."""

from datetime import timedelta
from threading import Event

import pytest
from django.db import transaction
from django.utils import timezone

from events.models import Comment, IdempotencyKey, Item
from tests.events.support import code_of, fields_of, types_on, until_someone_waits


def post(client, item, text="Once", key="k-1"):
    return client.post(f"/api/items/{item.pk}/comments", {"text": text}, Idempotency_Key=key)


def test_sent_again_it_has_one_effect_and_the_same_answer(users, api, item):
    client = api("bob")
    first, second = post(client, item), post(client, item)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert Comment.objects.count() == 1
    assert types_on(f"item:{item.pk}") == ["ItemCreated", "CommentAdded"]


def test_items_too(users, api):
    client = api("bob")
    answers = [client.post("/api/items", {"title": "x"}, Idempotency_Key="k") for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert Item.objects.count() == 1


def test_without_a_key_there_are_two_effects(users, api, item):
    client = api("bob")
    for _ in range(2):
        client.post(f"/api/items/{item.pk}/comments", {"text": "Twice"})

    assert Comment.objects.count() == 2


def test_a_key_for_another_request_is_refused(users, api, item):
    client = api("bob")
    post(client, item)

    assert code_of(post(client, item, text="Another"), 422) == "idempotency_mismatch"
    other = client.post("/api/items", {"text": "Once"}, Idempotency_Key="k-1")
    assert other.status_code == 422
    assert Comment.objects.count() == 1


def test_a_key_is_its_users_own(users, api, item):
    post(api("bob"), item)
    post(api("carol"), item)

    assert Comment.objects.count() == 2


def test_a_refused_request_does_not_use_its_key_up(users, api, item):
    client = api("bob")
    assert post(client, item, text=" ").status_code == 422
    assert post(client, item, text="Better").status_code == 201

    assert Comment.objects.get().text == "Better"


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é"])
def test_a_malformed_key_is_refused(users, api, item, key):
    assert fields_of(post(api("bob"), item, key=key), 400) == ["Idempotency-Key"]
    assert not Comment.objects.exists()


def test_two_at_once_have_one_effect(users, api, item, held, background):
    first, second = api("bob"), api("bob")
    answers = []
    with held(lambda: answers.append(post(first, item))):
        waiting = background(lambda: post(second, item))
        until_someone_waits()
    answers.append(waiting.result(20))

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert Comment.objects.count() == 1


def test_one_that_waited_for_another_that_failed_has_the_effect(users, api, item, background):
    began, fail = Event(), Event()

    def failing():
        client = api("bob")
        with transaction.atomic():
            post(client, item)
            began.set()
            assert fail.wait(20)
            transaction.set_rollback(True)

    first = background(failing)
    assert began.wait(20)
    second_client = api("bob")
    second = background(lambda: post(second_client, item))
    until_someone_waits()
    fail.set()
    first.result(20)

    assert second.result(20).status_code == 201
    assert Comment.objects.count() == 1


def test_a_key_is_forgotten_after_a_day(users, api, item):
    client = api("bob")
    post(client, item)
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    post(client, item, text="A new day")

    assert Comment.objects.count() == 2
    assert IdempotencyKey.objects.count() == 1

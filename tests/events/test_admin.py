"""The admin looks at the log and changes nothing of it."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client


@pytest.fixture
def site(users, comment):
    root = get_user_model().objects.create_superuser("root", password="x")
    client = Client()
    client.force_login(root)
    return client


@pytest.mark.parametrize("model", ["event", "item", "comment"])
def test_staff_look(site, comment, model):
    listed = site.get(f"/admin/events/{model}/")

    assert listed.status_code == 200
    key = {"event": comment.event_id, "item": comment.item_id, "comment": comment.pk}[model]
    assert site.get(f"/admin/events/{model}/{key}/change/").status_code == 200
    assert site.get(f"/admin/events/{model}/?q=1").status_code == 200


@pytest.mark.parametrize("model", ["event", "item", "comment"])
def test_nobody_changes(site, comment, model):
    key = {"event": comment.event_id, "item": comment.item_id, "comment": comment.pk}[model]

    assert site.get(f"/admin/events/{model}/add/").status_code == 403
    assert site.post(f"/admin/events/{model}/{key}/change/", {"text": "x"}).status_code == 403
    assert site.post(f"/admin/events/{model}/{key}/delete/", {"post": "yes"}).status_code == 403

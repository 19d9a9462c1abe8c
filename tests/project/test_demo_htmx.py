"""The example with htmx: what it loads is what its makers published, and it may do no more than that."""

import re
from hashlib import sha256

import pytest

from events import comments, items
from events.models import Comment
from project.headers import OUR_FILES
from tests.stack import ROOT

VENDOR = ROOT / "project/static/vendor/htmx"
# Of dist/htmx.min.js of htmx 2.0.11 and of dist/sse.min.js of htmx-ext-sse 2.2.4, both 0BSD.
PUBLISHED = {
    "htmx-2.0.11.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "sse-2.2.4.min.js": "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
}


@pytest.fixture
def item(users):
    return items.create_item(users.alice, title="A <b>thing</b>")


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_vendored_is_unchanged(name):
    assert sha256((VENDOR / name).read_bytes()).hexdigest() == PUBLISHED[name]


def test_each_has_its_licence():
    for name in ("LICENSE", "LICENSE.sse"):
        assert "Permission to use, copy, modify" in (VENDOR / name).read_text()


def test_the_page_loads_files_of_ours_and_writes_no_script_or_style_into_itself(client, users, item):
    comments.add_comment(users.bob, item.pk, text="</li><script>alert(1)</script>")
    client.force_login(users.bob)
    answer = client.get(f"/demo/htmx/{item.pk}/")
    html = answer.content.decode()

    assert answer["Content-Security-Policy"] == OUR_FILES
    assert "no-store" in answer["Cache-Control"]
    assert re.findall(r"<script(.*?)>(.*?)</script>", html, re.DOTALL) == [
        *((f' defer src="/static/vendor/htmx/{name}"', "") for name in PUBLISHED),
        (' defer src="/static/project/htmx/faults.js"', ""),
    ]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<b>|hx-on", html)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', html):
        assert client.get(address).status_code == 200, address


def test_what_one_may_not_read_or_do_is_refused(client, users, item):
    assert client.get(f"/demo/htmx/{item.pk}/").status_code == 302
    client.force_login(users.bob)
    hidden = items.create_item(users.alice, title="x", visibility="members")

    assert client.get(f"/demo/htmx/{hidden.pk}/").status_code == 403
    assert client.post(f"/demo/htmx/{hidden.pk}/", {"text": "x"}).status_code == 403
    assert client.get("/demo/htmx/999999/").status_code == 404
    assert client.put(f"/demo/htmx/{item.pk}/").status_code == 405


FORM = "application/x-www-form-urlencoded"


def test_a_part_of_the_page_is_never_the_page_where_one_logs_in(client, item):
    for ask in (client.get, client.post):
        answer = ask(f"/demo/htmx/{item.pk}/", headers={"HX-Request": "true"})
        assert (answer.status_code, answer["HX-Redirect"], answer.content) == (204, "/", b"")


def test_each_form_has_a_key_of_its_own_and_a_key_one_effect(client, users, item):
    client.force_login(users.bob)
    path = f"/demo/htmx/{item.pk}/"
    keys = []
    for answer in (client.get(path), client.get(path), client.post(path, "text=other", content_type=FORM)):
        keys += re.findall(r"""hx-headers='{"Idempotency-Key": "(\w{32})"}'""", answer.content.decode())
    assert len(set(keys)) == 3

    for _ in range(2):
        client.post(path, "text=x", content_type=FORM, headers={"Idempotency-Key": keys[0]})
    refused = client.post(path, "text=y", content_type=FORM, headers={"Idempotency-Key": keys[0]})

    assert "was added already" in refused.content.decode()
    assert keys[0] not in refused.content.decode()
    assert [row.text for row in Comment.objects.order_by("event_id")] == ["other", "x"]

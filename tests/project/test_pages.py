"""The page's document: who it says is logged in, what it lets in, and that its files are there."""

import json
import re
from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import User

from project import pages
from project.management.commands import demo


class Document(HTMLParser):
    """The elements of a page that load or run something, and the data for its script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self.boot = ""
        self._reading = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "link" or (tag == "script" and "src" in given):
            self.addresses.append(given.get("href") or given["src"])
        elif tag == "style" or (tag == "script" and given.get("type") != "application/json"):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self._reading = given.get("id") == "boot"

    def handle_data(self, data):
        if self._reading:
            self.boot += data

    def handle_endtag(self, tag):
        self._reading = False


def boot(response):
    return json.loads(Document(response.content.decode()).boot)


@pytest.mark.parametrize("address", ["/", "/items/1", "/items/999999"])
def test_every_address_of_the_page_answers_with_it(client, address):
    response = client.get(address)

    assert response.status_code == 200
    assert boot(response) == {"user": None, "demo_users": [], "demo_jobs": True}
    assert response["Content-Security-Policy"] == pages.CONTENT_SECURITY_POLICY
    assert "no-store" in response["Cache-Control"]
    assert "csrftoken" in response.cookies


def test_who_mistypes_an_address_finds_the_way_back(client):
    response = client.get("/itms/1", headers={"Accept": "text/html,*/*"})

    assert response.status_code == 404
    assert '<a href="/">' in response.content.decode()
    assert response["Content-Security-Policy"] == pages.CONTENT_SECURITY_POLICY
    assert client.get("/itms/1").json()["code"] == "not_found"


def test_the_demos_jobs_are_offered_where_there_are_any(client, settings):
    settings.PRODUCTION = True
    assert boot(client.get("/"))["demo_jobs"] is False


def test_the_page_is_only_read(client):
    assert client.head("/").status_code == 200
    assert client.post("/").status_code == 405
    assert client.get("/items/one").status_code == 404


def test_the_page_says_who_is_logged_in(client, users):
    client.force_login(users.bob)

    assert boot(client.get("/"))["user"] == {"id": str(users.bob.pk), "username": "bob"}


def test_a_users_name_stays_data(client, database):
    name = "</script><script>alert(1)</script>&amp;\u2028"
    client.force_login(User.objects.create_user(name))

    response = client.get("/")

    assert boot(response)["user"]["username"] == name
    assert Document(response.content.decode()).inline == []


def test_in_demo_mode_the_page_offers_users_who_can_log_in(client, database, settings):
    settings.MODE = "demo"
    demo.fill()

    offered = boot(client.get("/"))["demo_users"]

    assert [each["username"] for each in offered] == ["alice", "bob", "carol"]
    for each in offered:
        assert client.post("/api/session", each, content_type="application/json").status_code == 200


def test_everything_the_page_loads_is_here_and_every_module_is_announced(client):
    addresses = Document(client.get("/").content.decode()).addresses

    sources = {}
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200, address
        sources[address] = b"".join(response).decode()

    imported = {
        f"/static/project/{name}"
        for source in sources.values()
        for name in re.findall(r'from "\./([a-z]+\.js)"', source)
    }
    assert len(imported) > 5
    assert imported <= set(addresses)

"""The documented example of an app with events of its own: its very words, as an app of a real service."""

import re

import pytest

from tests.stack import ROOT, Stack, listening

DOCUMENT = (ROOT / "docs/your-own-events.md").read_text()
APP, TOPIC, IMPORTS, TOGETHER, LATER = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
ONE_BY_ONE = TOPIC[TOPIC.index("@reaction") : TOPIC.index("def owner_only")]
SETTINGS = """from project.settings import *
from project.settings import INSTALLED_APPS as OURS
INSTALLED_APPS = [*OURS, "shop"]
"""


@pytest.fixture(params=[ONE_BY_ONE, TOGETHER], ids=["one by one", "together"])
def topic(request):
    """The topic's file, with its reaction in either form."""
    return TOPIC.replace(ONE_BY_ONE, request.param + "\n\n")


@pytest.fixture
def shop(postgres, valkey, tmp_path, topic):
    """A stack with the app, which lies in `tmp_path / "shop"`."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").write_text("")
    (tmp_path / "shop/apps.py").write_text(APP)
    (tmp_path / "shop/orders.py").write_text(f"{IMPORTS}\n\n{topic}")
    (tmp_path / "shop_settings.py").write_text(SETTINGS)
    stack = Stack(
        postgres, valkey, tmp_path, name="shop",
        DJANGO_SETTINGS_MODULE="shop_settings", PYTHONPATH=f"{tmp_path}:{ROOT}", PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    with stack:
        stack.start("daphne", "worker")
        yield stack


def order(stack, user, number):
    code = (
        "from django.contrib.auth.models import User; from shop.orders import place_order;"
        f"place_order(User.objects.get(pk={user}), {number!r})"
    )
    stack.manage("shell", "--verbosity=0", "-c", code)


def test_the_example_is_short():
    assert len([line for line in TOPIC.splitlines() if line.strip()]) < 20


def test_the_example_works_and_so_does_its_next_version(shop, topic, tmp_path):
    alice, bob = shop.login("alice"), shop.login("bob")
    user = alice.get("/api/session").json()["user"]["id"]
    path = f"/streams/?channel=shop:{user}"
    with listening(alice, path) as stream:
        order(shop, user, "A-7")
        got = stream.take(2)

    assert [(each.event, each.data) for each in got] == [
        ("OrderPlaced", {"order": "A-7"}),
        ("OrderConfirmed", {"order": "A-7"}),
    ]
    assert bob.get(path).status_code == 403
    described = alice.get("/api/asyncapi.json").json()
    assert set(described["channels"]["shop"]["messages"]) >= {"OrderPlaced", "OrderConfirmed"}
    assert described["components"]["messages"]["OrderPlaced"]["examples"] == [{"payload": {"order": "A-7"}}]
    assert "A user's orders. They alone read it." in alice.get("/events/").text.replace("&#x27;", "'")

    shop.stop("daphne")
    rest = topic[topic.index("class OrderConfirmed") :]
    (tmp_path / "shop/orders.py").write_text(f"{IMPORTS}\n\n{LATER}\n\n{rest}")
    shop.start("daphne")
    with listening(alice, path, last_event_id="earliest") as stream:
        again = stream.take(2)

    assert [(each.event, each.data, each.id) for each in again] == [
        ("OrderPlaced", {"order": "A-7", "parcels": 1}, got[0].id),
        ("OrderConfirmed", {"order": "A-7"}, got[1].id),
    ]

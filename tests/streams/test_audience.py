"""The audience: found by what they read and who they are, so that a change costs its own readers."""

import pytest

from events.access import AccessChanged
from events.channels import Channel
from streams.audience import Audience
from streams.subscriber import Reader, Subscriber

PEOPLE = [
    ("7", "one", {"item:1", "user:7"}),
    ("7", "two", {"item:2"}),
    ("8", "three", {"item:1", "item:2"}),
    ("9", None, {"item:3"}),
]


@pytest.fixture
def asked(monkeypatch):
    """Who was asked about a change of access."""
    asked = []
    heed = Subscriber.heed
    monkeypatch.setattr(Subscriber, "heed", lambda self, changed: (asked.append(self), heed(self, changed)))
    return asked


@pytest.fixture
def people(hub):
    """An audience, and those in it."""
    audience = Audience(permitted=None)
    there = [
        Subscriber(hub, frozenset(map(Channel, channels)), Reader(user, session), since=hub.cursor)
        for user, session, channels in PEOPLE
    ]
    for subscriber in there:
        audience.add(subscriber)
    return audience, there


@pytest.mark.parametrize(
    ("fields", "ended", "bothered"),
    [
        ({"user_id": "7"}, [0, 1], 2),
        ({"channel": "item:1"}, [0, 2], 2),
        ({"session": "three"}, [2], 1),
        ({"user_id": "7", "channel": "item:1"}, [0], 2),
        ({"user_id": "7", "channel": "item:3"}, [], 1),
        ({"user_id": "7", "session": "three"}, [], 1),
        ({"user_id": "nobody"}, [], 0),
        ({"channel": "item:99"}, [], 0),
        ({}, [0, 1, 2, 3], 4),
    ],
)
async def test_a_change_of_access_ends_whom_it_concerns_and_bothers_nobody_else(
    people, asked, fields, ended, bothered
):
    audience, there = people
    audience.heed(AccessChanged(reason="test", **fields))
    assert [n for n, subscriber in enumerate(there) if subscriber._ended] == ended
    assert len(asked) == bothered


async def test_who_leaves_leaves_nothing_behind(people):
    audience, there = people
    assert set(audience.of("item:1")) == {there[0], there[2]}
    for subscriber in there:
        audience.discard(subscriber)
        audience.discard(subscriber)
    assert (len(audience), list(audience.of("item:1")), audience._by) == (0, [], {})

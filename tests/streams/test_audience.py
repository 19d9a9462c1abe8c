"""The audience: found by what they read and who they are, so that a change costs its own readers."""

import pytest

from events.access import AccessChanged
from events.channels import Channel
from streams.audience import Audience
from streams.reader import Reader
from streams.subscriber import Subscriber

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


async def test_it_is_deserted_when_nobody_is_there_nor_was_a_moment_ago(people, monkeypatch):
    """Else who polls would be nobody between two polls."""
    assert Audience(permitted=None).deserted()
    audience, there = people
    monkeypatch.setattr("streams.audience.DESERTED_SECONDS", 600)
    assert not audience.deserted()
    for subscriber in there:
        audience.discard(subscriber)
        assert not audience.deserted()
    monkeypatch.setattr("streams.audience.DESERTED_SECONDS", 0)
    assert audience.deserted()


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


# --- Room ----------------------------------------------------------------------------------------


@pytest.fixture
def few(settings):
    settings.STREAMS_MAX_CONNECTIONS = 6
    settings.STREAMS_MAX_PER_USER = 3
    settings.STREAMS_MAX_PER_ADDRESS = 4
    settings.STREAMS_MAX_PER_CHANNEL = 2
    return settings


def anyone(n):
    """Return who shares nothing with others but the process."""
    return {"user_id": f"u{n}", "address": f"192.0.2.{n}", "channels": [f"item:{n}", "system"]}


@pytest.mark.parametrize(
    ("limit", "shared"),
    [
        ("STREAMS_MAX_CONNECTIONS", {}),
        ("STREAMS_MAX_PER_USER", {"user_id": "7"}),
        ("STREAMS_MAX_PER_ADDRESS", {"address": "192.0.2.7"}),
        ("STREAMS_MAX_PER_CHANNEL", {"channels": ["system", "item:7"]}),
    ],
)
async def test_there_is_room_for_so_many_and_again_when_one_left(hub, few, limit, shared):
    most = getattr(few, limit)
    everyone = [anyone(n) | shared for n in range(most + 1)]

    def enter(user_id, address, channels):
        names = frozenset(map(Channel, channels))
        return Subscriber(hub, names, Reader(user_id), since=hub.cursor, address=address)

    crowd = [enter(**each) for each in everyone]
    opened = [subscriber.chunks(None) for subscriber in crowd]
    for chunks in opened[:most]:
        assert b"event: stream.open\n" in await anext(chunks)

    [refusal] = [chunk async for chunk in opened[most]]
    assert b'event: stream.end\ndata: {"reason":"capacity"}\n' in refusal
    # Longer than the usual wait, and not the same for all.
    usual = few.STREAMS_RETRY_SECONDS * 1000
    assert usual * 2 < int(refusal.partition(b"retry: ")[2].partition(b"\n")[0]) < usual * 10
    assert hub.connections == most

    await opened[0].aclose()
    again = enter(**everyone[most]).chunks(None)
    assert b"event: stream.open\n" in await anext(again)
    for chunks in [again, *opened[1:most]]:
        await chunks.aclose()
    assert hub.connections == 0
    assert not hub.audience._by


async def test_0_is_no_limit_and_who_has_no_address_is_not_counted_by_it(hub, few):
    few.STREAMS_MAX_PER_USER = few.STREAMS_MAX_PER_CHANNEL = 0
    audience = Audience(permitted=None)
    crowd = [Subscriber(hub, frozenset([Channel("item:1")]), Reader("7"), since=hub.cursor) for _ in range(6)]

    assert [audience.add(each) for each in crowd] == [True] * 6


async def test_a_stream_that_fails_leaves_no_count_behind(hub, few, subscribe, monkeypatch):
    async def broken(self, last_event_id):
        raise ZeroDivisionError

    with monkeypatch.context() as broke:
        broke.setattr(Subscriber, "_open", broken)
        for _ in range(few.STREAMS_MAX_PER_USER + 1):
            async with subscribe("item:1") as stream:
                with pytest.raises(ZeroDivisionError):
                    await stream.frame()
    async with subscribe("item:1") as stream:
        assert (await stream.frame()).event == "stream.open"

"""What a poll answers that ends before it begins."""

import json

import pytest

from events.channels import Channel
from events.cursor import Cursor
from streams import poll
from streams.reader import Reader
from streams.subscriber import Subscriber
from tests.streams.conftest import ITEM


@pytest.fixture
def answered(hub):
    async def answer(after):
        """Poll as one of whom something changed while it was asked whether they may read."""
        since = Cursor("0000", 0)
        found = await poll._answer(
            Subscriber(hub, frozenset([Channel(ITEM)]), Reader("7"), since=since), after
        )
        return found.status_code, json.loads(found.content).get("cursor")

    return answer


async def test_who_stands_somewhere_stands_there_and_asks_again(answered):
    assert await answered("0123456789-5") == (200, "0123456789-5")


@pytest.mark.parametrize("after", [None, "", "earliest", 'x","cursor":"y'])
async def test_who_stands_nowhere_yet_is_asked_to_come_again(answered, after):
    assert await answered(after) == (503, None)

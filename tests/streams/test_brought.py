"""What a connection remembers of what it brought, against one that remembers everything."""

import random

import pytest

from streams import brought
from streams.brought import Brought

CHANNELS = ["item:1", "item:2", "item:3", "item:4"]


class Everything:
    """What came, event by event."""

    def __init__(self) -> None:
        self.came: set[tuple[int, str]] = set()

    def has(self, position: int, channels: list[str]) -> bool:
        return any((position, channel) in self.came for channel in channels)


@pytest.mark.parametrize("most", [3, 1_000])
@pytest.mark.parametrize("seed", range(20))
def test_it_knows_above_its_floor_what_came_whatever_was_read_when(monkeypatch, seed, most):
    monkeypatch.setattr(brought, "MOST", most)
    chance = random.Random(seed)
    known, everything = Brought(), Everything()
    place = 0
    reading = {CHANNELS[0]}
    known.begin(reading, place)
    for _ in range(60):
        passed = range(place + 1, place + 1 + chance.randrange(4))
        everything.came |= {(position, channel) for position in passed for channel in reading}
        place += len(passed)
        changing = set(chance.sample(CHANNELS, chance.randrange(1, 3)))
        dropped, added = reading & changing, changing - reading
        known.drop(dropped, place)
        known.add(added, place)
        after = chance.randrange(known.floor, place + 1)
        if chance.random() < 0.7:  # else it was reset, and nothing of it came
            known.add(added, after)
            everything.came |= {
                (position, channel) for position in range(after + 1, place + 1) for channel in added
            }
        reading = (reading - dropped) | added
        for position in range(known.floor + 1, place + 1):
            for channel in CHANNELS:
                assert known.has(position, [channel]) == everything.has(position, [channel])
            assert known.has(position, CHANNELS[:2]) == everything.has(position, CHANNELS[:2])
        assert sum(map(len, known._dropped.values())) <= most
    assert (known.floor > 0) == (most == 3)


def test_a_channel_that_comes_and_goes_takes_no_more_room_each_time():
    known = Brought()
    known.begin(CHANNELS, 0)
    for place in range(1, 1_000):
        known.drop(CHANNELS[:1], place)
        known.add(CHANNELS[:1], place)
    known.drop(CHANNELS[:1], 1_000)

    assert known._dropped == {CHANNELS[0]: [(0, 1_000)]}
    assert known.floor == 0

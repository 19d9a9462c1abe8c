"""Questions of a crowd are put as one, and each gets its own answer."""

import asyncio
import itertools
import time

import psycopg
import pytest

from streams import together
from streams.together import Together


class Asked:
    """Answers by tenfold, and keeps what was put."""

    def __init__(self) -> None:
        self.put: list[list[int]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None  # of what has a 13 in it

    async def __call__(self, questions: list[int]) -> list[int]:
        self.put.append(questions)
        await self.go.wait()
        if self.error is not None and 13 in questions:
            raise self.error
        return [10 * each for each in questions]


async def test_what_is_asked_at_once_is_put_as_one():
    asked = Asked()
    desk = Together(asked)
    assert await asyncio.gather(*(desk.ask(number) for number in range(5))) == [0, 10, 20, 30, 40]
    assert asked.put == [[0, 1, 2, 3, 4]]
    assert await desk.ask(5) == 50
    assert asked.put[1:] == [[5]]


async def test_who_comes_with_each_turn_of_the_loop_is_waited_for(monkeypatch):
    monkeypatch.setattr(together, "LONGEST_SECONDS", 60.0)
    asked = Asked()
    desk = Together(asked)
    asking = []
    for number in range(10):
        asking.append(asyncio.ensure_future(desk.ask(number)))
        await asyncio.sleep(0)
    assert await asyncio.gather(*asking) == [10 * number for number in range(10)]
    assert asked.put == [list(range(10))]


async def test_who_asks_while_a_question_is_out_is_not_answered_by_it():
    """What was decided before they asked may be too old for them."""
    asked = Asked()
    desk = Together(asked)
    asked.go.clear()
    first = asyncio.ensure_future(desk.ask(1))
    while not asked.put:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(desk.ask(1))
    while len(asked.put) < 2:
        await asyncio.sleep(0)
    asked.go.set()
    assert await asyncio.gather(first, second) == [10, 10]


async def test_there_is_an_end_to_waiting_and_to_what_is_put_as_one():
    asked = Asked()
    desk = Together(asked)
    asking = []
    numbers = itertools.count()
    since = time.monotonic()
    while not asked.put:  # another with every turn, for as long as it takes
        asking.append(asyncio.ensure_future(desk.ask(next(numbers))))
        await asyncio.sleep(0)
    assert time.monotonic() - since < 1.0
    assert len(asked.put[0]) <= together.MOST
    assert await asyncio.gather(*asking) == [10 * number for number in range(len(asking))]


@pytest.mark.parametrize("error", [psycopg.DataError("no"), ValueError("no")])
async def test_what_is_not_understood_is_nobody_elses_fault(error):
    asked = Asked()
    asked.error = error
    desk = Together(asked)
    answers = await asyncio.gather(*(desk.ask(number) for number in (12, 13, 14)), return_exceptions=True)
    assert answers == [120, error, 140]
    assert asked.put == [[12, 13, 14], [12], [13], [14]]


async def test_a_database_that_is_away_is_asked_once():
    asked = Asked()
    asked.error = psycopg.OperationalError("away")
    desk = Together(asked)
    answers = await asyncio.gather(*(desk.ask(number) for number in (12, 13)), return_exceptions=True)
    assert answers == [asked.error, asked.error]
    assert asked.put == [[12, 13]]


async def test_who_leaves_takes_nobody_along():
    asked = Asked()
    desk = Together(asked)
    asked.go.clear()
    asking = [asyncio.ensure_future(desk.ask(number)) for number in range(3)]
    while not asked.put:
        await asyncio.sleep(0)
    asking[0].cancel()
    asked.go.set()
    assert await asyncio.gather(*asking[1:]) == [10, 20]
    assert asking[0].cancelled()

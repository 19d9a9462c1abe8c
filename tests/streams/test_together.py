"""Questions of a crowd are put as one, and each gets its own answer."""

import asyncio
import itertools

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
    async with asyncio.timeout(20):
        while not asked.put:  # another with every turn, for as long as it takes
            asking.append(asyncio.ensure_future(desk.ask(next(numbers))))
            await asyncio.sleep(0)
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


async def test_a_crowd_is_put_in_parts_of_bounded_size():
    asked = Asked()
    desk = Together(asked)
    assert await asyncio.gather(*map(desk.ask, range(1_000))) == [10 * number for number in range(1_000)]
    assert max(map(len, asked.put)) == together.MOST


async def test_where_the_database_goes_away_meanwhile_nothing_more_is_put():
    asked = Asked()
    asked.error = psycopg.DataError("no")
    desk = Together(asked)

    async def gone(questions):
        asked.put.append(questions)
        raise TimeoutError if len(asked.put) == 3 else asked.error

    desk._put = gone
    answers = await asyncio.gather(*map(desk.ask, range(10)), return_exceptions=True)
    assert [type(each) for each in answers] == [psycopg.DataError, *[TimeoutError] * 9]
    assert asked.put == [[*range(10)], [0], [1]]


@pytest.mark.parametrize("how", ["is cancelled", "says too little"])
async def test_nobody_waits_for_a_question_that_will_not_be_answered(how):
    asked = Asked()
    asked.go.clear()
    desk = Together(asked)
    asking = [asyncio.ensure_future(desk.ask(number)) for number in range(3)]
    while not asked.put:
        await asyncio.sleep(0)
    if how == "is cancelled":
        for task in desk._tasks:
            task.cancel()
    else:
        asked.put[0].clear()
        asked.go.set()
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in answers] == [psycopg.OperationalError] * 3

"""Questions that come at about the same moment, put to the database as one.

Most of what a small question costs a process is to send it, and to be woken by its answer. A crowd that opens
streams asks the same of each, so whoever asks is waited for as long as each turn of the loop brings another.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import psycopg

from streams.behind import DATABASE_AWAY

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Asked = tuple[Question, asyncio.Future[Answer]]

MOST = 64  # questions in a statement
QUIET_TURNS = 2  # of the loop: a connection that was taken in one is read in the next
LONGEST_SECONDS = 0.005  # that the first of them waits, give or take a turn


class Together(Generic[Question, Answer]):
    """Puts questions of one kind."""

    def __init__(self, put: Callable[[list[Question]], Awaitable[list[Answer]]]) -> None:
        self._put = put  # returns the answers in the order of the questions
        self._asked: list[Asked[Question, Answer]] = []
        self._since = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: Question) -> Answer:
        """Return the answer to a question that is put after this was called; raise what `put` does.

        What is not understood (a psycopg.Error or ValueError) is put again, each by itself: it is nobody
        else's fault. What takes too long is: a database that is away does, too.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._asked.append((question, future))
        if len(self._asked) == 1:
            self._since = time.monotonic()
            loop.call_soon(self._look, 1, 0)
        return await future

    def _look(self, seen: int, quiet: int) -> None:
        """Put what was asked, once nobody else asks."""
        number = len(self._asked)
        quiet = quiet + 1 if number == seen else 0
        if quiet < QUIET_TURNS and number < MOST and time.monotonic() - self._since < LONGEST_SECONDS:
            asyncio.get_running_loop().call_soon(self._look, number, quiet)
            return
        for first in range(0, number, MOST):
            task = asyncio.ensure_future(self._answer(self._asked[first : first + MOST]))
            self._tasks.add(task)  # or nobody would hold it
            task.add_done_callback(self._tasks.discard)
        self._asked = []

    async def _answer(self, asked: "list[Asked[Question, Answer]]") -> None:
        try:
            said = await self._try(asked)
            if len(asked) > 1 and isinstance(said, psycopg.Error | ValueError):
                for each in asked:
                    if isinstance(said, DATABASE_AWAY):
                        break
                    said = await self._try([each])
                    _tell([each], said)
            _tell(asked, said)
        finally:  # also of a task that was cancelled: nobody may wait for ever
            _tell(asked, psycopg.OperationalError("not answered"))

    async def _try(self, asked: "list[Asked[Question, Answer]]") -> list[Answer] | Exception:
        try:
            return await self._put([question for question, _ in asked])
        except Exception as error:
            return error


def _tell(asked: "list[Asked[Question, Answer]]", said: list[Answer] | Exception) -> None:
    """Give each their answer, or why there is none; who asked may have left."""
    for number, (_, future) in enumerate(asked):
        if not future.done():
            if isinstance(said, Exception):
                future.set_exception(said)
            else:
                future.set_result(said[number])

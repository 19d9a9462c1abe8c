"""Who is listening: the open streams' subscribers, found by what they read and by who they are.

What concerns one channel, user or session costs its own readers, whoever else is here. All of
it is synchronous but the recheck, so nobody comes or goes while something is handed out.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator

from django.conf import settings
from django.db import InterfaceError, OperationalError

from events.access import AccessChanged
from events.channels import SYSTEM, Channel
from streams.connection import Sink
from streams.reader import Reader
from streams.subscriber import Subscriber

logger = logging.getLogger(__name__)

AT_ONCE = 32  # streams of which it is asked whether they are still permitted
AWAY = (OperationalError, InterfaceError)
AGAIN_SECONDS = 1.0  # after a recheck that found the database away
DESERTED_SECONDS = 1.0  # without anybody; who polls is gone for a moment each time

Permitted = Callable[[Reader, frozenset[Channel]], Awaitable[Reader | None]]  # as they are now, if at all
Hide = Callable[[Subscriber, bool], None]
Key = str | tuple[str, str]  # a channel; or a field of AccessChanged, or `address`, and its value
_EVERYONES: Key = SYSTEM  # STREAMS_MAX_CONNECTIONS is how many may read it


class Crowd(dict[Subscriber, None]):
    """Who is found by one key, in the order in which they came.

    The kernel made their sockets in that order, too, and writes to them a tenth faster in it than in another.
    """

    __slots__ = ("handed_at", "others", "parked", "sinks")

    def __init__(self) -> None:
        super().__init__()
        self.sinks: list[Sink] | None = None  # of who is parked, once somebody asked
        self.parked: list[Subscriber] = []  # they, then
        self.others: list[Subscriber] = []  # and the rest
        self.handed_at = 0.0  # when these were last written to, by the monotonic clock

    def sort(self) -> list[Sink]:
        """Return the sinks of who is parked; note who is, and who is not."""
        self.parked, self.others, self.sinks = [], [], []
        for reader in self:
            if reader.outlet is None:
                self.others.append(reader)
            else:
                self.parked.append(reader)
                self.sinks.append(reader.outlet)
        return self.sinks


_NOBODY = Crowd()  # of most events that a process hears of: nobody there is ever added, or written to


class Audience:
    """The subscribers of one hub."""

    def __init__(self, *, permitted: Permitted) -> None:
        self._all: set[Subscriber] = set()
        self._by: dict[Key, Crowd] = {}
        self._permitted = permitted
        self._recheck_now = asyncio.Event()
        self.gone = asyncio.Event()  # nobody is listening
        self.gone.set()
        self._gone_at = -DESERTED_SECONDS  # by the monotonic clock

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._all)

    def add(self, subscriber: Subscriber) -> bool:
        """Count a subscriber in, if there is room; return whether there was."""
        if self._full(subscriber):
            return False
        self._all.add(subscriber)
        self.gone.clear()
        for key in _keys(subscriber):
            self._by.setdefault(key, Crowd())[subscriber] = None
        self.sort_again(subscriber)
        return True

    def _full(self, subscriber: Subscriber) -> bool:
        """Tell whether all the streams are open that there may be, in all or like this one."""
        most = {"user_id": settings.STREAMS_MAX_PER_USER, "address": settings.STREAMS_MAX_PER_ADDRESS}
        for key in _keys(subscriber):
            limit = settings.STREAMS_MAX_PER_CHANNEL if isinstance(key, str) else most.get(key[0])
            if limit and key != _EVERYONES and len(self._by.get(key, ())) >= limit:
                return True
        return bool(len(self._all) >= settings.STREAMS_MAX_CONNECTIONS)

    def discard(self, subscriber: Subscriber) -> None:
        """Forget a subscriber; twice is once."""
        self._all.discard(subscriber)
        if not self._all and not self.gone.is_set():
            self.gone.set()
            self._gone_at = time.monotonic()
        for key in _keys(subscriber):
            there = self._by.get(key)
            if there is not None:
                there.pop(subscriber, None)
                there.sinks = None
                if not there:
                    del self._by[key]

    def deserted(self) -> bool:
        """Tell whether nobody is listening, nor was a moment ago."""
        return not self._all and time.monotonic() - self._gone_at >= DESERTED_SECONDS

    def of(self, channel: str) -> Crowd:
        """Return who reads a channel."""
        return self._by.get(channel, _NOBODY)

    def sort_again(self, subscriber: Subscriber) -> None:
        """Hear that a subscriber was parked, or is no more."""
        for channel in subscriber.channels:
            if (crowd := self._by.get(channel)) is not None:
                crowd.sinks = None

    def handed_at(self, channels: Iterable[Channel]) -> float:
        """Return when the parked readers of some channels were last written to, all at once."""
        return max((self.of(channel).handed_at for channel in channels), default=0.0)

    def of_user(self, user_id: str) -> Collection[Subscriber]:
        """Return the streams that a user has open."""
        return self._by.get(("user_id", user_id), ())

    def heed(self, changed: AccessChanged) -> None:
        """End the streams whose permission a change of access may concern; they may try again."""
        named = [("user_id", changed.user_id), ("session", changed.session)]
        crowds = [self._by.get((field, value), ()) for field, value in named if value is not None]
        if changed.channel is not None:
            crowds.append(self.of(changed.channel))
        # Each field narrows it, so those whom the rarest one names are all that there can be.
        for subscriber in list(min(crowds, key=len, default=self._all)):
            subscriber.heed(changed)

    async def drain(self, seconds: float) -> None:
        """End every stream, spread over a time, each told when to come back."""
        leaving = list(self._all)
        random.shuffle(leaving)
        began = time.monotonic()
        for number, subscriber in enumerate(leaving, start=1):
            subscriber.end("drain", retry_seconds=max(settings.STREAMS_RETRY_SECONDS, seconds))
            ahead = seconds * number / len(leaving) - (time.monotonic() - began)
            if ahead > 0.01:
                await asyncio.sleep(ahead)

    def recheck(self) -> None:
        """Have every open stream's permission checked now: a change of it may have gone unheard."""
        self._recheck_now.set()

    async def keep_permitted(self, hide: Hide) -> None:
        """Ask for ever whether each open stream is still permitted: not every change is a verb's.

        Of whom it finds that they hide or show themselves, and nobody heard of it, `hide` is told.
        """
        away = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS if away else settings.STREAMS_RECHECK_SECONDS):
                    await self._recheck_now.wait()
            self._recheck_now.clear()
            was_away, away = away, False
            readers = list(self._readers().items())
            for first in range(0, len(readers), AT_ONCE):
                some = readers[first : first + AT_ONCE]
                # At once: what they ask the database is put as one.
                asking = [self._permitted(*who) for who, _ in some]
                answers = await asyncio.gather(*asking, return_exceptions=True)
                for ((reader, _), asked), now in zip(some, answers, strict=True):
                    if isinstance(now, AWAY):
                        if not (was_away or away):
                            logger.warning(
                                "A recheck waits for the log.", extra={"error": type(now).__name__}
                            )
                        away = True  # a recheck is asked for just when it may be: soon again
                    else:
                        _heed(now, reader, asked, hide)
                if away:
                    break

    def _readers(self) -> dict[tuple[Reader, frozenset[Channel]], list[tuple[Subscriber, Reader]]]:
        """Return the open streams by who reads what, each with its reader as they are at this moment."""
        found: dict[tuple[Reader, frozenset[Channel]], list[tuple[Subscriber, Reader]]] = {}
        for each in self._all:
            found.setdefault((each.reader, each.channels), []).append((each, each.reader))
        return found


def _heed(
    now: Reader | BaseException | None,
    reader: Reader,
    asked: Iterable[tuple[Subscriber, Reader]],
    hide: Hide,
) -> None:
    """End the streams of who may read no more, or whom nobody can vouch for; hide who hides."""
    if isinstance(now, BaseException):
        logger.error("A rule failed; who it cannot vouch for is asked to come back.", exc_info=now)
        now = None
    for subscriber, before in asked:
        if now is None:
            subscriber.end("revoked")
        # Whoever hid, or showed themselves, while it was asked has been heard of since.
        elif now.hidden != reader.hidden and subscriber.reader is before:
            hide(subscriber, now.hidden)


def _keys(subscriber: Subscriber) -> Iterator[Key]:
    """Yield all that a subscriber is found and counted by."""
    yield "user_id", subscriber.reader.user_id
    if subscriber.address:
        yield "address", subscriber.address
    if subscriber.reader.session is not None:
        yield "session", subscriber.reader.session
    yield from subscriber.channels

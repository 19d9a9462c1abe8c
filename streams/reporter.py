"""A process's own people, counted as they come and go, and reported to Redis once a second.

Coming and going costs the places of one connection, and a report what changed since the last one,
however many are here. Redis may do what it likes: after any doubt the process begins anew under
another name, and says all it knows; what its old name is still held for lapses by itself. Nothing
but these reports waits for Redis, and while it is away who is present is not known, which is said.
"""

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from events.preferences import PreferencesChanged
from events.registry import encode
from streams import presence, sse
from streams.batch import Published, Transient, redis_channel
from streams.presence import ANYWHERE, BEAT, CHANGE, KEY, PresenceChanged
from streams.subscriber import Subscriber

logger = logging.getLogger(__name__)

REPORT_SECONDS = 1.0  # between two reports
ROUND = 8  # reports in which every place is said to be kept: well within KEEP_SECONDS
LOOKS = 5  # reports in which every connection of a user is looked at, whether its peer is still there
ANSWER_SECONDS = 1.0  # longest that a report waits for Redis, to connect and to answer each
LAST_SECONDS = 0.4  # for the last word of a process that stops; the hub does not wait for longer
SAY_MS = 900  # between two frames of one item, at the least; below a second, which a report is not exact to
NOBODY = ""  # stands at an item for those who are not to be shown there; Redis is not told
AT_ONCE = 200  # people or places of one question: neither Redis nor the loop is held up by a crowd

WISH = f"\nevent: {PreferencesChanged.name()}\n".encode()  # in the head of a frame that hides or shows

Tell = Callable[[Transient], None]
OfUser = Callable[[str], Collection[Subscriber]]


class Reporter:
    """What one hub's subscribers are to presence."""

    def __init__(self, *, tell: Tell, of_user: OfUser) -> None:
        self._tell = tell
        self._of_user = of_user
        self._here: dict[str, dict[str, int]] = {}  # connections by place and user
        self._names: dict[str, str] = {}  # of users who are here, as a place names them
        self._counted: dict[Subscriber, bool] = {}  # with whether their peer has fallen silent
        self._changed: dict[str, set[str]] = {}  # who came or went since the last report
        self._told: dict[str, set[str]] = {}  # what Redis was told, and holds
        self._unsaid: set[str] = set()  # places whose state is to be said to their readers
        self._unburied: set[str] = set()  # places that may still name a process that died
        self._latest: dict[str, bytes] = {}  # frames, as they were heard
        self._name = ""  # this process's among the others; none while all has to be told anew
        self._dead: frozenset[bytes] = frozenset()
        self._round: Iterator[str] = iter(())
        self._looked: Iterator[Subscriber] = iter(())
        self._beat_at = 0.0  # when this process said that it lives
        self._heard_at = time.monotonic()  # when Redis answered last
        self._known = True  # by the readers: who is there
        self._failed = False

    # --- within one turn of the loop --------------------------------------------------------------

    def come(self, subscriber: Subscriber) -> None:
        """Count a subscriber in."""
        self._counted[subscriber] = False
        self._count(subscriber)

    def go(self, subscriber: Subscriber) -> None:
        """Count a subscriber out; twice is once."""
        if self._counted.pop(subscriber, True) is False:
            self._discount(subscriber)

    def heed(self, events: Iterable[Published]) -> None:
        """Hide whom events say to have hidden, and show who shows themselves."""
        for event in events:
            if event.frame.find(WISH, 0, sse.HEAD_BYTES) < 0:
                continue
            said = json.loads(event.data)
            if "presence" not in said:
                continue  # of a process from before one could hide: it leaves that as it is
            for subscriber in list(self._of_user(said["user_id"])):
                self.hide(subscriber, said["presence"] == "hidden")

    def hide(self, subscriber: Subscriber, hidden: bool) -> None:
        """Show others no more what somebody has open, or again."""
        counted = self._counted.get(subscriber) is False
        if counted:
            self._discount(subscriber)
        subscriber.reader = replace(subscriber.reader, hidden=hidden)
        if counted:
            self._count(subscriber)

    def _count(self, subscriber: Subscriber) -> None:
        reader = subscriber.reader
        for place, user_id in _places(subscriber):
            if place not in self._here:
                self._unsaid.add(place)  # whoever else is there, the first to come was told of nobody
            people = self._here.setdefault(place, {})
            if user_id not in people:
                self._changed.setdefault(place, set()).add(user_id)
            people[user_id] = people.get(user_id, 0) + 1
        if reader.is_user:
            self._names.setdefault(reader.user_id, presence.person(reader.user_id, reader.username))

    def _discount(self, subscriber: Subscriber) -> None:
        for place, user_id in _places(subscriber):
            people = self._here[place]
            people[user_id] -= 1
            if not people[user_id]:
                del people[user_id]
                self._changed.setdefault(place, set()).add(user_id)
                if not people:
                    del self._here[place]
                    self._latest.pop(place, None)
        reader = subscriber.reader
        if reader.is_user and reader.user_id not in self._here.get(ANYWHERE, ()):
            del self._names[reader.user_id]

    def latest(self, channels: Iterable[str]) -> list[bytes]:
        """Return what is known of the channels: who comes is told it first."""
        return [self._latest[channel] for channel in channels if channel in self._latest]

    def is_news(self, said: Transient) -> bool:
        """Note a frame that was heard; return whether it says anything new."""
        if said.key != KEY or said.channel not in self._here:
            return True
        known = self._latest.get(said.channel)
        self._latest[said.channel] = said.frame
        return said.frame != known

    def doubt(self) -> None:
        """Have every place's state said again: what was said meanwhile may have gone unheard."""
        self._unsaid.update(self._here)

    # --- once a second ------------------------------------------------------------------------------

    async def report(self) -> None:
        """Report for ever; say that nobody knows who is there where Redis is away for long."""
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),  # the next report is one
        )
        turn: asyncio.Task[None] | None = None
        try:
            while True:
                began = time.monotonic()
                turn = asyncio.create_task(self._try(client))
                await asyncio.shield(turn)  # what it took, it says
                await asyncio.sleep(max(REPORT_SECONDS / 2, REPORT_SECONDS - (time.monotonic() - began)))
        finally:
            try:
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    async with asyncio.timeout(LAST_SECONDS):
                        if turn is not None:
                            with contextlib.suppress(Exception):
                                await turn
                        if self._name:
                            await self._say_changes(client, last=True)  # who left with the drain
            finally:
                await client.aclose()

    async def _try(self, client: Any) -> None:
        try:
            self._look_at_some()
            await self._turn(client)
            self._heard_at = time.monotonic()
            self._known, self._failed = True, False
        except (RedisError, OSError, TimeoutError):
            self._name = ""  # what of it was done, nobody knows
            if self._known and time.monotonic() - self._heard_at > presence.ALIVE_SECONDS:
                self._known = False
                await self._say_unknown()
        except Exception:
            self._name = ""
            if not self._failed:  # once, not every second
                logger.exception("Presence could not be reported; it goes on trying.")
            self._failed = True

    async def _turn(self, client: Any) -> None:
        """Say that this process lives, and what changed."""
        if self._name:
            dead = await self._beat(client)
            if dead is None:  # taken for dead, or Redis was emptied
                self._name = ""
        if not self._name:
            self._begin_anew()
            dead = await self._beat(client, joining=True)
        if dead and not dead <= self._dead:
            self._unburied.update(self._told, self._here)
        self._dead = dead or frozenset()
        await self._say_changes(client)

    async def _beat(self, client: Any, *, joining: bool = False) -> frozenset[bytes] | None:
        """Say that this process lives and that some places are kept; return who died, None if it was us."""
        kept = self._next_places()
        self._beat_at = time.monotonic()
        alive, dead, lost = await client.register_script(BEAT)(
            keys=[presence.processes_key(), *map(presence.people_key, kept)],
            args=[self._name, int(joining), presence.ALIVE_SECONDS, presence.REMEMBER_SECONDS,
                  presence.KEEP_SECONDS],
        )  # fmt: skip
        for number in lost:  # evicted: nobody is there but whom we know
            place = kept[number - 1]
            self._told.pop(place, None)
            self._changed[place] = set(self._here.get(place, ()))
            self._unsaid.add(place)
        return frozenset(dead) if alive else None

    def _next_places(self) -> list[str]:
        """Return the next part of all places that Redis was told of."""
        some = max(1, -(-len(self._told) // ROUND))
        kept = [place for place in islice(self._round, some) if place in self._told]
        if len(kept) < some:
            self._round = iter(list(self._told))
        return kept

    def _begin_anew(self) -> None:
        """Forget what Redis was told, and take another name."""
        self._name = secrets.token_hex(4)
        self._told.clear()
        self._round = iter(())
        self._unburied.clear()
        self._changed = {place: set(people) for place, people in self._here.items()}
        self.doubt()

    async def _say_changes(self, client: Any, *, last: bool = False) -> None:
        """Tell Redis who came and went, some at a time; the last time, for there is no later, at once."""
        change = client.register_script(CHANGE)
        asked: list[str] = []
        async with client.pipeline(transaction=False) as pipe:
            for place, arguments in self._changes(last=last):
                keys = [presence.people_key(place), presence.said_key(place)]
                await change(keys=keys, args=arguments, client=pipe)
                asked.append(place)
                if len(asked) == AT_ONCE:
                    self._unsaid |= await _left_unsaid(pipe, asked)
                    asked = []
                    # Who has much to say is not dead.
                    late = time.monotonic() - self._beat_at > REPORT_SECONDS
                    if late and await self._beat(client) is None:
                        self._name = ""
                        return
            if asked:
                self._unsaid |= await _left_unsaid(pipe, asked)

    def _changes(self, *, last: bool = False) -> Iterator[tuple[str, list[Any]]]:
        """Yield places with the arguments of CHANGE, and count them as told."""
        changed, self._changed = self._changed, {}
        unsaid, self._unsaid = self._unsaid, set()
        unburied, self._unburied = self._unburied, set()
        for place in changed.keys() | unsaid | unburied:
            parts = list(self._differences(place, changed.get(place, ())))
            for number, (come, gone) in enumerate(parts, start=1):
                if not (come or gone or place in unsaid or place in unburied):
                    continue  # only who is shown to nobody came or went
                new = place not in self._told
                told = self._told.setdefault(place, set())
                told.update(come[::2])
                told.difference_update(gone)
                if not told:
                    del self._told[place]
                channel = "" if place == ANYWHERE else place
                dead = b"".join(self._dead) if new or place in unburied else b""
                say = 2 if last and number == len(parts) else int(new or place in unsaid)
                yield place, [
                    self._name, presence.KEEP_SECONDS, redis_channel(), channel, presence.SHOWN_MOST,
                    SAY_MS, dead, say, len(come) // 2, *come, *gone,
                ]  # fmt: skip

    def _differences(self, place: str, users: Iterable[str]) -> Iterator[tuple[list[str], list[str]]]:
        """Yield who came to a place, each with their name, and who went; some at a time, at least once."""
        here, told = self._here.get(place, {}), self._told.get(place, set())
        users = [user for user in users if user != NOBODY]
        come = [(user, self._shown(place, user)) for user in users if user in here and user not in told]
        gone = [user for user in users if user not in here and user in told]
        for at in range(0, max(1, len(come), len(gone)), AT_ONCE):
            yield [part for one in come[at : at + AT_ONCE] for part in one], gone[at : at + AT_ONCE]

    def _shown(self, place: str, user_id: str) -> str:
        return "" if place == ANYWHERE else self._names[user_id]

    async def _say_unknown(self) -> None:
        """Tell who has an item open that nobody knows who else has."""
        for number, place in enumerate(list(self._here), start=1):
            if place == ANYWHERE:
                continue
            nobody = encode({"item_id": place.partition(":")[2], "users": [], "total": None})
            said = Transient(place, KEY, sse.transient(PresenceChanged.name(), nobody))
            if self.is_news(said):
                self._tell(said)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0.05)  # others have something to say, too

    # --- who is still there -------------------------------------------------------------------------

    def _look_at_some(self) -> None:
        """Count out whose peer has fallen silent, though the connection may not know of it yet; and in."""
        some = max(1, -(-len(self._counted) // LOOKS))
        looked = list(islice(self._looked, some))
        if len(looked) < some:
            self._looked = iter(list(self._counted))
        for subscriber in looked:
            if not subscriber.reader.is_user:
                continue
            was_silent = self._counted.get(subscriber)
            silent = subscriber.silent()
            if was_silent is None or silent == was_silent:
                continue
            self._counted[subscriber] = silent
            if silent:
                self._discount(subscriber)
            else:
                self._count(subscriber)


async def _left_unsaid(pipe: Any, asked: list[str]) -> set[str]:
    """Have the questions answered; return the places whose state could not be said yet."""
    return {place for place, left in zip(asked, await pipe.execute(), strict=True) if left}


def _places(subscriber: Subscriber) -> Iterator[tuple[str, str]]:
    """Yield where somebody is, and as whom; an issuer's users have no name to be shown by."""
    reader = subscriber.reader
    if reader.is_user:
        yield ANYWHERE, reader.user_id
    for channel in subscriber.channels:
        if channel.startswith("item:"):
            yield channel, reader.user_id if reader.is_user and not reader.hidden else NOBODY

"""Who is here: what the web processes report of their people to Redis, and how to read it.

Of each place, an item's channel or `ANYWHERE`, Redis holds a hash: a user's id, and by which
processes they are there. So a user counts once, over all tabs, devices and processes. A process
that says nothing for `ALIVE_SECONDS` is dead to the others, which take its people out; a place
that nobody speaks of any more expires. Nothing of this is in the log: it is a hint for people.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, ClassVar, TypeVar

import redis
from django.conf import settings
from pydantic import BaseModel, Field
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from events.registry import EventType

T = TypeVar("T")

ANYWHERE = "anywhere"  # the place of all who have a stream open at all
KEY = "presence"  # of the transient frames: of one item the latest is all there is
SHOWN_MOST = 50  # people named of a place; all are counted
ALIVE_SECONDS = 10  # without a word from a process
KEEP_SECONDS = 25  # of a place that nobody reports of any more; with the rest below 30 s
CROWD = 500  # people whose coming and going is told every second; of more, as much more rarely
REMEMBER_SECONDS = 60  # a dead process: longer than any place may still name it
ANSWER_SECONDS = 0.2  # longest that a reader waits for Redis, to connect and to answer each
PAUSE_SECONDS = 1.0  # no reader asks a Redis that did not answer a moment ago

# Says that a process lives, and that some places are still held by it.
# KEYS: the processes, the places' hashes.  ARGV: its name, whether it is new, and the lives of a process,
# of its memory and of a place. Returns whether it counts as alive, who is dead, and the places that are
# not there: their numbers.
BEAT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name, alive, remember = ARGV[1], ARGV[3] * 1000, ARGV[4] * 1000
local till = redis.call('ZSCORE', KEYS[1], name)
local lives = ARGV[2] == '1' or (till and tonumber(till) > now)
-- Who is no longer known may still be named somewhere: it is among the dead from now on.
redis.call('ZADD', KEYS[1], lives and now + alive or now - 1, name)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - remember)
redis.call('PEXPIRE', KEYS[1], alive + remember)
local lost = {}
for i = 2, #KEYS do
  if redis.call('EXPIRE', KEYS[i], ARGV[5]) == 0 then lost[#lost + 1] = i - 1 end
end
return {lives and 1 or 0, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now), lost}
"""

# Takes people in and out of a place, and the dead processes' out; says who is there now, if that is news, and
# not sooner after the last time than the crowd there allows.
# KEYS: the place's hash, what is there while nothing may be said.  ARGV: the process's name, the life of a
# place, the Redis channel, the place's channel ("" where nobody is told), how many are named, the least
# milliseconds between two frames, the names of the dead in one, whether to say it in any case (2: also soon
# after the last time), how many come, who comes, each with how they are named, and who goes; who is gone
# already went unsaid, by an eviction. Returns whether it is still to be said.
# A hash holds, by user, the processes by which they are there, each with a dot, a colon, and their name.
CHANGE = (
    """
local people, me, place = KEYS[1], ARGV[1] .. '.', ARGV[4]
local news = ARGV[8] ~= '0'
local function leave(user, value, names)
  local held, shown = value:match('^([%x.]*)(:.*)$')
  local rest = held:gsub('(%x+)%.', function(name) if names[name] then return '' end end)
  if rest == '' then
    redis.call('HDEL', people, user)
    news = true
  elseif rest ~= held then
    redis.call('HSET', people, user, rest .. shown)
  end
end
if ARGV[7] ~= '' then
  local dead = {}
  for name in ARGV[7]:gmatch('%x%x%x%x%x%x%x%x') do dead[name] = true end
  local all = redis.call('HGETALL', people)
  for i = 1, #all, 2 do leave(all[i], all[i + 1], dead) end
end
local going = 10 + 2 * ARGV[9]
for i = 10, going - 2, 2 do
  local value = redis.call('HGET', people, ARGV[i])
  local held = value and value:match('^[%x.]*') or ''
  if not held:find(me, 1, true) then held = held .. me end
  local now = held .. ':' .. ARGV[i + 1]
  if now ~= value then redis.call('HSET', people, ARGV[i], now) end
  news = news or not value
end
for i = going, #ARGV do
  local value = redis.call('HGET', people, ARGV[i])
  if value then leave(ARGV[i], value, {[ARGV[1]] = true}) else news = true end
end
redis.call('EXPIRE', people, ARGV[2])
if not news or place == '' then return 0 end
local total, most = redis.call('HLEN', people), tonumber(ARGV[5])
local pause = math.floor(ARGV[6] * math.max(1, total / """
    + str(CROWD)
    + """))
if ARGV[8] == '2' then
  redis.call('SET', KEYS[2], '', 'PX', pause)
elseif not redis.call('SET', KEYS[2], '', 'NX', 'PX', pause) then
  return 1
end
local shown, cursor = {}, '0'
repeat
  local page = redis.call('HSCAN', people, cursor, 'COUNT', most)
  cursor = page[1]
  for i = 2, #page[2], 2 do
    if #shown < most then shown[#shown + 1] = page[2][i]:match(':(.*)$') end
  end
until cursor == '0' or #shown >= most
local data = '{"item_id":"' .. place:match(':(.*)$') .. '","users":[' .. table.concat(shown, ',')
  .. '],"total":' .. total .. '}'
local frame = 'event: PresenceChanged\\ndata: ' .. data .. '\\n\\n'
redis.call('PUBLISH', ARGV[3], '~' .. cmsgpack.pack({place, 'presence', frame}))
return 0
"""
)


class Person(BaseModel):
    """Someone who is there."""

    id: str = Field(description="The user's id")
    username: str = Field(description="The user's name")


class PresenceChanged(EventType):
    """Who has the item open. Transient: on the item's channel, without an id, the latest is all there is."""

    transient: ClassVar = True
    sent_on: ClassVar = ("item",)

    item_id: str
    users: list[Person] = Field(
        description=f"{SHOWN_MOST} of them at the most", examples=[[{"id": "7", "username": "alice"}]]
    )
    total: int | None = Field(description="How many; null while nobody knows, as without Redis", examples=[1])


@dataclass(frozen=True, slots=True)
class Present:
    """Who is at a place: some by name, all by number."""

    users: tuple[Person, ...]
    total: int


def person(user_id: str, username: str) -> str:
    """Return how a place names somebody: JSON on one line, that a frame is put together from."""
    # ASCII, so that nothing in a name is a line end to anybody.
    return json.dumps({"id": user_id, "username": username}, separators=(",", ":"))


def people_key(place: str) -> str:
    """Return the key of a place's hash."""
    return f"{settings.REDIS_PREFIX}:present:{place}"


def said_key(place: str) -> str:
    """Return the key that is there for as long as nothing more is said of a place."""
    return f"{settings.REDIS_PREFIX}:said:{place}"


def processes_key() -> str:
    """Return the key of the processes, each with until when it counts as alive."""
    return f"{settings.REDIS_PREFIX}:processes"


# --- Readers, in a thread: of requests and of Django's admin ------------------------------------------

_paused_until = 0.0


def connected_users() -> set[int] | None:
    """Return the ids of the users who have a stream open; None while nobody knows, after 0.5 s at most."""
    return _ask(lambda client: {int(user_id) for user_id in client.hkeys(people_key(ANYWHERE))})


def present(place: str) -> Present | None:
    """Return who is at a place; None while nobody knows, after 0.5 s at most."""

    def ask(client: Any) -> Present:
        """Ask twice, or more often where many came and went."""
        total = int(client.hlen(people_key(place)))
        values = islice(client.hscan_iter(people_key(place), count=SHOWN_MOST), SHOWN_MOST)
        users = {user: Person.model_validate_json(value.partition(b":")[2]) for user, value in values}
        return Present(tuple(users.values()), max(total, len(users)))

    return _ask(ask)


def _ask(question: Callable[[Any], T]) -> T | None:
    global _paused_until
    if not settings.STREAMS_PRESENCE or time.monotonic() < _paused_until:
        return None
    try:
        return question(_client())
    except (RedisError, OSError):
        _paused_until = time.monotonic() + PAUSE_SECONDS
        return None


@cache
def _client() -> Any:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )

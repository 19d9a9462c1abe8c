"""Who is let in past threads and the ORM is just who would be with them, and as the same reader."""

import asyncio
import random
import re
import time
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import jwt
import pytest
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import DataError, OperationalError
from django.http import HttpRequest, QueryDict
from django.utils import timezone

from events import channels, items, preferences, standing
from events.access import session_digest
from events.channels import Channel
from events.errors import ChannelForbidden, TickertapeError
from events.models import EndedSession, ItemMember, Job
from streams import direct, opening, permission, tokens
from streams.permission import SessionAsItIs
from streams.reader import Grant
from tests import issuer

BACKEND = "events.logins.Backend"


def session_of(user: User, **other: object) -> str:
    """Log a user in, by whatever is said otherwise of it; return the session's key."""
    store = SessionStore()
    said = {
        "_auth_user_id": str(user.pk),
        "_auth_user_backend": BACKEND,
        HASH_SESSION_KEY: user.get_session_auth_hash(),
        **other,
    }
    for name, value in said.items():
        if value is not None:
            store[name] = value
    store.create()
    return store.session_key


def grant_of(user: User, *names: str, session: str = "", **other: object) -> Grant:
    expires_at = int(time.time()) + 600
    grant = Grant(str(user.pk), frozenset(names), expires_at, session_digest(session), tokens.mark_of(user))
    return replace(grant, **other)


def request_of(
    *, session: str | None = None, bearer: str | None = None, cookie: str | None = None, query: str = ""
) -> HttpRequest:
    """Return a request as the view gets it."""
    request = HttpRequest()
    request.GET = QueryDict(query)
    request.session = SessionAsItIs(session)
    if bearer is not None:
        request.META["HTTP_AUTHORIZATION"] = f"Bearer {bearer}"
    if cookie is not None:
        request.COOKIES = {tokens.COOKIE: cookie}
    return request


@pytest.fixture
def asked(hub, world):
    """Ask both ways of a request; return what each says, None for what is not let in."""

    def by_orm(request: HttpRequest, choose):
        try:
            return permission.admit(request, choose)
        except (TickertapeError, DataError, ValueError, ValidationError):
            return None  # the last three of what we never write: a server fault at the worst

    async def ask(choose=None, **given):
        """The same request twice: each way may leave something in it."""
        first, second = request_of(**given), request_of(**given)
        one = await direct.admit(hub, first, choose or opening.named(first))
        other = await world.run(by_orm, second, choose or opening.named(second))
        if one is not None:
            assert first.session.accessed == second.session.accessed  # what `Vary` tells
        return one, other

    return ask


@pytest.fixture
async def there(world, users):
    """People, groups, items, members and jobs, thrown together."""
    dice = random.Random(7)

    def make() -> SimpleNamespace:
        people = [users.alice, users.bob, users.carol, users.admin]
        groups = [Group.objects.create(name=name) for name in ("editors", "a.b@c+d-e", "no name")]
        for person in people:
            person.groups.set(each for each in groups if dice.random() < 0.5)
        users.alice.groups.set(groups)
        made = [
            items.create_item(dice.choice(people), title="x", visibility=dice.choice(["public", "members"]))
            for _ in range(8)
        ]
        for item in made:
            for person in people:
                if dice.random() < 0.3:
                    ItemMember.objects.create(item_id=item.pk, user_id=person.pk)
        jobs = [
            Job.objects.create(
                id=uuid4(), event_id=n, owner_id=person.pk, name="x", params={}, queued_at=timezone.now()
            )
            for n, person in enumerate(people)
        ]
        names = [
            *(f"user:{person.pk}" for person in people),
            "user:999999",
            "system",
            *(f"group:{group.name}" for group in groups[:2]),
            "group:nobody",
            *(f"item:{item.pk}" for item in made),
            f"item:{2**63 - 1}",
            *(f"job:{job.pk}" for job in jobs),
            f"job:{uuid4()}",
            f"job:{str(jobs[0].pk).replace('-', '')}",
            "job:none",
        ]
        return SimpleNamespace(people=people, names=names, items=made, dice=dice)

    return await world.run(make)


async def test_each_user_may_read_each_channel_by_the_one_way_as_by_the_other(world, there, asked):
    agreed = {True: 0, False: 0}
    for person in there.people:
        key = await world.run(session_of, person)
        for name in [*there.names, "me"]:
            one, other = await asked(session=key, query=f"channel={name.replace('+', '%2B')}")
            assert one == other, (person.username, name)
            agreed[one is not None] += 1
    assert min(agreed.values()) > 20


async def test_several_channels_are_let_in_where_each_of_them_is(world, there, asked):
    agreed = {True: 0, False: 0}
    for person in there.people:
        key = await world.run(session_of, person)
        for _ in range(25):
            names = there.dice.sample([*there.names, "me"], there.dice.randint(1, 3))
            query = "&".join(f"channel={name.replace('+', '%2B')}" for name in names)
            one, other = await asked(session=key, query=query)
            assert one == other, (person.username, names)
            agreed[one is not None] += 1
    assert min(agreed.values()) > 5


async def test_a_token_lets_in_within_its_scope_and_its_users_permissions(world, there, asked):
    agreed = {True: 0, False: 0}
    for person in there.people:
        for _ in range(40):
            names = there.dice.sample(there.names, 2)
            scope = [*there.dice.sample(there.names, 8), "item:*", *names[: there.dice.randint(0, 2)]]
            token = await world.run(tokens.sign, grant_of(person, *scope))
            query = "&".join(f"channel={name.replace('+', '%2B')}" for name in names)
            one, other = await asked(bearer=token, query=query)
            assert one == other, (person.username, names, scope)
            agreed[one is not None] += 1
    assert min(agreed.values()) > 5


async def test_a_crowd_that_asks_at_once_is_answered_each_their_own(world, there, hub, monkeypatch):
    """By one statement for many, among whom some ask what makes it fail."""
    questions = 0
    fetch = hub.fetch

    async def counted(sql, parameters=None):
        nonlocal questions
        questions += 1
        return await fetch(sql, parameters)

    crowd = []
    for person in there.people:
        key = await world.run(session_of, person)
        for number in range(40):
            names = there.dice.sample(there.names, there.dice.randint(1, 2))
            query = "&".join(f"channel={name.replace('+', '%2B')}" for name in names)
            token = await world.run(tokens.sign, grant_of(person, *names, session=key))
            crowd.append({"query": query, **({"session": key} if number % 2 else {"bearer": token})})
    crowd += [{"query": "channel=system", "session": each} for each in ("nosuchkey", "x" * 32, "", "a\0b")]
    there.dice.shuffle(crowd)

    async def ask(given):
        request = request_of(**given)
        return await direct.admit(hub, request, opening.named(request))

    monkeypatch.setattr(hub, "fetch", counted)
    at_once = await asyncio.gather(*map(ask, crowd))
    assert questions < len(crowd) / 4
    one_by_one = [await ask(given) for given in crowd]
    assert at_once == one_by_one
    assert len({found[0].user_id for found in at_once if found}) == len(there.people)


SESSIONS = {
    "plain": session_of,
    "none": lambda user: None,
    "unknown": lambda user: "a" * 32,
    "too short": lambda user: "a",
    "no text to PostgreSQL": lambda user: "a" * 31 + "\0",
    "of nobody": lambda user: session_of(user, _auth_user_id="999999"),
    "of no id": lambda user: session_of(user, _auth_user_id="alice"),
    "of an id past all": lambda user: session_of(user, _auth_user_id="9" * 30),
    "without a user": lambda user: session_of(user, _auth_user_id=None),
    "without a backend": lambda user: session_of(user, _auth_user_backend=None),
    "of a backend that does not count": lambda user: session_of(
        user, _auth_user_backend="django.contrib.auth.backends.ModelBackend"
    ),
    "of another password": lambda user: session_of(user, **{HASH_SESSION_KEY: "0" * 64}),
    "without a password's mark": lambda user: session_of(user, **{HASH_SESSION_KEY: None}),
    "expired": lambda user: _changed(session_of(user), expire_date=timezone.now() - timedelta(seconds=1)),
    "forged": lambda user: _changed(session_of(user), session_data="e30:1abcde:forged"),
    "emptied": lambda user: _changed(session_of(user), session_data=""),
}


def _changed(key: str, **fields: object) -> str:
    Session.objects.filter(pk=key).update(**fields)
    return key


@pytest.mark.parametrize("name", SESSIONS)
async def test_only_a_session_that_counts_lets_in(world, users, asked, name):
    key = await world.run(SESSIONS[name], users.alice)
    one, other = await asked(session=key, query="channel=system")
    assert one == other
    assert (one is not None) == (name == "plain")


async def test_a_user_who_is_disabled_or_gone_is_not_let_in(world, users, asked):
    key = await world.run(session_of, users.alice)
    token = await world.run(tokens.sign, grant_of(users.alice, "system"))
    for change in ({"is_active": False}, {"is_active": True, "password": "another"}):
        await world.run(User.objects.filter(pk=users.alice.pk).update, **change)
        assert await asked(session=key, query="channel=system") == (None, None)
        assert await asked(bearer=token, query="channel=system") == (None, None)
    await world.run(User.objects.filter(pk=users.bob.pk).delete)
    token = await world.run(tokens.sign, grant_of(users.bob, "system"))
    assert await asked(bearer=token, query="channel=system") == (None, None)


async def test_a_session_of_an_older_secret_key_is_left_to_what_moves_it(world, users, asked, settings):
    key = await world.run(session_of, users.alice)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another" * 8
    one, other = await asked(session=key, query="channel=system")
    assert one is None
    assert other is not None


TOKENS = {
    "ours": lambda user: tokens.sign(grant_of(user, "system")),
    "expired": lambda user: tokens.sign(grant_of(user, "system", expires_at=int(time.time()) - 1)),
    "too long": lambda user: tokens.sign(grant_of(user, "system", expires_at=int(time.time()) + 200_000)),
    "another password's": lambda user: tokens.sign(grant_of(user, "system", password="0" * 16)),
    "nobody's": lambda user: tokens.sign(grant_of(user, "system", user_id="999999")),
    "no id's": lambda user: tokens.sign(grant_of(user, "system", user_id="alice")),
    "another's": lambda user: jwt.encode({"iss": "https://a.example.org", "sub": "1"}, "k" * 32),
    "not signed by us": lambda user: jwt.encode({"iss": "tickertape", "sub": "1"}, "k" * 32),
    "none": lambda user: "",
    "nonsense": lambda user: "nonsense",
    "of a header that is a list": lambda user: "W10.e30.x",
    "of a header in depth": lambda user: b64encode(b"[" * 9_000).decode() + ".e30.x",
    "not ASCII": lambda user: "Ä.Ö.Ü",
    "of an ended session": lambda user: tokens.sign(grant_of(user, "system", session=_ended(0))),
    "of one that is to end": lambda user: tokens.sign(grant_of(user, "system", session=_ended(60))),
}


def _ended(seconds: int) -> str:
    key = uuid4().hex
    at = timezone.now() + timedelta(seconds=seconds - 1)
    EndedSession.objects.create(digest=session_digest(key), ended_at=at)
    return key


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("way", ["bearer", "cookie"])
async def test_only_a_token_that_counts_lets_in(world, users, asked, name, way):
    token = await world.run(TOKENS[name], users.alice)
    one, other = await asked(**{way: token}, query="channel=system")
    assert one == other
    assert (one is not None) == (name in ("ours", "of one that is to end"))


async def test_a_header_beats_a_session_and_a_session_a_cookie(world, users, asked):
    key = await world.run(session_of, users.alice)
    token = await world.run(tokens.sign, grant_of(users.bob, "system"))
    for given, user in [
        ({"session": key, "bearer": token}, users.bob),
        ({"session": key, "cookie": token}, users.alice),
        ({"session": key, "query": f"channel=system&token={token}"}, users.bob),
    ]:
        one, other = await asked(**{"query": "channel=system", **given})
        assert one == other
        assert one[0].user_id == str(user.pk)
    # One that does not count is no session; what then counts is the cookie, as only the ORM's way finds.
    one, other = await asked(session="a" * 32, cookie=token, query="channel=system")
    assert (one, other[0].user_id) == (None, str(users.bob.pk))


@pytest.mark.parametrize("shown", [True, False])
async def test_who_hides_is_hidden(world, users, asked, settings, shown):
    settings.STREAMS_PRESENCE = shown
    await world.run(preferences.change, users.alice, presence="hidden")
    key = await world.run(session_of, users.alice)
    one, other = await asked(session=key, query="channel=system")
    assert one == other
    assert one[0].hidden is shown


async def test_a_rule_of_an_apps_is_asked_and_so_is_one_in_place_of_ours(world, users, asked, monkeypatch):
    def nobody(user, key):
        raise ChannelForbidden

    monkeypatch.setattr(channels, "_kinds", dict(channels._kinds))
    key = await world.run(session_of, users.alice)
    channels.register("room", may_read=lambda user, key: None)
    one, other = await asked(session=key, query="channel=room:1")
    assert one is None
    assert other is not None
    channels.register("room", may_read=nobody, allows="asked.key = '7' AND 'a%%' LIKE 'a%%'")
    one, _ = await asked(session=key, query="channel=room:7")
    assert one is not None
    channels.register("system", key=None, may_read=nobody)
    for query in ("channel=system", "channel=me"):
        assert await asked(session=key, query=query) == (None, None)
    channels.register("room", may_read=nobody, allows="this is no SQL")
    assert await asked(session=key, query="channel=room:7") == (None, None)


async def test_a_token_for_others_has_nothing_asked_of_a_channel(world, users, hub, monkeypatch):
    questions: list[str] = []
    fetch = hub.fetch

    async def counted(sql, parameters=None):
        questions.append(sql)
        return await fetch(sql, parameters)

    monkeypatch.setattr(hub, "fetch", counted)
    token = await world.run(tokens.sign, grant_of(users.alice, "item:1"))
    request = request_of(bearer=token, query="channel=item:2")
    assert await direct.admit(hub, request, opening.named(request)) is None
    assert questions == []


FOREIGN = {
    "theirs": lambda: issuer.token("item:1"),
    "by RSA": lambda: issuer.token("item:*", by="RS256"),
    "expired": lambda: issuer.token("item:1", seconds=-9),
    "forged": lambda: issuer.token("item:1", by="EdDSA", kid="ES256"),
    "by no key": lambda: issuer.token("item:1", kid="other"),
    "of nobody we know": lambda: issuer.token("item:1", iss="https://else.example.org"),
    "said to be ours": lambda: issuer.token("item:1", iss="tickertape"),
    "for others": lambda: issuer.token("item:1", aud="else"),
    "for another item": lambda: issuer.token("item:2"),
    "for more than may be granted": lambda: issuer.token("item:1", "group:a"),
    "no token": lambda: "a.b.c",
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("way", ["bearer", "cookie"])
async def test_an_issuers_token_that_counts_lets_in_where_its_keys_are_at_hand(
    asked, settings, tmp_path, name, way
):
    keys = [issuer.public(each) for each in ("ES256", "RS256")]
    settings.STREAMS_TOKEN_ISSUERS = issuer.setting({"keys": keys})
    given = FOREIGN[name]()
    one, other = await asked(**{way: given}, query="channel=item:1")
    assert one == other
    assert (one is not None) == (name in ("theirs", "by RSA"))

    issuer.write(tmp_path / "keys.json", *keys)
    settings.STREAMS_TOKEN_ISSUERS = issuer.setting(str(tmp_path / "keys.json"))
    assert await asked(**{way: given}, query="channel=item:1") == (None, other)


async def test_of_an_issuers_users_a_thread_is_asked_only_where_the_keys_are_in_a_file(
    hub, settings, monkeypatch, tmp_path
):
    keys = [issuer.public("ES256")]
    settings.STREAMS_TOKEN_ISSUERS = issuer.setting({"keys": keys})
    asked = []
    in_thread = permission._in_thread

    async def counted(ask):
        asked.append(ask)
        return await in_thread(ask)

    monkeypatch.setattr(permission, "_in_thread", counted)
    request = request_of(bearer=issuer.token("item:1"), query="channel=item:1")
    reader, found = await permission.let_in(hub, request, opening.named(request))
    assert await permission.still_permitted(reader, found, hub=hub) == reader
    assert asked == []
    settings.STREAMS_TOKEN_ISSUERS = issuer.setting({"keys": [issuer.public("RS256")]})
    assert await permission.still_permitted(reader, found, hub=hub) is None

    issuer.write(tmp_path / "keys.json", *keys)
    settings.STREAMS_TOKEN_ISSUERS = issuer.setting(str(tmp_path / "keys.json"))
    del asked[:]
    assert await permission.still_permitted(reader, found, hub=hub) == reader
    assert len(asked) == 1


async def test_a_database_that_is_away_is_said_to_be(world, users, hub, monkeypatch):
    key = await world.run(session_of, users.alice)

    async def away(sql, parameters=None):
        raise TimeoutError

    monkeypatch.setattr(hub, "fetch", away)
    with pytest.raises(OperationalError):
        await direct.admit(hub, request_of(session=key), lambda user: [Channel("system")])


async def test_a_live_streams_reader_is_asked_about_anew_the_same_way(world, users, hub, monkeypatch):
    """Without a thread, too: every open stream is, each minute."""
    key = await world.run(session_of, users.alice)
    request = request_of(session=key)
    reader, found = await permission.let_in(hub, request, lambda user: [Channel("system")])
    grant = grant_of(users.alice, "system")
    by_token = direct.Reader.of_grant(grant, users.alice, hidden=False)

    def in_a_thread(*arguments, **more):
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(permission, "sync_to_async", in_a_thread)
        assert await permission.still_permitted(reader, found, hub=hub) == reader
        assert await permission.still_permitted(by_token, found, hub=hub) == by_token
    await world.run(Session.objects.all().delete)
    assert await permission.still_permitted(reader, found, hub=hub) is None
    await world.run(EndedSession.objects.create, digest=grant.session)
    assert await permission.still_permitted(by_token, found, hub=hub) is None


@pytest.mark.parametrize("asked", [
    standing.Asked("7", [Channel("item:1\nitem:2")]),
    standing.Asked("7", [Channel("item:1 item:2")]),
    standing.Asked("7 8", [Channel("item:1")]),
    standing.Asked("7", [Channel("item:1")], "a b"),
])  # fmt: skip
def test_what_would_shift_the_others_questions_is_not_put(asked):
    other = standing.Asked("9", [Channel("item:1"), Channel("item:2")])
    with pytest.raises(ValueError, match="name"):
        standing.question([asked, other])


def test_what_is_asked_is_of_every_kind_that_we_register():
    ours = {"user", "group", "system", "item", "job"}
    assert {kind.name for kind in channels.kinds().values() if kind.allows} >= ours
    assert not any(re.search(r"(?<!%)%(?!%)", kind.allows or "") for kind in channels.kinds().values())

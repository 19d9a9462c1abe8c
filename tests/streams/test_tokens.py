"""Stream tokens: what they open, for whom, and until when."""

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.core import signing
from django.db import connection
from django.http import HttpRequest, QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import items, retention
from events.channels import Channel, own_channels
from events.errors import NotLoggedIn, TickertapeError, TooManyChannels
from events.http import described
from events.models import EndedSession
from streams import opening, tokens
from streams.permission import SessionAsItIs, admit
from tests.events.support import Api, code_of


@pytest.fixture
def api(users):
    api = Api()
    api.log_in("alice")
    return api


@pytest.fixture
def channel(users):
    return f"item:{items.create_item(users.alice, title='x', visibility='members').pk}"


def token_of(api: Api, *channels: str, **more: object) -> str:
    answer = api.post("/api/tokens", {"channels": list(channels), **more})
    assert answer.status_code == 201, answer.content
    return answer.json()["token"]


def opens(token: str, channel: str):
    """Ask as a stream does that is opened with a token; raises what refuses it."""
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return admit(request, lambda user: [Channel(channel)])


def test_a_token_opens_its_channels_for_its_user(api, users, channel):
    answer = api.post("/api/tokens", {"channels": [channel, "system"], "ttl": 120})

    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    body = answer.json()
    left = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=115) < left <= timedelta(seconds=120)
    for name in (channel, "system"):
        reader, channels = opens(body["token"], name)
        assert (reader.user_id, channels) == (str(users.alice.pk), frozenset([name]))
    assert reader.expires_at == datetime.fromisoformat(body["expires_at"]).timestamp()


def test_an_hour_is_usual_and_a_session_that_ends_sooner_ends_its_tokens(api, channel):
    answer = api.post("/api/tokens", {"channels": [channel]}).json()
    assert (
        3590 < datetime.fromisoformat(answer["expires_at"]).timestamp() - timezone.now().timestamp() <= 3600
    )
    Session.objects.update(expire_date=timezone.now() + timedelta(minutes=10))
    answer = api.post("/api/tokens", {"channels": [channel]}).json()
    assert datetime.fromisoformat(answer["expires_at"]) <= timezone.now() + timedelta(minutes=10)


def test_opening_asks_one_question_for_the_user_and_none_for_a_session(api, channel):
    token = token_of(api, "system")
    with CaptureQueriesContext(
        connection,
    ) as asked:
        opens(token, "system")
    assert len(asked) == 1
    assert "django_session" not in str(asked.captured_queries)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "channels"),
        ({"channels": []}, 422, "channels"),
        ({"channels": "system"}, 422, "channels"),
        ({"channels": ["nonsense"]}, 422, "channels.0"),
        ({"channels": ["system", "internal:access"]}, 422, "channels.1"),
        ({"channels": ["system", "user:999999"]}, 403, "channels.1"),
        ({"channels": ["item:999999"]}, 404, "channels.0"),
        ({"channels": ["item:*", "item:**"]}, 422, "channels.1"),
        ({"channels": ["*"]}, 422, "channels.0"),
        ({"channels": ["system:*"]}, 422, "channels.0"),
        ({"channels": ["internal:*"]}, 422, "channels.0"),
        ({"channels": ["item:4*"]}, 422, "channels.0"),
        ({"channels": [f"group:g{n}" for n in range(51)]}, 422, "channels"),
        ({"channels": ["system"], "ttl": 59}, 422, "ttl"),
        ({"channels": ["system"], "ttl": 86_401}, 422, "ttl"),
        ({"channels": ["system"], "ttl": "60"}, 422, "ttl"),
        ({"channels": ["system"], "forever": True}, 422, "forever"),
    ],
)
def test_what_is_wrong_with_a_request_for_one_is_named(api, body, status, field):
    answer = api.post("/api/tokens", body)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["field"] == field


def test_who_is_not_logged_in_or_has_no_csrf_token_gets_none(users):
    assert code_of(Api().post("/api/tokens", {"channels": ["system"]}), 401) == "not_logged_in"


def test_a_token_is_no_way_to_another_and_opens_nothing_of_the_api(api, channel):
    token = token_of(api, channel)
    nobody = Api()
    for path in ("/api/items", "/api/session", "/api/notifications"):
        for given in ({"Authorization": f"Bearer {token}"}, {}):
            answer = nobody.get(path + ("" if given else f"?token={token}"), **given)
            assert code_of(answer, 401) == "not_logged_in"
    answer = nobody.post("/api/tokens", {"channels": [channel]}, Authorization=f"Bearer {token}")
    assert code_of(answer, 401) == "not_logged_in"
    answer = nobody.post("/api/events", {"events": []}, Authorization=f"Bearer {token}")
    assert code_of(answer, 401) == "api_key_unknown"


def refusal(token: str, *names: str) -> dict[str, object]:
    """Return what is said of channels that the token is not for."""
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    with pytest.raises(TickertapeError) as refused:
        admit(request, lambda user: [Channel(name) for name in names])
    return described(refused.value)


def test_outside_of_it_nothing_is_learnt(api, users, channel):
    """Not whether a channel exists, and of whom it is, nor which groups its user is in."""
    token = token_of(api, "system")
    users.alice.groups.add(Group.objects.create(name="staff"))
    others = items.create_item(users.bob, title="y", visibility="members").pk
    said = [
        refusal(token, *names)
        for names in (
            [channel],
            [f"item:{others}"],
            ["item:999999"],
            ["job:nonsense"],
            [f"user:{users.bob.pk}"],
            ["user:999999"],
            ["group:staff"],
            ["group:none"],
            ["system", "item:999999"],
            own_channels(users.alice),
        )
    ]
    assert said == said[:1] * len(said)
    assert (said[0]["status"], said[0]["code"]) == (403, "channel_forbidden")
    assert said[0]["errors"] == [{"field": "channel", "message": "the token is for system, and nothing else"}]


def test_a_pattern_is_for_all_of_a_kind_that_may_be_read(api, users, channel):
    token = token_of(api, "item:*")
    others = items.create_item(users.bob, title="y", visibility="members").pk
    assert opens(token, channel)[1] == frozenset([channel])
    assert refusal(token, f"item:{others}")["status"] == 403
    assert refusal(token, "item:999999")["status"] == 404  # as for its user's session
    assert "item:*" in str(refusal(token, "system")["errors"])


def test_a_token_of_many_channels_is_named_by_some_of_them(api):
    with_groups = [f"group:g{n}" for n in range(7)]
    grant = replace(tokens.read(token_of(api, "system")), channels=frozenset(with_groups))
    said = refusal(tokens.sign(grant), "system")["errors"][0]["message"]
    assert (
        said
        == "the token is for group:g0, group:g1, group:g2, group:g3, group:g4 and 2 more, and nothing else"
    )


def test_what_may_no_longer_be_read_is_forbidden_though_the_token_names_it(users, channel):
    api = Api()
    api.log_in("bob")
    item = int(channel.partition(":")[2])
    items.add_member(users.alice, item, member_id=users.bob.pk)
    token = token_of(api, channel)
    opens(token, channel)
    items.remove_member(users.alice, item, member_id=users.bob.pk)
    with pytest.raises(tokens.ChannelForbidden):
        opens(token, channel)


def over(token: str) -> str:
    with pytest.raises(tokens.TokenInvalid) as refused:
        opens(token, "system")
    assert not token or token not in str(refused.value)
    assert refused.value.status == 401
    return refused.value.code


def disabled(api: Api, user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def deleted(api: Api, user: User) -> None:
    user.delete()


def with_another_password(api: Api, user: User) -> None:
    user.set_password("another")
    user.save()


def logged_out(api: Api, user: User) -> None:
    assert api.delete("/api/session").status_code == 204


def logged_in_again(api: Api, user: User) -> None:
    api.log_in("alice")


def session_deleted(api: Api, user: User) -> None:
    Session.objects.all().delete()


def session_cut_short(api: Api, user: User) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize(
    "end",
    [
        disabled,
        deleted,
        with_another_password,
        logged_out,
        logged_in_again,
        session_deleted,
        session_cut_short,
    ],
)
def test_it_ends_with_its_session_and_with_its_user(api, users, end):
    token = token_of(api, "system")
    opens(token, "system")
    end(api, users.alice)
    assert over(token) == "token_invalid"


def test_another_session_of_the_user_ends_nothing(api, users):
    token = token_of(api, "system")
    other = Api()
    other.log_in("alice")
    assert other.delete("/api/session").status_code == 204
    opens(token, "system")


def test_a_session_that_was_cut_short_and_then_prolonged_has_tokens_that_count(api, users):
    old = token_of(api, "system")
    now = timezone.now()
    Session.objects.update(expire_date=now + timedelta(minutes=2))
    Session.objects.update(expire_date=now + timedelta(hours=2))
    EndedSession.objects.update(ended_at=now - timedelta(seconds=1))  # as when the two minutes are over
    assert over(old) == "token_invalid"
    new = token_of(api, "system")
    opens(new, "system")
    opens(old, "system")
    # And it ends again, with the session.
    session_cut_short(api, users.alice)
    assert over(new) == over(old) == "token_invalid"


def test_a_token_does_not_outlive_the_session_that_another_one_was_asked_of(api, users):
    old = token_of(api, "system")
    Session.objects.update(expire_date=timezone.now() + timedelta(minutes=2))
    token_of(api, "system")
    [ended] = EndedSession.objects.all()
    assert ended.ended_at == Session.objects.get().expire_date
    Session.objects.all().delete()
    assert over(old) == "token_invalid"


def test_an_expired_token_says_so(api, monkeypatch):
    token = token_of(api, "system", ttl=60)
    now = tokens.time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 61)
    assert over(token) == "token_expired"


def claims_of(token: str) -> dict[str, object]:
    return jwt.decode(token, options={"verify_signature": False})


def test_it_is_a_jwt_that_says_what_it_is_for(api, users, channel):
    token = token_of(api, channel, ttl=60)
    said = claims_of(token)
    assert jwt.get_unverified_header(token).keys() == {"alg", "kid", "typ"}
    assert said.keys() == {"iss", "aud", "sub", "channels", "iat", "exp", "sid", "mark"}
    assert (said["sub"], said["channels"]) == (str(users.alice.pk), [channel])
    assert said["exp"] - said["iat"] <= 60


def b64(text: str | bytes) -> str:
    return urlsafe_b64encode(text.encode() if isinstance(text, str) else text).decode().rstrip("=")


def unsigned(alg: str, said: dict[str, object], **head: object) -> str:
    return f"{b64(json.dumps({'alg': alg, 'typ': 'JWT', **head}))}.{b64(json.dumps(said))}."


def test_forged_tokens_are_refused(api, users, settings):
    token = token_of(api, "system")
    head, said, rest = token.split(".")
    claims, kid = claims_of(token), jwt.get_unverified_header(token)["kid"]
    of_admin = {**claims, "sub": str(users.admin.pk)}
    for forged in (
        "",
        "x",
        "..",
        said,
        f"{head}.{said}.",
        f"{head}.{b64(json.dumps(of_admin))}.{rest}",
        token[:-2],
        token + "x",
        *(unsigned(alg, of_admin, kid=kid) for alg in ("none", "None", "nOnE", "", "HS256")),
        jwt.encode(of_admin, "x" * 40, headers={"kid": kid}),
        jwt.encode(of_admin, settings.SECRET_KEY, headers={"kid": kid}),  # the secret itself is no key
        jwt.encode(of_admin, "", algorithm="none"),
        jwt.encode({**claims, "iss": "https://app.example.org"}, "x" * 40, headers={"kid": kid}),
        signing.dumps([str(users.admin.pk), ["system"], 2**40, "", ""], salt=tokens.SALT),
        f"{b64('[' * 4000)}.{b64('[' * 4000)}.{rest}",
        f"{head}.{b64('[' * 9000)}.{rest}",
        f"{b64(json.dumps([1]))}.{b64('7')}.{rest}",
        "é" * 40,
        "\ud800",
        "." * 30_000,
    ):
        assert over(forged) == "token_invalid", forged[:80]


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"sub": 7},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1e308},
        {"exp": []},
        {"nbf": 2**40},
        {"iat": 2**40},
        {"channels": "system"},
        {"channels": []},
        {"channels": None},
        {"sid": None},
        {"mark": 7},
    ],
)
def test_what_is_wrong_though_truly_signed_is_refused(api, wrong):
    claims = {**claims_of(token_of(api, "system")), **wrong}
    said = {name: value for name, value in claims.items() if value is not None}
    assert over(by_us(said)) == "token_invalid"


def by_us(said: dict[str, object]) -> str:
    """Sign anything, also what the library would not."""
    [(kid, key), *_] = tokens._our_keys().items()
    return jwt.PyJWS().encode(json.dumps(said).encode(), key.key, "HS256", headers={"kid": kid})


def test_what_an_earlier_key_signed_counts_while_it_is_kept(api, settings):
    token = token_of(api, "system")
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another" * 10
    assert over(token) == "token_invalid"
    settings.SECRET_KEY_FALLBACKS = [old]
    opens(token, "system")


def test_the_header_beats_the_query_and_both_beat_the_session(api, users, channel):
    token = token_of(api, "system")

    def asked(**headers: str) -> str:
        request = HttpRequest()
        request.GET = QueryDict(f"token={token}")
        request.META.update(headers)
        return admit(request, lambda user: [Channel("system")])[0].user_id

    assert asked() == str(users.alice.pk)
    assert asked(HTTP_COOKIE="tickertape_token=nonsense") == str(users.alice.pk)
    assert asked(HTTP_AUTHORIZATION="Basic eDp5") == str(users.alice.pk)  # a proxy's, and none of ours
    with pytest.raises(tokens.TokenInvalid):
        asked(HTTP_AUTHORIZATION="Bearer nonsense")


def with_cookie(token: str | None, session_key: str | None = None, query: str = "") -> HttpRequest:
    """Return a request as a page makes it, by its cookies."""
    request = HttpRequest()
    request.GET = QueryDict(query)
    request.session = SessionAsItIs(session_key)
    request.COOKIES = {} if token is None else {tokens.COOKIE: token}
    return request


def admitted(request: HttpRequest) -> str:
    return admit(request, lambda user: [Channel("system")])[0].user_id


def test_what_me_stands_for_counts_with_what_is_named_beside_it(api, users, settings):
    settings.STREAMS_MAX_CHANNELS = 5
    users.alice.groups.set([Group.objects.create(name=f"g{n}") for n in range(2)])  # and so `me` is four
    key = Session.objects.get().pk
    items_named = [f"channel=item:{items.create_item(users.alice, title='x').pk}" for _ in range(2)]

    def opened(*query: str) -> int:
        request = with_cookie(None, key, "&".join(query))
        return len(admit(request, opening.named(request))[1])

    assert opened("channel=me", items_named[0]) == 5
    for query in (["channel=me", *items_named], [*items_named, "channel=me"]):
        with pytest.raises(TooManyChannels):
            opened(*query)
    users.alice.groups.add(*[Group.objects.create(name=f"more{n}") for n in range(3)])
    assert opened("channel=me") == 7  # nobody is shut out of their own


def test_a_cookie_may_bring_it_where_nobody_is_logged_in(api, users):
    token = token_of(api, "system")
    assert admitted(with_cookie(token)) == str(users.alice.pk)
    assert admitted(with_cookie(token, "0" * 32)) == str(users.alice.pk)  # a session that is over
    for none in (None, ""):
        with pytest.raises(NotLoggedIn) as refused:
            admitted(with_cookie(none))
        assert refused.value.code == "not_logged_in"


def test_a_session_beats_a_cookie_which_another_page_of_the_site_may_have_set(api, users, monkeypatch):
    """Or else an old one would lock its user out, and a neighbour's would have them read as another."""
    bobs = Api()
    bobs.log_in("bob")
    old, others = token_of(api, "system", ttl=60), token_of(bobs, "system")
    key = Session.objects.get(expire_date=min(Session.objects.values_list("expire_date", flat=True))).pk
    assert admitted(with_cookie(others, key)) == admitted(with_cookie("nonsense", key)) == str(users.alice.pk)
    assert admitted(with_cookie(None, key, f"token={others}")) == str(users.bob.pk)
    now = tokens.time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 61)
    assert admitted(with_cookie(old, key)) == str(users.alice.pk)
    with pytest.raises(tokens.TokenExpired):
        admitted(with_cookie(old))


def test_nothing_in_it_is_a_secret_of_ours(api, users):
    token = token_of(api, "system")
    said = json.dumps(claims_of(token))
    assert users.alice.password not in said
    assert Session.objects.get().session_key not in said


def test_ended_sessions_are_forgotten_when_no_token_of_theirs_can_be_left(api, users):
    token = token_of(api, "system")
    api.delete("/api/session")
    for _ in retention.sweep():
        pass
    assert over(token) == "token_invalid"
    EndedSession.objects.update(ended_at=timezone.now() - timedelta(hours=25))
    assert dict(retention.sweep())["ended sessions"] == 1


def test_a_look_at_a_session_does_not_end_it(api, users, channel, settings):
    """Over a WebSocket no cookie can be set: a session signed with an older key stays as it is."""
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another" * 8
    [row] = Session.objects.all()
    request = HttpRequest()
    request.session = SessionAsItIs(row.session_key)

    reader, _ = admit(request, lambda user: [Channel(channel)])

    assert reader.user_id == str(users.alice.pk)
    assert [each.session_key for each in Session.objects.all()] == [row.session_key]
    users.alice.set_password("changed")
    users.alice.save()
    request.session = SessionAsItIs(row.session_key)
    with pytest.raises(NotLoggedIn):
        admit(request, lambda user: [Channel(channel)])
    assert Session.objects.count() == 1

"""Tokens of other issuers: by which keys they are verified, for what they count, and when no more."""

import json
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from events.channels import Channel
from events.errors import TickertapeError
from events.http import described
from streams import issuers, tokens
from streams.permission import admit, still_permitted
from streams.reader import Reader
from tests.issuer import KEYS, NAME, SECRET, public, setting, token, write

EVERY = [public(each) for each in KEYS]


@pytest.fixture(autouse=True)
def known(settings):
    settings.STREAMS_TOKEN_ISSUERS = setting({"keys": EVERY}, "item:*", "job:*", "system", "user:7")


def opened(given: str, *names: str) -> Reader:
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {given}"
    return admit(request, lambda user: [Channel(name) for name in names])[0]


def refusal(given: str, *names: str) -> tuple[int, str, str]:
    """Return status, code and detail of what refuses a token; the token is in none of it."""
    with pytest.raises(TickertapeError) as refused:
        opened(given, *names)
    said = described(refused.value)
    assert not given or given not in json.dumps(said)
    return said["status"], said["code"], said["detail"]


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_token_opens_what_it_names_without_a_user_or_a_row_here(algorithm):
    """Not even the database is asked: nothing in this test lets it be."""
    given = token("item:42", "item:7", by=algorithm, seconds=100)
    reader = opened(given, "item:42", "item:7")
    assert reader.user_id == f"{NAME}|anna"
    assert (reader.session, reader.username, reader.is_user) == (None, "", False)
    assert reader.expires_at == pytest.approx(jwt.decode(given, options={"verify_signature": False})["exp"])


def test_a_pattern_opens_all_of_its_kind_whether_they_exist_or_not():
    given = token("item:*")
    assert {opened(given, f"item:{n}").user_id for n in (1, 999_999)} == {f"{NAME}|anna"}
    status, code, detail = refusal(given, "system")
    assert (status, code) == (403, "channel_forbidden")
    assert refusal(given, "user:7") == refusal(given, "job:none") == (status, code, detail)


INVALID = "The token is not valid, or not any more: ask for another."
EXPIRED = "The token has expired: ask for another."
EARLY = "The token is not valid yet."
ANOTHERS = "The token is for somebody else: its audience is another."
CHANNEL = "use user:<id>, item:<id>, job:<id>, group:<name> or system"


def wrong(claim: str, why: str) -> str:
    return f"The token's `{claim}` is wrong: {why}."


LATE = "The token expires too late: 86400 seconds from now is the latest."


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        ({"seconds": -1}, EXPIRED),
        ({"seconds": -60}, EXPIRED),
        ({"seconds": 90_000}, LATE),
        ({"nbf": 2**40}, EARLY),
        ({"iat": 2**40}, EARLY),
        ({"aud": "another"}, ANOTHERS),
        ({"aud": ["another"]}, ANOTHERS),
        ({"aud": None}, "The token does not say its `aud`."),
        ({"exp": None}, "The token does not say its `exp`."),
        ({"sub": None}, "The token does not say its `sub`."),
        ({"sub": 7}, wrong("sub", "Input should be a valid string")),
        ({"sub": ""}, wrong("sub", "String should have at least 1 character")),
        ({"sub": "x" * 201}, wrong("sub", "String should have at most 200 characters")),
        ({"channels": None}, wrong("channels", "Field required")),
        ({"channels": "item:1"}, wrong("channels", "Input should be a valid list")),
        ({"channels": []}, wrong("channels", "List should have at least 1 item after validation, not 0")),
        ({"channels": ["item:1", 7]}, wrong("channels.1", "Input should be a valid string")),
        ({"channels": ["item:4*"]}, wrong("channels.0", CHANNEL)),
        ({"channels": ["item:1", "item:*", "internal:access"]}, wrong("channels.2", CHANNEL)),
        ({"iss": "https://other.example.org"}, INVALID),
        ({"iss": [NAME]}, INVALID),
        ({"iss": "tickertape"}, INVALID),
        ({"iss": None}, INVALID),
        ({"kid": "unknown"}, INVALID),
        ({"by": "ES256", "kid": "RS256"}, INVALID),  # a key of another kind
        ({"by": "HS256", "kid": "RS256"}, INVALID),
        ({"padding": "x" * 20_000}, INVALID),
    ],
    ids=lambda each: str(each)[:40],
)
def test_what_is_wrong_with_a_token_is_401_and_said_of_true_ones(wrong, detail):
    code = "token_expired" if detail == EXPIRED else "token_invalid"
    assert refusal(token("item:1", **wrong), "item:1") == (401, code, detail)


@pytest.mark.parametrize("claims", [{"sub": 7}, {"channels": []}, {"channels": ["item:4*"]}, {"aud": None}])
def test_of_a_forged_token_it_is_not_said(claims):
    assert refusal(token("item:1", by="ES256", kid="EdDSA", **claims), "item:1")[2] == INVALID
    head, said, _ = token("item:1", **claims).split(".")
    assert refusal(f"{head}.{said}.", "item:1")[2] == INVALID


def test_a_clock_that_is_a_little_ahead_of_ours_is_forgiven_and_at_the_end_none_is():
    soon = int(time.time()) + 3
    assert opened(token("item:1", iat=soon, nbf=soon), "item:1")
    assert refusal(token("item:1", seconds=0), "item:1")[1] == "token_expired"


def test_the_public_key_is_no_secret_to_sign_by(settings):
    """The oldest trick: an HS256 token, signed with the public key's text as if that were a secret."""
    rsa = KEYS["RS256"].public_key()
    texts = [
        rsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(public("RS256")).encode(),
    ]
    body = token("item:1").split(".")[1]
    for text in texts:
        head = jwt.utils.base64url_encode(b'{"alg":"HS256","kid":"RS256"}').decode()
        signature = jwt.get_algorithm_by_name("HS256").sign(f"{head}.{body}".encode(), text)
        forged = f"{head}.{body}.{jwt.utils.base64url_encode(signature).decode()}"
        assert refusal(forged, "item:1") == (401, "token_invalid", INVALID)


def test_a_key_in_the_token_itself_is_none():
    another = generate_private_key(65537, 2048)
    family = jwt.get_algorithm_by_name("RS256")
    said = jwt.decode(token("item:1"), options={"verify_signature": False})
    for kid in ("RS256", "mine"):
        head = {"kid": kid, "jwk": {**family.to_jwk(another.public_key(), as_dict=True), "kid": kid}}
        assert refusal(jwt.encode(said, another, "RS256", headers=head), "item:1")[:2] == (
            401,
            "token_invalid",
        )
    critical = jwt.PyJWS().encode(
        json.dumps(said).encode(), SECRET, "HS256", headers={"kid": "HS256", "crit": ["x"]}
    )
    assert refusal(critical, "item:1")[:2] == (401, "token_invalid")


def test_a_token_for_more_than_its_issuer_may_grant_opens_nothing():
    for names in (["item:1", "group:staff"], ["user:8"], ["user:*"], ["group:*", "item:*"]):
        status, code, detail = refusal(token(*names), "item:1")
        assert (status, code) == (403, "token_scope")
        assert detail == "token: its issuer may grant item:*, job:*, system, user:7, and nothing else"
    assert opened(token("user:7", "system"), "user:7", "system")


def test_two_issuers_of_the_same_key_names_are_two(settings):
    [ours] = json.loads(setting({"keys": [public("ES256")]}))
    other = {**ours, "issuer": "https://other.example.org", "jwks": {"keys": [public("RS256", kid="ES256")]}}
    settings.STREAMS_TOKEN_ISSUERS = json.dumps([ours, other])
    by_other = token("item:1", by="RS256", kid="ES256", iss=other["issuer"])
    assert opened(by_other, "item:1").user_id == "https://other.example.org|anna"
    assert opened(token("item:1"), "item:1").user_id == f"{NAME}|anna"
    assert refusal(token("item:1", iss=other["issuer"]), "item:1")[1] == "token_invalid"


# --- Keys that change ------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path, settings):
    path = tmp_path / "jwks.json"
    write(path, public("ES256"))
    (tmp_path / "issuers.json").write_text(setting(str(path)))
    settings.STREAMS_TOKEN_ISSUERS = str(tmp_path / "issuers.json")
    return path


async def test_keys_are_rotated_by_their_file_and_one_taken_out_ends_what_it_signed(path):
    channels = frozenset([Channel("item:1")])
    reader = opened(token("item:1"), "item:1")
    assert refusal(token("item:1", by="RS256"), "item:1")[1] == "token_invalid"
    write(path, public("RS256"), public("ES256"))
    assert opened(token("item:1", by="RS256"), "item:1")
    assert await still_permitted(reader, channels)
    write(path, public("RS256"))
    assert refusal(token("item:1"), "item:1")[1] == "token_invalid"
    assert not await still_permitted(reader, channels)


def test_keys_that_cannot_be_read_leave_the_earlier_ones_and_are_reported(path, caplog):
    assert opened(token("item:1"), "item:1")
    for broken in ("{", '{"keys": []}', "[]"):
        path.write_text(broken)
        assert opened(token("item:1"), "item:1")
        assert opened(token("item:1"), "item:1")
    path.unlink()
    assert opened(token("item:1"), "item:1")
    said = reports(caplog)
    assert said == [  # once each
        "has a file of keys that is not JSON",
        "has no key to verify signatures by",
        "has no JWK Set: there is no list of `keys`",
        "has `jwks` that is neither a JWK Set nor the path of a readable file",
    ]
    assert {record.issuer for record in caplog.records} == {NAME}
    write(path, public("RS256"))
    assert opened(token("item:1", by="RS256"), "item:1")


def reports(caplog) -> list[str]:
    """Return why keys could not be read, as it was reported."""
    return [record.error for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize(
    "nonsense", [public("RS256", alg=["RS256"]), public("RS256", kty=["RSA"]), "[" * 100_000]
)
def test_nonsense_in_a_file_leaves_the_earlier_keys_and_ends_no_stream(path, caplog, nonsense):
    reader = opened(token("item:1"), "item:1")
    path.write_text(nonsense if isinstance(nonsense, str) else json.dumps({"keys": [nonsense]}))
    assert opened(token("item:1"), "item:1")
    assert tokens.user_of(reader.grant) is None
    assert len(reports(caplog)) == 1


def test_keys_that_could_not_be_read_for_a_while_are_read_when_they_can_be(path, caplog, monkeypatch):
    """As when a process has no file to spare: nothing about the file changes when it has."""
    assert opened(token("item:1"), "item:1")
    write(path, public("RS256"))
    with monkeypatch.context() as patched:
        patched.setattr(issuers.Path, "read_text", no_file_to_spare)
        for _ in range(3):
            assert opened(token("item:1"), "item:1")
    assert len(reports(caplog)) == 1
    assert opened(token("item:1", by="RS256"), "item:1")
    assert refusal(token("item:1"), "item:1")[1] == "token_invalid"


def no_file_to_spare(path) -> str:
    raise OSError(24, "Too many open files")


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_age_is_read(path):
    assert opened(token("item:1"), "item:1")
    found = path.stat()
    text = path.read_text()
    path.write_text(json.dumps({"keys": [public("ES256", kid="ES999")]}))
    assert len(path.read_text()) == len(text)
    while path.stat().st_ctime_ns == found.st_ctime_ns:  # until the kernel's clock has gone on
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))  # as `cp -p` and some deployments do
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (found.st_ino, found.st_mtime_ns)
    assert opened(token("item:1", kid="ES999"), "item:1")


def test_keys_that_are_replaced_while_another_thread_reads_them_are_not_kept(path, monkeypatch):
    """The slower reader, of the older file, must not have the last word."""
    issuer = issuers.find(NAME)
    reading, go_on = threading.Event(), threading.Event()
    read_text = issuers.Path.read_text

    def slowly(path) -> str:
        text = read_text(path)
        if not reading.is_set():
            reading.set()
            assert go_on.wait(10)
        return text

    monkeypatch.setattr(issuers.Path, "read_text", slowly)
    write(path, public("RS256"))
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(issuer.key, "RS256")
        assert reading.wait(10)
        write(path, public("EdDSA"))
        quick = threads.submit(issuer.key, "EdDSA")
        wait([quick], timeout=0.5)  # done, where nothing makes it wait for the other
        go_on.set()
        assert slow.result(10) is not None
        assert quick.result(10) is not None
    assert issuer.key("EdDSA") is not None
    assert issuer.key("RS256") is None


async def test_a_key_that_is_replaced_under_its_name_ends_what_it_signed(path):
    channels = frozenset([Channel("item:1")])
    reader = opened(token("item:1"), "item:1")
    write(path, public("ES256", use="sig", x5t="another"), public("RS256"))  # the same key
    assert await still_permitted(reader, channels)
    other = new_ec_key(SECP256R1()).public_key()
    family = jwt.get_algorithm_by_name("ES256")
    write(path, {**family.to_jwk(other, as_dict=True), "kid": "ES256"})  # the first one leaked
    assert refusal(token("item:1"), "item:1")[1] == "token_invalid"
    assert not await still_permitted(reader, channels)


# --- What a setting may say ------------------------------------------------------------------------


def private() -> dict[str, object]:
    return jwt.get_algorithm_by_name("ES256").to_jwk(KEYS["ES256"], as_dict=True) | {"kid": "ES256"}


def short() -> dict[str, object]:
    key = generate_private_key(65537, 1024).public_key()
    return jwt.get_algorithm_by_name("RS256").to_jwk(key, as_dict=True) | {"kid": "short"}


NO_KEY = f"{NAME} has no key to verify signatures by"
UNREADABLE = f"{NO_KEY}: keys.0 cannot be read."
NO_FILE = f"{NAME} has `jwks` that is neither a JWK Set nor the path of a readable file."
NEITHER = "it is neither JSON nor the path of a readable file."
SHORT = f"{NAME} has a key at keys.0 that is too short."


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("/nowhere/issuers.json", NEITHER),
        ("[", NEITHER),
        ("[" * 100_000, NEITHER),
        (setting({"keys": EVERY})[1:-1], NEITHER),  # one, and no list: it is no path, and has secrets
        (setting({"keys": EVERY})[1:-1] + "\0", NEITHER),
        ('[{"issuer": "a"}]', "0.channels: Field required."),
        (setting({"keys": EVERY}, hosts=1), "0.hosts: Extra inputs are not permitted."),
        (setting({"keys": EVERY}, "item:4*"), "“item:4*” is not the name of a channel."),
        (setting({"keys": EVERY}, issuer="tickertape"), "names an issuer twice, or tickertape."),
        (setting({"keys": EVERY}, issuer="a|b"), "0.issuer: "),
        (setting({"keys": []}), f"{NO_KEY}."),
        (setting({}), f"{NAME} has no JWK Set: there is no list of `keys`."),
        (setting({"keys": [public("RS256", use="enc")]}), f"{NO_KEY}."),
        (setting({"keys": [public("RS256", alg="RSA-OAEP")]}), f"{NO_KEY}."),
        (setting({"keys": [public("RS256", alg=["RS256"])]}), f"{NO_KEY}."),
        (setting({"keys": [public("RS256", kty=["RSA"])]}), f"{NO_KEY}."),
        (setting({"keys": [public("RS256", kid=None)]}), f"{NO_KEY}: keys.0 has no `kid`."),
        (setting({"keys": [*EVERY, public("RS256")]}), f"{NAME} has a `kid` twice, at keys.4."),
        (setting({"keys": [private()]}), f"{NAME} has a private key at keys.0: give the public one."),
        (setting({"keys": [short()]}), SHORT),
        (setting({"keys": [public("HS256", k="c2hvcnQ")]}), SHORT),
        (setting({"keys": [public("RS256", alg="HS256")]}), UNREADABLE),
        (setting({"keys": [public("RS256", alg="ES256")]}), UNREADABLE),
        (setting({"keys": [public("HS256", alg="RS256")]}), f"{NO_KEY}: keys.0 is a secret that does not"),
        (setting({"keys": [{**public("ES256"), "x": 7}]}), UNREADABLE),
        (setting({"keys": [{**public("ES256"), "crv": ["P-256"]}]}), UNREADABLE),
        (setting("/nowhere/jwks.json"), NO_FILE),
        (setting(json.dumps({"keys": EVERY})), NO_FILE),  # a string with the keys in it
        (setting(json.dumps({"keys": EVERY}) + "\0"), NO_FILE),
    ],
    ids=lambda each: str(each)[:40],
)  # fmt: skip
def test_a_setting_that_is_not_right_is_refused_by_name_and_without_quoting_a_key(given, why):
    with pytest.raises(ImproperlyConfigured) as refused:
        issuers.read(given)
    said = str(refused.value)
    assert said.startswith("STREAMS_TOKEN_ISSUERS is not right: ")
    assert why in said
    assert refused.value.__cause__ is refused.value.__context__ is None  # nor does a traceback say more
    assert public("HS256")["k"] not in said
    assert private()["d"] not in said


def test_a_secret_that_does_not_say_what_for_is_refused():
    bare = public("HS256")
    del bare["alg"]
    with pytest.raises(ImproperlyConfigured, match="does not say that it is for HS256"):
        issuers.read(setting({"keys": [bare]}))


def test_keys_for_something_else_may_stand_beside():
    beside = [
        public("RS256", use="enc", kid="enc"),
        {"kty": "unknown", "kid": "new"},
        {"kty": "EC", "crv": "secp256k1", "kid": "coin", "x": "A" * 43, "y": "A" * 43},
        {"kty": "OKP", "crv": "X25519", "kid": "exchange", "x": "A" * 43},
        {"kty": "EC", "crv": "P-256", "kid": "half"},
        public("RS256", kid=None),
        public("ES256", kid=""),
        short() | {"kid": None},
        public("HS256", alg=None, kid="cookies"),
        public("RS256", kty=["RSA"]),
        public("RS256", alg={"RS": 256}),
        "nonsense",
        public("ES256"),
    ]
    assert [*issuers.keys_of({"keys": beside})] == ["ES256"]


def test_without_the_setting_nobody_elses_tokens_count(settings):
    settings.STREAMS_TOKEN_ISSUERS = ""
    assert refusal(token("item:1"), "item:1") == (401, "token_invalid", INVALID)
    assert tokens.TokenInvalid().challenge == 'Bearer error="invalid_token"'

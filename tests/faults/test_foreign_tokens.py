"""Tokens of another issuer on real servers, whichever way: opened, renewed, ended, and in no log."""

import contextlib
import json
import time

import httpx
import pytest

from streams.tokens import COOKIE
from tests import issuer
from tests.faults.people import SERVERS, new_item, noted, notes, settle
from tests.faults.ways import WAYS, query_of, web_socket
from tests.faults.wire import append
from tests.stack import Listener, eventually


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The issuer's file of keys."""
    path = tmp_path_factory.mktemp("issuer") / "jwks.json"
    issuer.write(path, issuer.public("ES256"))
    return path


@pytest.fixture(scope="module")
def trusting(rough, keys):
    """A web process of each kind, for which the issuer's tokens count."""
    names = [f"{name}7" for name in SERVERS]
    rough.start(*names, STREAMS_TOKEN_ISSUERS=issuer.setting(str(keys), "item:*", "job:*"))
    yield names
    for name in names:
        rough.kill(name)


@pytest.fixture(params=SERVERS)
def nobody(request, rough, trusting):
    """Who has no session, on each server in turn."""
    with httpx.Client(base_url=rough.url(f"{request.param}7"), timeout=15) as client:
        yield client


@pytest.fixture(params=WAYS)
def way(request) -> str:
    return request.param


@contextlib.contextmanager
def listening(
    client: httpx.Client, way: str, *channels: str, token: str = "", last_event_id: str | None = None
):
    query = query_of(*channels, last_event_id=last_event_id)
    listener = WAYS[way](client, f"token={token}&{query}" if token else query)
    try:
        listener.opened = listener.next()
        yield listener
    finally:
        listener.close()


def in_no_log(rough, trusting, token: str) -> bool:
    return all(token[-40:] not in rough.log(name).read_text() for name in trusting)


def test_it_opens_what_it_names_and_nobody_sees_its_user(rough, trusting, nobody, way):
    item = new_item(rough.login("alice"), visibility="members")
    other = new_item(rough.login("alice"), visibility="members")
    settle(rough)
    token = issuer.token(f"item:{item}")
    with listening(nobody, way, f"item:{item}", token=token) as stream, rough.connect() as connection:
        append(connection, f"item:{item}", data={"n": 1})
        assert notes(stream.take(1)) == [1]
        time.sleep(1.5)  # in which whom it counts would be said
        present = rough.login("alice").get(f"/api/items/{item}/presence").json()
        assert present == {"users": [], "total": 0}
    for elsewhere in (f"item:{other}", "item:999999", "system"):
        with listening_refused(nobody, way, elsewhere, token) as said:
            assert (said["status"], said["code"]) == (403, "channel_forbidden")
            assert said["errors"][0]["message"] == f"the token is for item:{item}, and nothing else"
    for bad, status in (
        (token + "x", 401),
        (issuer.token("system"), 403),
        (issuer.token("item:1", by="RS256"), 401),
    ):
        with listening_refused(nobody, way, "item:1", bad) as said:
            assert said["status"] == status
            assert bad not in json.dumps(said)
        assert in_no_log(rough, trusting, bad)
    assert in_no_log(rough, trusting, token)


@contextlib.contextmanager
def listening_refused(client: httpx.Client, way: str, channel: str, token: str):
    """Give the problem that an opening is answered with."""
    query = f"{query_of(channel)}&token={token}"
    if way == "socket":
        with web_socket(client, query) as socket:
            said = json.loads(socket.recv(timeout=10))["data"]
            with contextlib.suppress(Exception):
                socket.recv(timeout=10)
            assert socket.close_code == 4000 + said["status"]
            yield said
    else:
        answer = client.get(f"/streams/{'poll/' if way == 'polls' else ''}?{query}")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.status_code == answer.json()["status"]
        yield answer.json()


@pytest.fixture
def job(rough) -> str:
    """Return the id of a job of ours, which is over."""
    alice = rough.login("alice")
    job = alice.post("/api/jobs/slow", json={"steps": 1, "seconds": 0}).json()["id"]
    eventually(lambda: alice.get(f"/api/jobs/{job}").json()["state"] == "complete", seconds=30)
    settle(rough)
    return str(job)


def spellings(job: str) -> list[str]:
    """Return names that are none of our jobs', though `UUID` reads all but the first as this one."""
    return ["abc", job.upper(), job.replace("-", "")]


def test_a_job_of_a_programs_own_is_heard_and_a_second_spelling_of_ours_tells_nothing_of_it(
    rough, nobody, way, job
):
    token = issuer.token("job:*")
    with listening(nobody, way, f"job:{job}", token=token) as stream:
        assert stream.take(1)[0].event == "JobState"
    for name in spellings(job):
        with listening(nobody, way, f"job:{name}", token=token) as stream, rough.connect() as connection:
            append(connection, f"job:{name}", data={"n": 1})
            stream.until(noted(1))
            assert [got.event for got in stream.all if not got.event.startswith("stream.")] == ["Noted"]


def test_the_page_of_a_job_has_one_spelling(rough, nobody, job):
    token = issuer.token("job:*")
    assert "TaskComplete" in nobody.get(f"/streams/jobs/{job}/?token={token}").text  # and it is over
    for name in spellings(job):
        listener = Listener(nobody, f"/streams/jobs/{name}/?token={token}")
        try:
            assert listener.next().event == "stream.open"
            with rough.connect() as connection:
                append(connection, f"job:{name}", data={"n": 1})
            assert [got.event for got in listener.until(noted(1))] == ["Noted"]
        finally:
            listener.close()


def test_a_job_of_a_programs_own_can_be_added(rough, nobody):
    token = issuer.token("item:1", "job:*")
    with listening(nobody, "socket", "item:1", token=token) as stream, rough.connect() as connection:
        stream.say(add=["job:abc"])
        stream.until(lambda got: got.event == "stream.channels")
        append(connection, "job:abc", data={"n": 1})
        assert notes(stream.until(noted(1))) == [1]


def test_a_cookie_brings_it_as_well(rough, trusting, nobody, way):
    item = new_item(rough.login("alice"))
    settle(rough)
    token = issuer.token("item:*")
    nobody.cookies.set(COOKIE, token)
    with listening(nobody, way, f"item:{item}") as stream, rough.connect() as connection:
        append(connection, f"item:{item}", data={"n": 1})
        assert notes(stream.take(1)) == [1]
    assert in_no_log(rough, trusting, token)


def test_a_stream_ends_with_its_token_and_goes_on_by_the_next_one(rough, nobody, way):
    item = new_item(rough.login("alice"))
    cursor = settle(rough)
    old = issuer.token(f"item:{item}", seconds=5)
    with listening(nobody, way, f"item:{item}", token=old) as stream:
        end = stream.ended(seconds=20)[-1]
        assert end.data.get("reason") == "revoked" or end.data["code"] == "token_expired"
    with listening_refused(nobody, way, f"item:{item}", old) as said:
        assert (said["status"], said["code"]) == (401, "token_expired")
    with rough.connect() as connection:
        append(connection, f"item:{item}", data={"n": 1})
    new = issuer.token(f"item:{item}")
    with listening(nobody, way, f"item:{item}", token=new, last_event_id=cursor) as stream:
        assert notes(stream.take(1)) == [1]


def test_a_key_that_is_taken_out_ends_what_it_signed(rough, keys, nobody, way):
    issuer.write(keys, issuer.public("ES256"), issuer.public("RS256"))
    item = new_item(rough.login("alice"))
    try:
        token = issuer.token(f"item:{item}", by="RS256")
        with listening(nobody, way, f"item:{item}", token=token) as stream:
            issuer.write(keys, issuer.public("ES256"))
            end = stream.ended(seconds=25)[-1]  # polls ask anew when their time is over
            assert end.data.get("reason") == "revoked" or end.data["code"] == "token_invalid"
    finally:
        issuer.write(keys, issuer.public("ES256"))


def test_it_has_no_channels_of_its_own_and_no_other_part_of_the_api(rough, trusting, nobody):
    token = issuer.token("item:*")
    answer = nobody.get("/streams/me/", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "channel_forbidden")
    for path in ("/api/items", "/api/session", "/api/notifications"):
        assert nobody.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 401
        assert nobody.get(path, params={"token": token}).status_code == 401
    assert in_no_log(rough, trusting, token)


def test_who_is_connected_is_still_known_to_who_estimates_an_audience(rough, nobody):
    """An issuer's users have ids that are no numbers."""
    ask = "from streams.presence import connected_users as found; print('known:', found() is not None)"
    with listening(nobody, "stream", "item:1", token=issuer.token("item:1")):
        time.sleep(1.5)  # in which whom it counts would be said
        # A Redis that is busy for longer than a reader waits is not known for a moment.
        eventually(lambda: "known: True" in rough.manage("shell", "-c", ask))


def test_a_process_that_is_told_nonsense_says_so_and_does_not_start(rough):
    rough.launch("daphne27", STREAMS_TOKEN_ISSUERS='[{"issuer": "a"}]')
    assert rough.processes["daphne27"].wait(30) == 1
    del rough.processes["daphne27"]
    said = rough.log("daphne27").read_text()
    assert said.splitlines() == [
        "tickertape: STREAMS_TOKEN_ISSUERS is not right: 0.channels: Field required."
    ]

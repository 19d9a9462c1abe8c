"""What will not heal is refused with problem+json, and with a status at which EventSource gives up."""

import httpx
import pytest

from tests.faults.people import SERVERS, new_item
from tests.stack import USERS


@pytest.fixture(params=SERVERS)
def bob(request, rough):
    """Bob on each server in turn."""
    return rough.login("bob", rough.url(request.param))


@pytest.fixture
def private(rough):
    """An item that bob may not read."""
    return new_item(rough.login("alice"), visibility="members")


def refused(client, path: str) -> tuple[int, str]:
    """Return status and code of a refusal, after checking its form."""
    answer = client.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() >= {"type", "title", "status", "code", "detail", "errors"}
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]


def test_another_s_channels_are_forbidden(bob, private):
    assert refused(bob, f"/streams/items/{private}/") == (403, "channel_forbidden")
    assert refused(bob, f"/streams/?channel=item:{private}") == (403, "channel_forbidden")
    assert refused(bob, f"/streams/?channel=system&channel=item:{private}") == (403, "channel_forbidden")
    assert refused(bob, "/streams/?channel=user:1") == (403, "channel_forbidden")
    assert refused(bob, "/streams/?channel=user:999999") == (403, "channel_forbidden")  # there or not
    assert refused(bob, "/streams/?channel=group:others") == (403, "channel_forbidden")


def test_what_does_not_exist_is_not_found(bob):
    assert refused(bob, "/streams/items/999999999/") == (404, "channel_unknown")
    assert refused(bob, "/streams/?channel=item:999999999") == (404, "channel_unknown")
    assert refused(bob, "/streams/?channel=job:none") == (404, "channel_unknown")


@pytest.mark.parametrize(
    "name",
    ["", "item", "item:", "item:0", "item:01", "item:x", "item:-1", "item:1 ", "item:9999999999999999999",
     "system:1", "user:alice", "nonsense:1", "internal:access", "ITEM:1", "item:1%0A", "item:1%00",
     "%ED%A0%80", "x" * 5000],
)  # fmt: skip
def test_a_malformed_channel_is_a_bad_request(bob, name):
    assert refused(bob, f"/streams/?channel={name}") == (400, "channel_malformed")


def test_no_channel_and_too_many_are_bad_requests(bob):
    assert refused(bob, "/streams/") == (400, "bad_request")
    many = "&".join(f"channel=group:g{number}" for number in range(51))
    status, code = refused(bob, f"/streams/?{many}")
    assert (status, code) == (400, "too_many_channels")


@pytest.mark.parametrize(
    "path", ["/streams/?channel=system", "/streams/me/", "/streams/items/1/", "/streams/?channel=x"]
)
@pytest.mark.parametrize("server", SERVERS)
def test_who_is_not_logged_in_is_told_so(rough, server, path):
    with httpx.Client(base_url=rough.url(server), timeout=10) as nobody:
        assert refused(nobody, path) == (401, "not_logged_in")


def test_other_methods_are_not_allowed(bob):
    answer = bob.post("/streams/me/")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_the_users_that_the_tests_rely_on_exist(rough):
    # 403 for `user:1` above is another's channel, not a missing one's.
    with rough.connect() as connection:
        names = connection.execute("SELECT username FROM auth_user WHERE id = 1").fetchone()
    assert names[0] == USERS[0]

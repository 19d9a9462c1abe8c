"""What streams and health answer where nothing is wrong with the server, only with what was asked."""

import json
import socket
import time

import httpx
import psycopg
import pytest

from tests.stack import eventually, listening
from tests.test_end_to_end import comment, item_of


def test_a_query_that_is_no_text_is_refused(server):
    with socket.create_connection(("127.0.0.1", int(server.rpartition(":")[2]))) as link:
        link.sendall(b"GET /api/items?a=\xff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = link.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_what_is_not_ready_says_which_part(stack, tmp_path, postgres, valkey):
    """A web process whose workers nobody started."""
    from tests.stack import Stack

    alone = Stack(postgres, valkey, tmp_path, name="alone")
    with alone:
        alone.start("uvicorn")
        answer = httpx.get(alone.url("uvicorn") + "/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == "not_ready"
    assert (body["database"], body["hub"], body["worker"]) == (True, True, False)


def test_a_ready_process_says_so(server):
    def ready() -> bool:
        """It is; a busy worker, or a Redis that a test emptied, may just have been late."""
        answer = httpx.get(server + "/readyz", timeout=20)
        return answer.status_code == 200 and answer.json()["status"] == "ok"

    eventually(ready)
    assert httpx.get(server + "/healthz").json() == {"status": "ok"}


def test_metrics_are_what_prometheus_reads(stack, server):
    def up() -> bool:
        """All is up, also where a test just cut the server off from Redis."""
        text = httpx.get(server + "/metrics", timeout=20).text
        samples = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
        assert float(samples["tickertape_connections"]) >= 1
        return samples["tickertape_database_up"] == samples["tickertape_redis_up"] == "1"

    with listening(stack.login("alice", server), "/streams/me/"):
        eventually(up)


def test_a_member_of_many_groups_hears_them_all(stack, server, settings):
    names = [f"group-{n}" for n in range(settings.STREAMS_MAX_CHANNELS + 10)]
    stack.manage(
        "shell", "--verbosity=0", "-c",
        "from django.contrib.auth.models import Group, User\n"
        "user = User.objects.get(username='carol')\n"
        f"user.groups.set([Group.objects.get_or_create(name=name)[0] for name in {names!r}])",
    )  # fmt: skip
    carol = stack.login("carol", server)

    def opens() -> bool:
        """The stream opens: at first a new group may still end it, so that its reader comes back."""
        with listening(carol, "/streams/me/") as stream:
            return stream.opened.event == "stream.open"

    eventually(opens)


def test_a_page_hears_its_user_and_what_it_names_on_one_stream(stack, server):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    named, other = item_of(bob), item_of(alice)

    with listening(alice, f"/streams/me/?channel=item:{named}&channel=item:{named}") as stream:
        comment(bob, other, "of one's own")
        comment(bob, named, "of what is named")
        heard = stream.until(lambda got: got.event == "CommentAdded")
        if not any(got.event == "NotificationRaised" for got in heard):
            heard += stream.until(lambda got: got.event == "NotificationRaised")

    comments = [got.data["item_id"] for got in heard if got.event == "CommentAdded"]
    raised = [got.data["item_id"] for got in heard if got.event == "NotificationRaised"]
    assert (comments, raised) == ([named], [other])


@pytest.mark.parametrize(
    ("query", "status"),
    [("channel=item:999999", 404), ("channel=user:1", 403), ("channel=no+name", 400)],
)
def test_what_may_not_be_read_is_refused_beside_ones_own_too(stack, server, query, status):
    answer = stack.login("bob", server).get(f"/streams/me/?{query}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_too_many_channels_are_refused_beside_ones_own_too(stack, server, settings):
    named = "&".join(f"channel=item:{n}" for n in range(1, settings.STREAMS_MAX_CHANNELS + 2))
    answer = stack.login("bob", server).get(f"/streams/me/?{named}")
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_channels")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/streams/", "/streams/me/", "/healthz", "/readyz", "/metrics"])
def test_other_methods_are_405_in_our_form(stack, server, method, path):
    answer = stack.login("alice", server).request(method, path)
    assert answer.status_code == 405
    assert json.loads(answer.text)["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]


def test_metrics_say_how_old_the_oldest_transactions_are(stack, server):
    def ages() -> tuple[float, float]:
        text = httpx.get(server + "/metrics").text
        samples = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
        assert {"tickertape_unplaced_events", "tickertape_oldest_unplaced_seconds"} <= samples.keys()
        return (
            float(samples["tickertape_oldest_writer_seconds"]),
            float(samples["tickertape_oldest_transaction_seconds"]),
        )

    with psycopg.connect(stack.database_url) as reader, psycopg.connect(stack.database_url) as writer:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM events_event")
        time.sleep(0.5)
        writer.execute("SELECT pg_current_xact_id()")
        time.sleep(0.5)
        writes, any_kind = ages()
        assert any_kind > writes + 0.4 > 0.8


def test_metrics_say_what_replication_keeps_from_cleaning_up(stack, server):
    def held() -> float:
        text = httpx.get(server + "/metrics").text
        samples = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
        return float(samples["tickertape_replication_held_transactions"])

    assert held() == 0

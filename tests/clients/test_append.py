"""The function that other programs append with: once, however often it is tried."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from clients import append as client
from tests.stack import ROOT, listening


def shipped(user, n=1):
    return {"channels": [f"user:{user}"], "type": "ShippedNow", "data": {"n": n}}


def test_what_is_appended_is_heard_live(stack, server, key):
    alice = stack.login("alice", server)
    user = alice.get("/api/session").json()["user"]["id"]
    with listening(alice, "/streams/me/") as stream:
        ids = client.append(server, key, shipped(user, 1), shipped(user, 2))
        got = stream.take(2)

    assert len(ids) == 2
    assert [(each.event, each.data["n"]) for each in got] == [("ShippedNow", 1), ("ShippedNow", 2)]


def test_an_id_of_ones_own_makes_a_retried_task_harmless(stack, server, key):
    one = shipped(1) | {"id": "task-7"}

    assert client.append(server, key, one) == client.append(server, key, one)


def test_what_is_refused_is_not_tried_again(server, key, monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: pytest.fail("it waited"))

    with pytest.raises(client.Refused) as refused:
        client.append(server, key, {"channels": ["system"], "type": "ShippedNow", "data": {}})
    assert (refused.value.status, refused.value.problem["code"]) == (403, "api_key_scope")
    with pytest.raises(client.Refused, match="401"):
        client.append(server, "tt_wrong", shipped(1))


def test_what_passes_is_tried_again_with_the_same_id(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.01)
    bodies = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(bodies) < 3 else 201)
            self.end_headers()
            self.wfile.write(b'{"ids":["5"]}')

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as busy:
        serving = threading.Thread(target=busy.serve_forever, daemon=True)
        serving.start()
        assert client.append(f"http://127.0.0.1:{busy.server_port}", "k", shipped(1)) == ["5"]
        busy.shutdown()
        serving.join()
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


def test_it_needs_nothing_but_python():
    code = "import sys; import clients.append; assert not {'django', 'httpx', 'events'} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"], check=True
    )

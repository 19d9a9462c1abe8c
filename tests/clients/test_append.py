"""The function that other programs append with: once, however often it is tried."""

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from clients import append as client
from project import processes
from tests.stack import ROOT, eventually, listening


def shipped(user, n=1):
    return {"channels": [f"user:{user}"], "type": "ShippedNow", "data": {"n": n}}


def test_what_is_appended_is_heard_live(stack, server, key):
    alice = stack.login("alice", server)
    user = alice.get("/api/session").json()["user"]["id"]
    stack.rest()  # or her stream would tell of what was before
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


def test_who_came_too_often_waits_for_as_long_as_told(monkeypatch):
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    answers = [(429, "7"), (429, None), (503, "Wed, 21 Oct 2026 07:28:00 GMT"), (429, "86400"), (201, None)]

    class Strict(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, after = answers.pop(0)
            self.send_response(status)
            if after:
                self.send_header("Retry-After", after)
            self.end_headers()
            self.wfile.write(b'{"ids":["5"]}')

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Strict) as strict:
        serving = threading.Thread(target=strict.serve_forever, daemon=True)
        serving.start()
        assert client.append(f"http://127.0.0.1:{strict.server_port}", "k", shipped(1)) == ["5"]
        strict.shutdown()
        serving.join()
    assert waits == [7, 1, 2, client.LONGEST_WAIT_SECONDS]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirection_takes_the_key_elsewhere(status, monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    asked = []

    class Lure(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", f"http://localhost:{lure.server_port}/elsewhere")
            self.end_headers()

        def do_GET(self):
            asked.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Lure) as lure:
        serving = threading.Thread(target=lure.serve_forever, daemon=True)
        serving.start()
        with pytest.raises(OSError, match=str(status)):
            client.append(f"http://127.0.0.1:{lure.server_port}", "k", shipped(1))
        lure.shutdown()
        serving.join()
    assert asked == []


PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Log in to this network</html>"
PASSING = {
    "a body that breaks off": b'HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"ids":',
    "no HTTP": b"nonsense\r\n\r\n",
    "a portal": PAGE,
    "a portal elsewhere": b"HTTP/1.1 302 Found\r\nLocation: /portal\r\nContent-Length: 0\r\n\r\n",
    "a portal elsewhere by POST": b"HTTP/1.1 307 Moved\r\nLocation: /portal\r\nContent-Length: 0\r\n\r\n",
    "a request that came too slowly": b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    "another object": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "no object": b"HTTP/1.1 200 OK\r\n\r\nnull",
    "nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@contextmanager
def answering(*answers: bytes):
    """Answer with these bytes, the last again and again; give the address and what was sent."""
    bodies = []

    class Odd(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.wfile.write(answers[min(len(bodies), len(answers)) - 1])

        def do_GET(self):
            self.wfile.write(PAGE)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Odd) as odd:
        serving = threading.Thread(target=odd.serve_forever, daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{odd.server_port}", bodies
        finally:
            odd.shutdown()
            serving.join()


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
def test_what_is_no_answer_of_the_service_passes_or_is_an_oserror(answer, monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0)

    with answering(answer, b'HTTP/1.1 201 Created\r\n\r\n{"ids":["5"]}') as (url, bodies):
        assert client.append(url, "k", shipped(1)) == ["5"]
    assert len(bodies) == 2
    assert len(set(bodies)) == 1
    with answering(answer) as (url, bodies), pytest.raises(OSError):  # noqa: PT011 (the kind is what is told)
        client.append(url, "k", shipped(1))
    assert len(bodies) == client.TRIES


def test_what_is_refused_is_so_though_its_problem_breaks_off():
    with (
        answering(b'HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{"code":') as (url, bodies),
        pytest.raises(client.Refused) as refused,
    ):
        client.append(url, "k", shipped(1))
    assert (refused.value.status, refused.value.problem, len(bodies)) == (400, {}, 1)


def test_a_key_that_cannot_be_sent_is_said_at_once(monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: pytest.fail("it waited"))

    with pytest.raises(ValueError, match="header"):
        client.append("http://127.0.0.1:1", "k\n", shipped(1))


SHOP = """
import os
from append import append
from celery import Celery

app = Celery("shop", broker=os.environ["BROKER"])
app.conf.task_default_queue = "shop"

@app.task(bind=True)
def ship(self, user, order):
    event = {"channels": [f"user:{user}"], "type": "ShippedNow", "data": {"n": order}, "id": f"order-{order}"}
    append(os.environ["TICKERTAPE"], os.environ["KEY"], event)
    if not self.request.retries:
        raise self.retry(countdown=0)  # as a worker does that was killed before it could say that it is done
"""


def test_a_task_of_another_project_appends_in_a_process_of_its_own(stack, server, key, valkey, tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    shutil.copy(ROOT / "clients/append.py", tmp_path)
    environment = {
        "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "BROKER": valkey.url,
        "TICKERTAPE": server, "KEY": key,
    }  # fmt: skip
    alice = stack.login("alice", server)
    user = alice.get("/api/session").json()["user"]["id"]
    stack.rest()
    celery = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "shop"]
    with (tmp_path / "log").open("wb") as output, listening(alice, "/streams/me/") as stream:
        worker = processes.spawn(
            [*celery, "worker", "--pool", "solo", "-n", "shop@%h", "-l", "INFO"],
            cwd=tmp_path, env=environment, output=output,
        )  # fmt: skip
        try:
            for order in (f"{server}-1", f"{server}-2"):
                subprocess.run(
                    [*celery, "call", "shop.ship", "--args", json.dumps([user, order])],
                    cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE,
                )  # fmt: skip
            got = stream.take(2)
            eventually(lambda: (tmp_path / "log").read_text().count("succeeded") == 2)
            after = client.append(server, key, shipped(user, "last"))
            got += stream.take(1)
        finally:
            worker.terminate()
            worker.wait(20)

    assert [each.data["n"] for each in got] == [f"{server}-1", f"{server}-2", "last"]
    assert len(after) == 1


def test_it_needs_nothing_but_python():
    code = "import sys; import clients.append; assert not {'django', 'httpx', 'events'} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"], check=True
    )

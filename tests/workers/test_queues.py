"""Jobs have a queue of their own: however many run and wait, what places and reacts goes on at once."""

import time

import pytest
import redis

from tests.stack import Stack, eventually, listening

MANY = 6  # more than a worker has processes, and as many again that it may have at hand


class Apart(Stack):
    """A worker that takes no jobs, and one that takes nothing else, as in the Compose file."""

    def command(self, name):
        own = {"worker": ["-X", f"{self.name}.jobs"], "worker-jobs": ["-Q", f"{self.name}.jobs"]}
        return [*super().command(name), *own.get(name, [])]


@pytest.fixture(scope="module")
def apart(postgres, valkey, tmp_path_factory):
    # The clocks, which need no queue, would hide what the queues do.
    running = Apart(
        postgres, valkey, tmp_path_factory.mktemp("apart"), name="apart", WORKERS_CLOCK_SECONDS="60"
    )
    with running:
        running.start("uvicorn", "worker", "worker-jobs")
        yield running


def test_slow_jobs_do_not_hold_up_a_notification(apart, valkey):
    alice, bob = apart.login("alice"), apart.login("bob")
    item = alice.post("/api/items", json={"title": "Busy"}).json()["id"]
    asked = [alice.post("/api/jobs/slow", json={"steps": 1000, "seconds": 600}).json() for _ in range(MANY)]

    def busy():
        states = [alice.get(f"/api/jobs/{job['id']}").json()["state"] for job in asked]
        return states.count("running") == 2 and states.count("queued") == MANY - 2

    eventually(busy, seconds=60)
    queues = redis.Redis.from_url(valkey.url)
    eventually(lambda: queues.llen("apart.jobs") + 2 <= MANY - 2)  # the worker has what it takes at once

    waits = []
    with listening(alice, "/streams/me/") as stream:
        for n in range(5):
            began = time.monotonic()
            assert bob.post(f"/api/items/{item}/comments", json={"text": f"{n}"}).status_code == 201
            stream.until(lambda got: got.event == "NotificationRaised", seconds=20)
            waits.append(time.monotonic() - began)

    assert sorted(waits)[2] < 2, waits
    assert busy(), "they all waited or ran meanwhile"
    for job in asked:
        alice.delete(f"/api/jobs/{job['id']}")


def test_a_worker_that_is_told_nothing_takes_both(stack):
    alice = stack.login("alice")
    job = alice.post("/api/jobs/recount").json()["id"]

    eventually(lambda: alice.get(f"/api/jobs/{job}").json()["state"] == "complete")

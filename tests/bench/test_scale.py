"""The scenario that capacity is reckoned from: that it drives what it says, and finds every unit."""

import contextlib
import os

import pytest
import redis

from bench import publishing
from bench.apart import apart
from bench.context import Context
from bench.crowd import Told, serve
from bench.figures import DAPHNE, UVICORN
from bench.inside import Inside
from bench.publishing import Way
from bench.scaling import fanout, hubs
from bench.scaling.cores import moved, precise
from bench.scaling.hubs import Batches
from bench.scaling.units import KEYS, UNITS
from bench.scenarios import scale
from bench.servers import wait_for
from bench.web import NEVER_LOOK
from tests.bench.test_publishing import Clock

CHANNEL = "item:7"


def test_what_is_published_as_fast_as_it_goes_is_heard_whole_by_every_subscriber(context):
    environment = context.deployment.environment
    with Told(serve, context.cores.rest, fanout._Flood, (), environment) as flood:
        paced = flood.tell("run", 3, 5, 200.0, 0.3)
        full = flood.tell("run", 5, 25, 0.0, 1.0)

    with redis.Redis.from_url(context.deployment.valkey.url) as client:
        assert int(client.get(fanout.NUMBER)) == paced.messages + full.messages
    assert 0 < paced.messages <= 61
    assert full.messages > paced.messages
    assert full.bytes > 25 * 200


def test_batches_are_of_the_size_that_was_asked_for(context):
    with (
        context.serving(UVICORN, **NEVER_LOOK) as server,
        context.crowd() as crowd,
        Batches(context.deployment) as publisher,
    ):
        crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, 1)], last=0)

        sent = publisher.batches([CHANNEL], of=4, a_second=50, seconds=0.5, size=1_000)

        assert crowd.until(sent.last)
        heard = crowd.report()
        assert (heard.events, heard.faults) == (sent.events, {})
        assert heard.bytes > 1_000 * sent.events
        assert 0 < sent.events <= 104


class Unsent(hubs._Batches):
    """Batches that go nowhere."""

    def __init__(self):
        Way.__init__(self)
        self._most = 1

    def send(self, events):
        pass


class Dry(fanout._Flood):
    """A flood of nothing."""

    def __init__(self):
        self.published = 0

    def _message(self, events):
        return b"x"

    def _publish(self, message, times):
        self.published += times

    def _settle(self, most):
        pass

    @contextlib.contextmanager
    def _subscribed(self, number):
        yield None, {}


def test_both_keep_to_a_rate_where_nothing_holds_them_up(monkeypatch):
    clock = Clock()
    for module in (publishing, hubs, fanout):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(fanout, "_read", lambda *_: None)
    flood = Dry()

    assert Unsent().batches([CHANNEL], 4, 50, 0.5, hubs.BYTES).events == 104  # with the last at the end
    assert flood.run(3, 5, 200.0, 0.3).messages == flood.published == 60


def test_a_process_runs_on_one_core_meanwhile_and_on_its_own_after(context):
    pid = context.deployment.valkey.pid
    before = os.sched_getaffinity(pid)

    with moved([pid], context.cores.server):
        assert os.sched_getaffinity(pid) == {context.cores.server}

    assert os.sched_getaffinity(pid) == before
    assert precise(pid) > 0


def test_a_worker_is_told_of_what_was_put_there_for_it(context):
    with (
        apart(context.deployment, "bench_hint") as own,
        own.connect() as connection,
        Inside(own) as inside,
        redis.Redis.from_url(context.deployment.valkey.url) as client,
    ):

        def waiting():
            return connection.execute("SELECT count(*) FROM events_event WHERE position IS NULL").fetchone()

        inside.seed(5)
        assert (waiting(), client.exists("bench_hint:hint:workers.place")) == ((5,), 0)
        inside.hint()
        wait_for(lambda: client.exists("bench_hint:hint:workers.place") == 1, "there is no hint", seconds=10)

        inside.comment(3, items=1, watchers=0, placed=False)
        assert waiting() == (3,)
        inside.comment(3, items=1, watchers=0)
        assert waiting() == (0,)


def test_a_scenario_of_which_the_server_was_not_asked_for_measures_nothing(context):
    other = Context(True, context.cores, context.folder, context.deployment, {DAPHNE: None})

    assert list(scale.run(other)) == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_unit_is_found(context):
    found = [KEYS.get((each.subject, each.quantity)) for each in scale.run(context)]

    assert {key for key in found if key} == set(UNITS)

"""One scenario, small, on the real thing: it is measured, and what is broken on the way is noticed."""

import pytest

from bench.figures import DAPHNE, UVICORN
from bench.scenarios import single
from bench.servers import Trouble
from bench.web import NEVER_LOOK

CHANNEL = "item:5"


def test_a_scenario_measures_each_subject_on_the_real_thing(context, monkeypatch):
    monkeypatch.setattr(single, "CROWDS", {True: (20,)})
    monkeypatch.setattr(single, "QUICK_EVENTS", 20)

    found = {(each.subject, each.quantity): each.value for each in single.run(context)}

    for subject in (UVICORN, DAPHNE):
        assert 0 < found[subject, "latency, median"] <= found[subject, "latency, p99"]
        assert found[subject, single.RATE] > 0
        assert 0 < found[subject, "CPU of the load generator"] < 100


def test_batches_of_the_publisher_come_once_and_in_order(context):
    channels = [f"item:{number}" for number in range(1, 11)]
    with (
        context.serving(UVICORN, **NEVER_LOOK) as server,
        context.crowd() as crowd,
        server.by_valkey() as publisher,
    ):
        wanted = [(server.opening(channel), channel, 3) for channel in channels]
        assert crowd.open(server.address, wanted, last=0).streams == 30

        sent = publisher.steady(channels, rate=1_000, seconds=4.0)

        assert crowd.until(sent.last)
        heard = crowd.report()
        assert (heard.events, heard.faults) == (3 * sent.events, {})
        assert sent.events > 400
        assert not crowd.until({CHANNEL: sent.last[CHANNEL] + 1}, seconds=0.1)


def test_a_generator_that_naps_reads_all_that_came_meanwhile(context):
    with context.serving(UVICORN) as server, context.crowd() as crowd, server.publisher() as publisher:
        crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, 30)])
        crowd.nap(0.5)
        crowd.mark()

        sent = publisher.steady([CHANNEL], rate=200, seconds=1.0)
        assert crowd.until(sent.last)

        heard = crowd.report()
        assert (heard.events, heard.faults) == (30 * sent.events, {})
        assert heard.late_ms[100] >= 500


def test_a_server_that_goes_away_is_noticed(context):
    with context.serving(UVICORN) as server, context.crowd() as crowd:
        crowd.open(server.address, [(server.opening(CHANNEL), CHANNEL, 5)])

        server.process.kill()

        assert crowd.closed(5)
        assert crowd.report().faults == {"closed": 5}


def test_a_stream_that_is_refused_is_no_stream(context):
    with (
        context.serving(UVICORN) as server,
        context.crowd() as crowd,
        pytest.raises(Trouble, match="403"),
    ):
        crowd.open(server.address, [(server.opening("user:1"), "user:1", 1)])

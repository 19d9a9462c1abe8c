"""Workers end when they are told to, also where their broker hangs: a deploy must not wait for Redis.

Celery tells its broker good-bye at its end, and waits for the answer.
"""

import contextlib
import time

import pytest

from tests.faults.test_promise_4_redis_is_a_hint import hang, thaw
from tests.stack import eventually

END_SECONDS = 15.0


@pytest.fixture
def leaving(alone):
    """A second worker, to be ended."""
    log = alone.log("worker2")
    log.write_text("")
    alone.start("worker2")
    eventually(lambda: "ready." in log.read_text(), seconds=60)
    yield "worker2"
    if "worker2" in alone.processes:
        alone.kill("worker2")


@pytest.mark.parametrize(
    ("hung", "back"),
    [
        pytest.param(0.3, None, id="hangs"),
        pytest.param(5.0, None, id="hangs for long", marks=pytest.mark.long),
        pytest.param(2.0, 0.0, id="is just back", marks=pytest.mark.long),
        pytest.param(5.0, 0.5, id="was back for a moment", marks=pytest.mark.long),
        pytest.param(9.0, 1.5, id="was asked anew", marks=pytest.mark.long),
    ],
)
def test_a_worker_ends_in_time_although_its_broker(alone, leaving, hung, back, figure, request):
    with contextlib.ExitStack() as healing:
        hang(alone.valkey)
        healing.callback(thaw, alone.valkey)
        time.sleep(hung)
        if back is not None:
            healing.close()
            time.sleep(back)
        began = time.monotonic()
        status = alone.stop(leaving)  # fails where it takes longer than its 15 s
        took = time.monotonic() - began
    figure(f"SIGTERM to a worker whose Redis {request.node.callspec.id}: ended in {took:.1f} s")
    assert status == 0
    assert took < END_SECONDS

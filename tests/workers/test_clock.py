"""The clock: it ticks on, with hints and without, and takes none that it does not follow."""

import itertools
import threading
import time

import pytest

from tests.stack import eventually
from workers import wake
from workers.clock import Ticker
from workers.talk import Talk
from workers.wake import Ear


def test_a_clock_ticks_at_once_when_there_is_a_hint(make_waker, valkey_client):
    ticked = threading.Semaphore(0)
    ticker = Ticker("test", ticked.release, seconds=60.0, hint=wake.PLACE)
    ticker.start()
    try:
        assert ticked.acquire(timeout=20)
        eventually(lambda: valkey_client.info("clients")["blocked_clients"])
        make_waker().wake(wake.PLACE)
        assert ticked.acquire(timeout=20)
    finally:
        ticker.stop()
        ticker.join(20)


HOSTS = {"refused": "127.0.0.1:1", "hung": "127.0.0.1:{}", "no name": "a..b:6379", "no port": "127.0.0.1:x"}


@pytest.mark.parametrize("way", HOSTS)
def test_a_clock_ticks_on_without_redis(settings, hung_port, way):
    settings.REDIS_URL = f"redis://{HOSTS[way].format(hung_port)}/0"
    ticked = threading.Semaphore(0)
    at = []

    def tick():
        at.append(time.monotonic())
        ticked.release()

    ticker = Ticker("test", tick, seconds=0.2, hint=wake.PLACE)
    ticker.start()
    try:
        assert all(ticked.acquire(timeout=20) for _ in range(9))
        assert at[8] - at[0] > 1.2
        pauses = sorted(later - earlier for earlier, later in itertools.pairwise(at[:9]))
        assert pauses[5] < 0.5, "most of them, on a machine that is slow now and then"
    finally:
        ticker.stop()
        ticker.join(20)


def test_a_clock_ticks_on_whatever_a_wait_for_hints_raises(valkey_client, monkeypatch):
    def broken(*arguments, **more):
        raise ValueError

    monkeypatch.setattr(Talk, "ask", broken)
    ticked = threading.Semaphore(0)
    ticker = Ticker("test", ticked.release, seconds=0.1, hint=wake.PLACE)
    ticker.start()
    try:
        assert all(ticked.acquire(timeout=20) for _ in range(4))
    finally:
        ticker.stop()
        ticker.join(20)


def test_a_clock_that_cannot_work_leaves_the_hints_to_others(make_waker, hinted):
    """And does not try its work as often as there are some."""
    ticked, tries, broken = threading.Semaphore(0), [], [True]

    def work():
        tries.append(time.monotonic())
        ticked.release()
        if broken:
            raise OSError

    ticker = Ticker("test", work, seconds=0.3, hint=wake.PLACE)
    ticker.start()
    waker = make_waker()
    try:
        assert ticked.acquire(timeout=20)
        for _ in range(3):
            waker.wake(wake.PLACE)
            eventually(lambda: hinted() == 1)
            assert ticked.acquire(timeout=20)
        assert hinted() == 1
        pauses = sorted(later - earlier for earlier, later in itertools.pairwise(tries))
        assert pauses[len(pauses) // 2] > 0.15, "most of them: one that is late makes the next one short"
        broken.clear()
        eventually(lambda: hinted() == 0)
    finally:
        ticker.stop()
        ticker.join(20)


def test_a_clock_that_stops_gives_back_the_hint_it_took(make_ear, make_waker, hinted, monkeypatch):
    hear, heard = Ear._hear, threading.Event()
    ticks = []
    ticker = Ticker("test", lambda: ticks.append(1), seconds=30.0, hint=wake.PLACE)

    def late(self, seconds):
        """Have it told to stop just when it has taken one."""
        found = hear(self, seconds)
        if found:
            heard.set()
            ticker.stop()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Ear, "_hear", late)
        ticker.start()
        make_waker().wake(wake.PLACE)
        ticker.join(20)
    assert heard.is_set()
    assert len(ticks) == 1
    assert hinted() == 1
    assert make_ear().wait(5)


def test_a_clock_that_waits_long_stops_soon_and_leaves_no_connection(valkey_client):
    before = valkey_client.info("clients")["connected_clients"]
    ticker = Ticker("test", lambda: None, seconds=60.0, hint=wake.PLACE)
    ticker.start()
    eventually(lambda: valkey_client.info("clients")["blocked_clients"])
    ticker.stop()
    ticker.join(20)
    assert not ticker.is_alive(), "it waited its time"
    eventually(lambda: valkey_client.info("clients")["connected_clients"] <= before)

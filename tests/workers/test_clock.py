"""The clock: it ticks on, with hints and without, and takes none that it does not follow."""

import threading
import time

import pytest
import redis

from tests.stack import eventually
from workers import wake
from workers.clock import Ticker
from workers.wake import Ear


def test_a_clock_ticks_at_once_when_there_is_a_hint(make_waker, valkey_client):
    ticked = threading.Semaphore(0)
    ticker = Ticker("test", ticked.release, seconds=2.0, hint=wake.PLACE)
    ticker.start()
    try:
        assert ticked.acquire(timeout=20)
        began = time.monotonic()
        eventually(lambda: valkey_client.info("clients")["blocked_clients"])
        make_waker().wake(wake.PLACE)
        assert ticked.acquire(timeout=20)
        assert time.monotonic() - began < 1.5
    finally:
        ticker.stop()
        ticker.join(20)


HOSTS = {"refused": "127.0.0.1:1", "hung": "127.0.0.1:{}", "no name": "a..b:6379", "no port": "127.0.0.1:x"}


@pytest.mark.parametrize("way", HOSTS)
def test_a_clock_ticks_on_without_redis(settings, hung_port, way):
    settings.REDIS_URL = f"redis://{HOSTS[way].format(hung_port)}/0"
    ticked = threading.Semaphore(0)
    ticker = Ticker("test", ticked.release, seconds=0.2, hint=wake.PLACE)
    began = time.monotonic()
    ticker.start()
    try:
        assert all(ticked.acquire(timeout=20) for _ in range(6))
        assert 0.8 < time.monotonic() - began < 3
    finally:
        ticker.stop()
        ticker.join(20)


def test_a_clock_ticks_on_whatever_a_wait_for_hints_raises(valkey_client, monkeypatch):
    def broken(*arguments, **more):
        raise ValueError

    monkeypatch.setattr(redis.Redis, "blpop", broken)
    ticked = threading.Semaphore(0)
    ticker = Ticker("test", ticked.release, seconds=0.1, hint=wake.PLACE)
    ticker.start()
    try:
        assert all(ticked.acquire(timeout=5) for _ in range(4))
    finally:
        ticker.stop()
        ticker.join(20)


def test_a_clock_that_cannot_work_leaves_the_hints_to_others(make_waker, hinted):
    """And does not try its work as often as there are some."""
    ticked, tries, broken = threading.Semaphore(0), [], [True]

    def work():
        tries.append(1)
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
            assert ticked.acquire(timeout=20)
            assert hinted() == 1
        assert len(tries) <= 5
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
    began = time.monotonic()
    ticker.join(20)
    assert time.monotonic() - began < 1.5
    eventually(lambda: valkey_client.info("clients")["connected_clients"] <= before)

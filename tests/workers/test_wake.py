"""The wake: a hint that can neither fail nor delay who gives it."""

import socket
import threading
import time

import pytest
from django.db import transaction

from events import log
from tests.stack import eventually
from tests.workers.conftest import WorkTested
from workers import wake
from workers.wake import Waker


@pytest.fixture
def make_waker(valkey_client, settings):
    """Make wakers of the test's own, on the settings of that moment."""
    made = []

    def make():
        made.append(Waker())
        return made[-1]

    yield make
    for waker in made:
        waker.stop()


@pytest.fixture
def queued(valkey_client, settings):
    """How many tasks wait."""
    return lambda: valkey_client.llen(settings.CELERY_TASK_DEFAULT_QUEUE)


def settled(waker):
    """Wait until a waker has dealt with all it was told."""
    eventually(lambda: not waker._wanted and not waker._given.is_set())
    waker.stop()


def test_a_burst_of_wakes_is_one_task(make_waker, queued):
    waker = make_waker()
    for _ in range(20):
        waker.wake(wake.PLACE)
    settled(waker)
    assert queued() == 1


def test_wakes_of_several_processes_are_one_task(make_waker, queued):
    wakers = [make_waker() for _ in range(3)]
    for waker in wakers:
        waker.wake(wake.PLACE)
    for waker in wakers:
        settled(waker)
    assert queued() == 1


def test_a_wake_after_the_work_was_begun_is_another_task(make_waker, queued):
    waker = make_waker()
    waker.wake(wake.PLACE)
    eventually(lambda: queued() == 1)
    waker.clear(wake.PLACE)
    waker.wake(wake.PLACE)
    eventually(lambda: queued() == 2)


def test_a_flag_whose_task_was_lost_expires(make_waker, valkey_client):
    waker = make_waker()
    waker.wake(wake.PLACE)
    settled(waker)
    assert 0 < valkey_client.pttl("tickertape:wake:workers.place") <= 1000


def test_tasks_of_different_names_do_not_hide_each_other(make_waker, queued):
    waker = make_waker()
    waker.wake(wake.PLACE)
    waker.wake(wake.REACT)
    settled(waker)
    assert queued() == 2


@pytest.mark.parametrize("away", ["REDIS_URL", "CELERY_BROKER_URL"])
@pytest.mark.parametrize("way", ["refused", "hung", "unresolvable"])
def test_a_redis_that_is_away_delays_nobody(make_waker, settings, hung_port, monkeypatch, way, away):
    host = {"refused": "127.0.0.1:1", "hung": f"127.0.0.1:{hung_port}", "unresolvable": "gone.invalid:6379"}
    setattr(settings, away, f"redis://{host[way]}/0")
    resolve = socket.getaddrinfo

    def slow(name, *arguments, **more):
        if name == "gone.invalid":
            time.sleep(1)
            raise socket.gaierror
        return resolve(name, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    waker = make_waker()
    began = time.perf_counter()
    for _ in range(100):
        waker.wake(wake.PLACE)
    assert time.perf_counter() - began < 0.05


def test_it_goes_on_when_redis_is_back(make_waker, settings, hung_port, queued, monkeypatch):
    """A failure pauses it; the next wake after the pause is sent."""
    monkeypatch.setattr(wake, "PAUSE_SECONDS", (0.1, 0.2))
    waker = make_waker()
    send, failed = waker._send, threading.Event()

    def once(task):
        if not failed.is_set():
            failed.set()
            raise OSError("away")
        send(task)

    monkeypatch.setattr(waker, "_send", once)
    waker.wake(wake.PLACE)
    assert failed.wait(5)
    assert queued() == 0
    waker.wake(wake.PLACE)
    eventually(lambda: queued() == 1)


def test_a_commit_wakes_and_a_rollback_does_not(database, queued):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        log.append(WorkTested(n=1), channels=["item:1"])
        raise ZeroDivisionError
    with transaction.atomic():
        log.append(WorkTested(n=1), channels=["item:1"])
        wake.waker()._given.wait(0.05)
        assert queued() == 0
    eventually(lambda: queued() == 1)


def test_a_commit_of_thousands_takes_no_longer_for_the_wake(database, valkey_client):
    with transaction.atomic():
        for n in range(3_000):
            log.append(WorkTested(n=n), channels=["item:1"])
        began = time.perf_counter()
    assert time.perf_counter() - began < 0.3
    while log.place().count:
        pass


@pytest.fixture
def hung_port():
    """A server that accepts and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield server.getsockname()[1]

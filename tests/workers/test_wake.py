"""The wake: a hint that can neither fail nor delay who gives it."""

import time

import pytest
from django.db import transaction

from events import log
from tests.workers.conftest import WorkTested
from workers import wake
from workers.wake import Waker


@pytest.fixture
def waker():
    """A waker of the test's own."""
    return Waker()


def queued(client, settings):
    return client.llen(settings.CELERY_TASK_DEFAULT_QUEUE)


def test_a_burst_of_wakes_is_one_task(waker, valkey_client, settings):
    for _ in range(20):
        waker.wake(wake.PLACE)
    assert queued(valkey_client, settings) == 1


def test_a_wake_after_the_work_was_begun_is_another_task(waker, valkey_client, settings):
    waker.wake(wake.PLACE)
    waker.clear(wake.PLACE)
    waker.wake(wake.PLACE)
    assert queued(valkey_client, settings) == 2


def test_a_flag_whose_task_was_lost_expires(waker, valkey_client):
    waker.wake(wake.PLACE)
    assert 0 < valkey_client.pttl("tickertape:wake:workers.place") <= 1000


def test_tasks_of_different_names_do_not_hide_each_other(waker, valkey_client, settings):
    waker.wake(wake.PLACE)
    waker.wake(wake.REACT)
    assert queued(valkey_client, settings) == 2


@pytest.mark.parametrize("way", ["refused", "hung"])
def test_a_redis_that_is_away_delays_a_wake_by_a_tenth_of_a_second_once(
    way, settings, valkey_client, hung_port
):
    port = 1 if way == "refused" else hung_port
    settings.REDIS_URL = settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{port}/0"
    waker = Waker()
    began = time.perf_counter()
    for _ in range(50):
        waker.wake(wake.PLACE)
    assert time.perf_counter() - began < 0.25


def test_a_broker_that_is_away_delays_it_no_longer(settings, valkey_client, hung_port):
    settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{hung_port}/0"
    waker = Waker()
    began = time.perf_counter()
    waker.wake(wake.PLACE)
    assert time.perf_counter() - began < 0.3


def test_the_breaker_closes_again(settings, valkey_client):
    waker = Waker()
    waker._closed_until = time.monotonic() + 0.05
    waker.wake(wake.PLACE)
    assert queued(valkey_client, settings) == 0
    time.sleep(0.06)
    waker.wake(wake.PLACE)
    assert queued(valkey_client, settings) == 1


def test_a_commit_wakes_and_a_rollback_does_not(database, valkey_client, settings):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        log.append(WorkTested(n=1), channels=["item:1"])
        raise ZeroDivisionError
    assert queued(valkey_client, settings) == 0
    with transaction.atomic():
        log.append(WorkTested(n=1), channels=["item:1"])
        assert queued(valkey_client, settings) == 0
    assert queued(valkey_client, settings) == 1


@pytest.fixture
def hung_port():
    """A server that accepts and never answers."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield server.getsockname()[1]

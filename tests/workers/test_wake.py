"""The wake: a hint that can neither fail nor delay who gives it."""

import socket
import threading
import time
from types import SimpleNamespace

import pytest
from django.db import transaction

from events import log
from tests.stack import eventually
from tests.workers.conftest import WorkTested
from workers import wake

FLAG_SECONDS = wake.FLAG_SECONDS  # as it is where no test makes it last


@pytest.fixture(autouse=True)
def _flags_that_last(monkeypatch):
    """None expires between two lines of a test."""
    monkeypatch.setattr(wake, "FLAG_SECONDS", 60)


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
        waker.wake(wake.REACT)
    settled(waker)
    assert queued() == 1


def test_wakes_of_several_processes_are_one_task(make_waker, queued):
    wakers = [make_waker() for _ in range(3)]
    for waker in wakers:
        waker.wake(wake.REACT)
    for waker in wakers:
        settled(waker)
    assert queued() == 1


def test_a_wake_after_the_work_was_begun_is_another_task(make_waker, queued):
    waker = make_waker()
    waker.wake(wake.REACT)
    eventually(lambda: queued() == 1)
    waker.clear(wake.REACT)
    waker.wake(wake.REACT)
    eventually(lambda: queued() == 2)


def test_a_flag_whose_task_was_lost_expires(make_waker, valkey_client):
    waker = make_waker()
    waker.wake(wake.REACT)
    settled(waker)
    assert 0 < valkey_client.pttl("tickertape:wake:workers.react") <= wake.FLAG_SECONDS * 1000
    assert FLAG_SECONDS <= 1


def test_tasks_of_different_names_do_not_hide_each_other(make_waker, queued):
    waker = make_waker()
    waker.wake(wake.REACT)
    waker.wake(wake.JOBS)
    settled(waker)
    assert queued() == 2


def test_a_burst_of_wakes_to_place_is_one_hint_and_no_task(make_waker, queued, hinted):
    waker = make_waker()
    for _ in range(20):
        waker.wake(wake.PLACE)
        eventually(lambda: not waker._wanted)
    settled(waker)
    assert (hinted(), queued()) == (1, 0)


def test_a_hint_given_before_anybody_heard_is_heard(make_waker, make_ear):
    waker = make_waker()
    waker.wake(wake.PLACE)
    settled(waker)
    ear = make_ear()
    assert ear.wait(20)
    assert not ear.wait(0.01), "it was one"


def test_who_waits_hears_a_hint_at_once(make_waker, make_ear, valkey_client, in_thread):
    ear, heard = make_ear(), []
    thread = in_thread(lambda: heard.append(ear.wait(20)))
    eventually(lambda: valkey_client.info("clients")["blocked_clients"])
    began = time.monotonic()
    make_waker().wake(wake.PLACE)
    thread.join(20)
    assert heard == [True]
    assert time.monotonic() - began < 5, "it did not wait its time"


def test_of_several_who_wait_each_hint_wakes_one(make_waker, make_ear, valkey_client, in_thread):
    heard = []
    for ear in (make_ear(), make_ear()):
        in_thread(lambda ear=ear: heard.append(ear.wait(20)))
    eventually(lambda: valkey_client.info("clients")["blocked_clients"] >= 2)
    waker = make_waker()
    waker.wake(wake.PLACE)
    eventually(lambda: heard)
    assert heard == [True], "the other one still waits"
    waker.wake(wake.PLACE)
    eventually(lambda: heard == [True, True])


def test_hints_that_come_fast_are_heard_together(make_waker, make_ear, monkeypatch):
    slept = []
    monkeypatch.setattr(wake, "time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))
    waker, ear = make_waker(), make_ear(gather=60)
    waker.wake(wake.PLACE)
    assert ear.wait(120)
    assert slept == [], "the first does not wait"
    waker.wake(wake.PLACE)
    assert ear.wait(120)
    assert slept == [pytest.approx(60, abs=30)]


def test_a_hint_for_the_reactions_goes_to_who_is_at_it_and_is_no_task(make_waker, make_ear, queued):
    waker = make_waker()
    waker.hold(wake.REACT)
    waker.wake(wake.REACT)
    assert make_ear(wake.REACT).wait(20)
    assert queued() == 0


@pytest.mark.parametrize("way", ["refused", "hung"])
def test_without_redis_waiting_takes_its_time_and_little_more(
    make_ear, settings, hung_port, monkeypatch, way
):
    monkeypatch.setattr(wake, "HEAR_SECONDS", 0.1)
    settings.REDIS_URL = "redis://127.0.0.1:" + {"refused": "1", "hung": str(hung_port)}[way]
    used = time.thread_time()

    def waits():
        """How long an ear's first waits take: one that connects, and those after it failed."""
        ear = make_ear()
        for _ in range(3):
            began = time.monotonic()
            assert not ear.wait(0.4)
            yield time.monotonic() - began

    took = [list(waits()) for _ in range(3)]
    assert min(map(min, took)) > 0.39
    for each in zip(*took, strict=True):  # the machine may be slow once
        assert min(each) < 0.4 + 3 * wake.HEAR_SECONDS
    assert time.thread_time() - used < 0.6, "it slept"


def test_who_waits_hears_again_when_redis_is_back(make_waker, make_ear, settings, monkeypatch):
    url, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1"
    ear = make_ear()
    assert not ear.wait(0.01)
    settings.REDIS_URL = url
    monkeypatch.setattr(ear, "_redis", None)
    make_waker().wake(wake.PLACE)
    eventually(lambda: ear.wait(0.1))


@pytest.mark.parametrize("away", ["REDIS_URL", "CELERY_BROKER_URL"])
@pytest.mark.parametrize("way", ["refused", "hung", "unresolvable"])
def test_a_redis_that_is_away_delays_nobody(make_waker, settings, hung_port, monkeypatch, way, away):
    host = {"refused": "127.0.0.1:1", "hung": f"127.0.0.1:{hung_port}", "unresolvable": "gone.invalid:6379"}
    setattr(settings, away, f"redis://{host[way]}/0")
    resolve, over, resolved_in = socket.getaddrinfo, threading.Event(), []

    def slow(name, *arguments, **more):
        resolved_in.append(threading.current_thread())
        if name == "gone.invalid":
            over.wait(20)
            raise socket.gaierror
        return resolve(name, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    waker = make_waker()
    took = []
    for _ in range(100):
        began = time.perf_counter()
        waker.wake(wake.PLACE)
        took.append(time.perf_counter() - began)
        if not resolved_in:
            eventually(lambda: resolved_in)  # whoever connects
    over.set()
    assert sorted(took)[50] < 0.005  # the machine may be slow a few times
    assert sum(took) < 10, "it waited for what hung"
    assert threading.current_thread() not in resolved_in


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
    waker.wake(wake.REACT)
    assert failed.wait(20)
    assert queued() == 0
    waker.wake(wake.REACT)
    eventually(lambda: queued() == 1)


def test_a_commit_wakes_and_a_rollback_does_not(database, hinted):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        log.append(WorkTested(n=1), channels=["item:1"])
        raise ZeroDivisionError
    with transaction.atomic():
        log.append(WorkTested(n=1), channels=["item:1"])
        wake.waker()._given.wait(0.05)
        assert hinted() == 0
    eventually(lambda: hinted() == 1)


def test_a_commit_of_thousands_takes_no_longer_for_the_wake(database, valkey_client):
    def took():
        with transaction.atomic():
            for n in range(3_000):
                log.append(WorkTested(n=n), channels=["item:1"])
            began = time.perf_counter()
        return time.perf_counter() - began

    assert min(took() for _ in range(3)) < 0.3
    while log.place().count:
        pass

"""A task that finds work stays a while: what is committed meanwhile needs no hint of its own."""

import os
import time
from types import SimpleNamespace

import pytest

from events import log
from tests.stack import eventually
from tests.workers.conftest import WorkTested
from workers import reactions, sequencer, tasks, wake
from workers.reactions import reaction

FLAG = "tickertape:wake:workers.react"
HINT = "tickertape:hint:workers.react"


@pytest.fixture
def waker(make_waker, monkeypatch):
    """This process's."""
    made = make_waker()
    monkeypatch.setattr(wake, "_wakers", {os.getpid(): made})
    return made


@pytest.fixture(autouse=True)
def _own_ears(monkeypatch):
    """None of an earlier test's settings; they lose no hint to a Redis that is busy."""
    monkeypatch.setattr(wake, "HEAR_SECONDS", 20)
    tasks._here.__dict__.clear()


@pytest.fixture
def queued(valkey_client, settings):
    return lambda: valkey_client.llen(settings.CELERY_TASK_DEFAULT_QUEUE)


def test_what_comes_while_it_lingers_is_looked_for_at_once_without_another_task(
    start, waker, valkey_client, queued, monkeypatch, in_thread
):
    monkeypatch.setattr(tasks, "LINGER_SECONDS", 30)
    monkeypatch.setattr(tasks, "IDLE_SECONDS", 10)
    monkeypatch.setattr(wake, "FLAG_SECONDS", 60)
    looks = []

    def look():
        looks.append(time.monotonic())
        if len(looks) == 2:
            monkeypatch.setattr(tasks, "IDLE_SECONDS", 0)
        return 1

    thread = in_thread(lambda: tasks._linger(wake.REACT, look))
    eventually(lambda: looks and valkey_client.info("clients")["blocked_clients"])
    assert valkey_client.exists(FLAG)
    waker.wake(wake.REACT)
    thread.join(20)

    assert len(looks) == 3, "the first, that for the hint, and the last"
    assert looks[1] - looks[0] < 5, "it did not wait its time"
    assert queued() == 0
    assert not valkey_client.exists(FLAG)


def test_what_is_committed_before_the_flag_goes_is_found_in_the_last_look(start, append, monkeypatch):
    """The hint of that commit was hidden by the flag."""
    looks = []
    clear = wake.Waker.clear

    def late(self, task):
        append(1)
        clear(self, task)

    monkeypatch.setattr(wake.Waker, "clear", late)
    tasks._linger(wake.REACT, lambda: looks.append(log.place().count))

    assert looks == [0, 1]


def test_it_ends_though_there_is_always_more(start, append, monkeypatch, valkey_client):
    """The child that does it is wanted for other tasks, too."""
    monkeypatch.setattr(tasks, "LINGER_SECONDS", 1.0)
    monkeypatch.setattr(tasks, "IDLE_SECONDS", 0.5)
    clock, looks = [0.0], []  # time that passes while it looks, and not while the machine is busy
    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def always():
        clock[0] += 0.125
        looks.append(1)
        valkey_client.lpush(HINT, 1)
        return 1

    began = time.monotonic()
    tasks._linger(wake.REACT, always)

    assert len(looks) == 1.0 / 0.125 + 1, "and the last"
    assert time.monotonic() - began >= (len(looks) - 3) * tasks.PAUSE_SECONDS


def test_it_ends_soon_where_there_is_no_more(start, append, monkeypatch, valkey_client):
    looks = []
    valkey_client.lpush(HINT, *[1] * 1000)

    def once():
        looks.append(time.monotonic())
        return len(looks) == 1

    began = time.monotonic()
    tasks._linger(wake.REACT, once)
    assert 2 <= len(looks) <= tasks.IDLE_SECONDS / tasks.PAUSE_SECONDS + 3
    assert time.monotonic() - began < 5
    looks.clear()
    tasks._linger(wake.REACT, lambda: looks.append(1) or 0)
    assert len(looks) == 2, "nothing was there at all"


def test_without_redis_it_ends_as_soon(start, settings, monkeypatch):
    settings.REDIS_URL = "redis://127.0.0.1:1"
    used = []
    for _ in range(5):
        tasks._here.__dict__.clear()
        looks = []
        began = time.thread_time()
        tasks._linger(wake.REACT, lambda looks=looks: looks.append(1) or 1)
        used.append(time.thread_time() - began)
        assert len(looks) == 2, "nobody said that there is more"
    assert min(used) < tasks.IDLE_SECONDS / 2, "it slept"


def test_a_flag_outlives_who_keeps_it_up():
    assert tasks.IDLE_SECONDS < tasks.LINGER_SECONDS < wake.FLAG_SECONDS


def test_the_task_that_reacts_lingers(start, append, monkeypatch):
    """And does just what its clock does."""
    seen = []
    monkeypatch.setattr(tasks, "_linger", lambda task, look: seen.append((task, look())))
    monkeypatch.setattr(reactions, "_reactions", {})
    reactions.run()
    append(1, 2)
    log.place()
    tasks.react()

    assert seen == [(wake.REACT, 2)]


def test_the_task_that_places_unhides_the_next_hint_of_the_release_before_first(start, append, monkeypatch):
    """A web process of that release sends none while its flag is up."""
    done = []
    monkeypatch.setattr(wake.Waker, "clear", lambda self, task: done.append(task))
    monkeypatch.setattr(sequencer, "run", lambda: done.append("placed"))
    tasks.place()

    assert done == [wake.PLACE, "placed"]


def test_only_what_something_answers_wakes_the_reactions(start, append, monkeypatch, valkey_client):
    woken = []
    monkeypatch.setattr(wake.Waker, "wake", lambda self, task: woken.append(task))
    monkeypatch.setattr(reactions, "_reactions", {})
    sequencer._here.__dict__.clear()
    append(1)
    sequencer.run()
    assert wake.REACT not in woken
    reaction(to=WorkTested)(lambda cause: None)
    append(1)
    sequencer.run()
    assert woken.count(wake.REACT) == 1

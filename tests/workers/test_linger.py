"""A task that finds work stays a while: what is committed meanwhile needs no hint of its own."""

import threading
import time
from types import SimpleNamespace

import pytest

from events import log
from tests.stack import eventually
from workers import reactions, tasks, wake
from workers.wake import Waker


@pytest.fixture
def waker(valkey_client):
    made = Waker()
    yield made
    made.stop()


@pytest.fixture
def flagged(valkey_client):
    return lambda: valkey_client.exists("tickertape:wake:workers.place")


def test_what_is_committed_while_it_lingers_is_placed_without_another_task(
    start, append, waker, flagged, valkey_client, settings, monkeypatch, in_thread
):
    pausing, go_on = threading.Event(), threading.Event()

    def pause(seconds):
        pausing.set()
        assert go_on.wait(20)

    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    monkeypatch.setattr(tasks, "LINGER_SECONDS", 30)
    monkeypatch.setattr(tasks, "IDLE_SECONDS", 10)
    monkeypatch.setattr(wake, "FLAG_SECONDS", 60)
    monkeypatch.setattr(reactions, "_reactions", {})  # what they are woken by is no matter here
    append(1)
    thread = in_thread(tasks.place)
    assert pausing.wait(20)
    assert log.head().position == start + 1
    assert flagged()
    valkey_client.delete(settings.CELERY_TASK_DEFAULT_QUEUE)
    append(2)
    waker.wake(wake.PLACE)
    eventually(lambda: not waker._wanted and not waker._given.is_set())
    monkeypatch.setattr(tasks, "IDLE_SECONDS", 0)
    go_on.set()
    thread.join(20)

    assert log.head().position == start + 2
    assert valkey_client.llen(settings.CELERY_TASK_DEFAULT_QUEUE) == 0
    assert not flagged()


def test_what_is_committed_before_the_flag_goes_is_found_in_the_last_look(start, append, monkeypatch):
    """The hint of that commit was hidden by the flag."""
    looks = []
    clear = wake.Waker.clear

    def late(self, task):
        append(1)
        clear(self, task)

    monkeypatch.setattr(wake.Waker, "clear", late)
    tasks._linger(wake.PLACE, lambda: looks.append(log.place().count))

    assert looks == [0, 1]


def test_it_ends_though_there_is_always_more(start, append, monkeypatch, valkey_client):
    """The child that does it is wanted for other tasks, too."""
    monkeypatch.setattr(tasks, "LINGER_SECONDS", 0.1)
    looks = []

    def always():
        looks.append(1)
        return 1

    began = time.monotonic()
    tasks._linger(wake.REACT, always)

    assert 2 < len(looks) <= 0.1 / tasks.PAUSE_SECONDS + 2
    assert time.monotonic() - began < 5


def test_it_ends_soon_where_there_is_no_more(start, append, monkeypatch, valkey_client):
    looks = []

    def once():
        looks.append(time.monotonic())
        return len(looks) == 1

    tasks._linger(wake.PLACE, once)
    assert 2 <= len(looks) <= tasks.IDLE_SECONDS / tasks.PAUSE_SECONDS + 3
    looks.clear()
    tasks._linger(wake.PLACE, lambda: looks.append(1) or 0)
    assert len(looks) == 2, "nothing was there at all"


def test_a_flag_outlives_who_keeps_it_up():
    assert tasks.IDLE_SECONDS < tasks.LINGER_SECONDS < wake.FLAG_SECONDS


def test_both_tasks_linger(start, append, monkeypatch):
    """And do just what their clocks do."""
    seen = []
    monkeypatch.setattr(tasks, "_linger", lambda task, look: seen.append((task, look())))
    monkeypatch.setattr(reactions, "_reactions", {})
    append(1, 2)
    tasks.place()
    tasks.react()

    assert [task for task, _ in seen] == [wake.PLACE, wake.REACT]
    assert seen[0][1] == 2

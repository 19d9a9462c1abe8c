"""Who commits gives the hint itself, where that needs no waiting; what may have to wait is the thread's."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest

from tests.stack import eventually
from tests.workers.test_wake_again import valkeys
from workers import wake


@pytest.fixture
def waker(make_waker, hinted, valkey_client):
    """One whose thread has connected."""
    made = make_waker()
    made.wake(wake.PLACE)
    eventually(hinted)
    eventually(lambda: not made._line._free.locked())
    valkey_client.flushdb()
    return made


@contextlib.contextmanager
def without_its_thread(waker, monkeypatch):
    """Have it fail to ask its thread for anything."""
    with monkeypatch.context() as patch:
        patch.setattr(waker, "_given", None)
        yield


def test_who_commits_gives_a_hint_and_wakes_no_thread(waker, make_ear, monkeypatch):
    ear = make_ear()
    with without_its_thread(waker, monkeypatch):
        for _ in range(3):
            waker.wake(wake.PLACE)
            assert ear.wait(5)


def test_many_who_commit_at_once_keep_the_answers_apart(waker, make_ear, hinted):
    start = threading.Barrier(8)

    def commit():
        start.wait()
        for _ in range(200):
            waker.wake(wake.PLACE)

    threads = [threading.Thread(target=commit) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    eventually(lambda: not waker._wanted and not waker._given.is_set())
    waker._line.give(wake.PLACE)
    assert (waker._line._due, hinted()) == (0, 1)
    assert make_ear().wait(5)


def test_a_redis_that_freezes_holds_up_nobody_who_commits(
    make_waker, make_ear, settings, monkeypatch, caplog
):
    monkeypatch.setattr(wake, "PAUSE_SECONDS", (0.1, 0.1))
    settings.WORKERS_WAKE_SECONDS = 6.0
    with valkeys(1) as (frozen,):
        settings.REDIS_URL = frozen.url
        waker, ear = make_waker(), make_ear()
        waker.wake(wake.PLACE)
        assert ear.wait(20)
        eventually(lambda: not waker._line._free.locked())
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            took = []
            until = time.monotonic() + 30
            while "Workers could not be woken" not in caplog.text and time.monotonic() < until:
                began = time.monotonic()
                waker.wake(wake.PLACE)
                took.append(time.monotonic() - began)
                time.sleep(0.001)
            assert sorted(took)[len(took) // 2] < 0.005  # the machine may be slow a few times
            assert max(took) < 5.0, "it waited for an answer"
            assert time.monotonic() < until, "it was never given up"
        finally:
            os.kill(frozen.pid, signal.SIGCONT)

        def heard():
            waker.wake(wake.PLACE)
            return ear.wait(0.1)

        eventually(heard)


@contextlib.contextmanager
def another(waker):
    """Give the line one end of another connection, and yield its other end."""
    link = waker._line._link
    link._sock.close()
    link._sock, there = socket.socketpair()
    link._sock.settimeout(0.1)
    with there:
        yield there


def test_what_a_full_buffer_does_not_take_is_left_to_the_thread(waker, hinted):
    with another(waker):
        here = waker._line._link._sock
        with contextlib.suppress(BlockingIOError):
            while os.write(here.fileno(), b"x" * 4096):
                pass
        assert not waker._line.give_at_once(wake.PLACE)
        assert waker._line._link._sock is here, "it is full, and no more"
    waker.wake(wake.PLACE)
    eventually(hinted)


def test_one_that_is_closed_is_given_up_by_who_commits(waker, hinted):
    with another(waker) as there:
        there.close()
        assert not waker._line.give_at_once(wake.PLACE)
        assert waker._line._link._sock is None
    waker.wake(wake.PLACE)
    eventually(hinted)


def test_one_that_takes_nothing_more_is_given_up_by_who_commits(waker, hinted):
    with another(waker) as there:
        there.shutdown(socket.SHUT_RD)
        assert not waker._line.give_at_once(wake.PLACE)
        assert waker._line._link._sock is None
    waker.wake(wake.PLACE)
    eventually(hinted)


def test_a_part_of_a_hint_is_the_last_that_a_connection_is_given(waker, hinted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(wake.sockets, "send", lambda there, hint, size, now: size - 1)
        assert not waker._line.give_at_once(wake.PLACE)
    assert waker._line._link._sock is None
    waker.wake(wake.PLACE)
    eventually(hinted)


def test_after_a_refusal_the_next_hint_goes_another_way(waker, make_ear, valkey_client, monkeypatch):
    """As of a master that is a replica since: whoever is refused asks for the name anew."""
    refused = valkey_client.info("stats")["total_error_replies"]
    valkey_client.config_set("maxmemory", 1)
    try:
        with without_its_thread(waker, monkeypatch):
            waker.wake(wake.PLACE)
        eventually(lambda: valkey_client.info("stats")["total_error_replies"] > refused)
        assert not waker._line.give_at_once(wake.PLACE)
        assert waker._line._link._sock is None
    finally:
        valkey_client.config_set("maxmemory", 0)
    waker.wake(wake.PLACE)
    assert make_ear().wait(5)


def test_a_connection_that_leads_nowhere_loses_one_hint_and_no_more(waker, hinted):
    """As where a network forgot it: what is written is lost, and nobody says so."""
    with another(waker):
        waker.wake(wake.PLACE)
        assert waker._line._due
        waker._line._since -= 2 * waker._line._seconds  # so long ago was it
        waker.wake(wake.PLACE)
        eventually(hinted)


def test_one_that_was_closed_meanwhile_is_replaced_at_once(waker, hinted, valkey_client):
    waker.wake(wake.PLACE)  # whose answers are not looked at any more
    eventually(hinted)
    valkey_client.client_kill_filter(skipme=True, _type="normal")
    waker._line.give(wake.PLACE)
    assert waker._line._due == 0


def test_a_redis_that_answers_late_but_does_is_not_given_up(waker, monkeypatch):
    """Steadily, so that there is always something it has not answered yet."""
    line, answers = waker._line, [b":1\r\n"]
    line._seconds = 0.2
    with monkeypatch.context() as patch:
        patch.setattr(wake.sockets, "read", lambda there: answers[0])
        patch.setattr(wake.sockets, "send", lambda there, hint, size, now: size)
        for _ in range(8):
            time.sleep(0.05)
            assert line.give_at_once(wake.PLACE)
        assert line._due > 4
    line._link.disconnect()


def test_over_tls_the_thread_gives_them_all_by_one_connection(waker, make_ear, monkeypatch):
    """There a write may have to read first, and the other way round."""
    monkeypatch.setattr(wake.ssl, "SSLSocket", socket.socket)
    ear, connection = make_ear(), waker._line._link._sock
    for _ in range(3):
        assert not waker._line.give_at_once(wake.PLACE)
        waker.wake(wake.PLACE)
        assert ear.wait(5)
    assert waker._line._link._sock is connection


def test_one_that_is_ended_gives_nothing_more(waker):
    waker.stop()
    assert not waker._line.give_at_once(wake.PLACE)

"""Who gives and hears hints is live again by itself: after a refusal, a fail-over, a fork."""

import contextlib
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from events import log
from project.embedded import Valkey
from streams.batch import published_key
from tests.proxy import Proxy
from tests.stack import eventually
from workers import sequencer, wake
from workers.sequencer import Publisher


@contextlib.contextmanager
def valkeys(count: int) -> Iterator[list[Valkey]]:
    """Run some of the test's own."""
    with tempfile.TemporaryDirectory(prefix="tickertape-wake-") as folder:  # pytest's is closed to them
        made = [Valkey(Path(folder) / str(number)) for number in range(count)]
        try:
            for each in made:
                each.start()
            yield made
        finally:
            for each in made:
                each.stop()


def test_they_are_live_again_after_a_redis_that_had_no_memory_left(make_waker, make_ear, valkey_client):
    waker, ear = make_waker(), make_ear()
    valkey_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            valkey_client.set("a", 1)
        waker.wake(wake.PLACE)
        eventually(lambda: not waker._wanted)
        assert not ear.wait(0.3)
    finally:
        valkey_client.config_set("maxmemory", 0)

    def heard():
        waker.wake(wake.PLACE)
        return ear.wait(0.1)

    eventually(heard)


def test_who_may_do_nothing_but_put_hints_into_their_lists_and_has_one_connection_gives_them(
    make_waker, hinted, valkey_client, settings
):
    url = settings.REDIS_URL
    rights = ["+@connection", "+lpush", "+ltrim", "+set"]
    valkey_client.execute_command("ACL", "SETUSER", "few", "on", ">few", "~*", *rights)
    settings.REDIS_URL = url.replace("://", "://few:few@") + "?max_connections=1"
    try:
        waker = make_waker()
        waker.hold(wake.REACT)
        waker.wake(wake.PLACE)
        eventually(hinted)
        assert valkey_client.exists(f"tickertape:wake:{wake.REACT}")
        valkey_client.flushall()
        valkey_client.client_kill_filter(skipme=True, _type="normal")
        waker.wake(wake.PLACE)
        eventually(hinted)  # already of the first after its connection was closed
    finally:
        settings.REDIS_URL = url
        valkey_client.execute_command("ACL", "DELUSER", "few")


def test_after_a_fail_over_that_left_the_old_redis_alive_as_a_replica_they_turn_to_the_new_one(
    start, append, make_waker, make_ear, settings, monkeypatch
):
    """The same address leads elsewhere; the connections there are stay, and may not write."""
    settings.WORKERS_WAKE_SECONDS = 20  # no time-out closes them
    monkeypatch.setattr(wake, "HEAR_SECONDS", 20)
    monkeypatch.setattr(sequencer, "REDIS_SECONDS", 20)
    with valkeys(2) as (old, new), Proxy(old.url) as proxy, redis.Redis.from_url(new.url) as there:
        settings.REDIS_URL = proxy.url.replace("http", "redis") + "/0"
        waker, ear, publisher = make_waker(), make_ear(), Publisher()
        monkeypatch.setattr(wake, "_wakers", {os.getpid(): waker})
        waker.hold(wake.REACT)
        waker.wake(wake.PLACE)
        assert ear.wait(20)
        append(1)  # the old one keeps its hint
        assert publisher.publish(log.place(read=True))

        proxy.lead(new.url)
        with redis.Redis.from_url(old.url) as before:
            before.replicaof("127.0.0.1", "1")  # of nobody: loading what a master has would close them, too

        def heard():
            waker.wake(wake.PLACE)
            return ear.wait(0.1)

        def published():
            append(2)
            placed = log.place(read=True)
            return publisher.publish(placed) and int(there.get(published_key(placed.epoch))) == placed.head

        eventually(heard)
        eventually(published)
        waker.hold(wake.REACT)
        waker.hold(wake.REACT)
        assert there.exists("tickertape:wake:workers.react")


def test_a_forked_child_wakes_though_its_parent_was_making_a_waker(make_waker, hinted, monkeypatch):
    """What a thread of its parent had locked nobody unlocks there; nor is the parent's thread there."""
    parents = make_waker()
    monkeypatch.setattr(wake, "_wakers", {os.getpid(): parents})
    with wake._making, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: that is the case
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException):
                made = wake.waker()
                made.wake(wake.PLACE)
                eventually(lambda: not made._wanted and not made._given.is_set())
                made.stop()
                os._exit(0 if made is not parents else 1)
            os._exit(2)
    ended = []
    try:
        eventually(lambda: ended.append(os.waitpid(pid, os.WNOHANG)) or ended[-1][0], seconds=10)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert os.waitstatus_to_exitcode(ended[-1][1]) == 0
    assert hinted() == 1
    assert wake.waker() is parents

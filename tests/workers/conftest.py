"""What the workers' tests share: the log, a listener on Redis, and who gives and hears hints."""

import socket

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection, transaction

from events import log
from events.registry import EventType
from streams.batch import Batch, redis_channel
from tests.events.conftest import api, background, held  # noqa: F401 (fixtures)
from workers import wake
from workers.wake import Ear, Waker


class WorkTested(EventType):
    """Something happened to a test of workers."""

    n: int


@pytest.fixture
def valkey_client(database):
    """The run's Valkey, emptied."""
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def start(database):
    """The head before the test."""
    while log.place().count:
        pass
    return log.head().position


@pytest.fixture
def append(database):
    """Append events in one transaction, unplaced."""

    def work(*ns, channel="item:1"):
        with transaction.atomic():
            for n in ns:
                log.append(WorkTested(n=n), channels=[channel])

    return work


@pytest.fixture
def batches(valkey_client):
    """What hubs would hear: call it for the batches published since the last call."""
    listener = valkey_client.pubsub()
    listener.subscribe(redis_channel())
    assert listener.get_message(timeout=20)["type"] == "subscribe"

    def heard():
        listener.ping()  # its answer comes behind all that was published
        found = []
        while (message := listener.get_message(timeout=20))["type"] != "pong":
            found.append(Batch.unpack(message["data"]))
        return found

    yield heard
    listener.close()


@pytest.fixture
def in_thread():
    """Run work in a thread that closes its database connection."""
    import threading

    def start(work):
        def run():
            try:
                work()
            finally:
                connection.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    return start


@pytest.fixture
def make_waker(valkey_client, settings):
    """Make wakers of the test's own, on the settings of that moment, that wait for a Redis which is busy."""
    settings.WORKERS_WAKE_SECONDS = 20
    made = []

    def make():
        made.append(Waker())
        return made[-1]

    yield make
    for waker in made:
        waker.stop()


@pytest.fixture
def hinted(valkey_client):
    """How many hints to place wait for somebody who hears them."""
    return lambda: valkey_client.llen("tickertape:hint:workers.place")


@pytest.fixture
def make_ear(valkey_client, settings, monkeypatch):
    """Make ears of the test's own, that lose no hint to a Redis which is busy."""
    monkeypatch.setattr(wake, "HEAR_SECONDS", 20)
    made = []

    def make(task=wake.PLACE, *, gather=0.0, stopping=None):
        made.append(Ear(task, gather=gather, stopping=stopping))
        return made[-1]

    yield make
    for ear in made:
        ear.close()


@pytest.fixture
def hung_port():
    """A server that accepts and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield server.getsockname()[1]

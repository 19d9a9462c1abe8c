"""The workers' connection to the broker: soon there again, however long the broker was away."""

import itertools
import signal
import tempfile
import time
from pathlib import Path

import pytest
from kombu import Consumer, Queue

from project.celery import app
from project.embedded import Valkey
from tests.stack import free_port
from workers import broker


def test_workers_connect_by_it():
    with app.connection_for_read() as connection:
        assert isinstance(connection, broker.Connection)


def test_tries_do_not_grow_rare_and_are_not_told_one_by_one(monkeypatch):
    monkeypatch.setattr(broker, "RETRY_SECONDS", 0.1)
    port, told, tries = free_port(), [], itertools.count(1)
    connection = broker.Connection(f"redis://127.0.0.1:{port}/0")

    def enough() -> None:
        if next(tries) > 12:
            raise KeyboardInterrupt

    began = time.monotonic()
    with connection, pytest.raises(KeyboardInterrupt):
        connection.ensure_connection(lambda error, interval: told.append(interval), callback=enough)

    assert time.monotonic() - began < 20  # kombu's own waits would be 2 s, 4 s, 6 s, …
    assert told == [0.1]


@pytest.fixture
def own_valkey():
    """A broker of the test's own, that may be own_valkey."""
    with tempfile.TemporaryDirectory(prefix="tickertape-broker-") as folder:  # pytest's is closed to it
        valkey = Valkey(Path(folder) / "valkey")
        valkey.start()
        yield valkey
        valkey.process.send_signal(signal.SIGCONT)
        valkey.stop()


def test_who_cannot_acknowledge_is_ready_for_other_tasks(own_valkey):
    limits = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0}
    came = []
    with broker.Connection(own_valkey.url, transport_options=limits) as connection:
        channel = connection.channel()
        queue = Queue("tasks")(channel)
        queue.declare()
        for number in range(3):
            connection.Producer(channel).publish(number, routing_key="tasks")
        with Consumer(channel, [queue], callbacks=[lambda body, message: came.append(message)]) as consumer:
            consumer.qos(prefetch_count=2)
            for _ in range(2):
                connection.drain_events(timeout=20)
            assert not channel.qos.can_consume()

            own_valkey.process.send_signal(signal.SIGSTOP)
            for message in came:
                message.ack_log_error(broker.logger, connection.connection_errors)
            assert channel.qos.can_consume()

            own_valkey.process.send_signal(signal.SIGCONT)
            connection.drain_events(timeout=20)
    assert [message.payload for message in came] == [0, 1, 2]

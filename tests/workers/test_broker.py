"""The workers' connection to the broker: soon there again, however long the broker was away."""

import itertools
import time

import pytest

from project.celery import app
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

    assert time.monotonic() - began < 5  # kombu's own waits would be 2 s, 4 s, 6 s, …
    assert told == [0.1]

"""Fixtures of these tests: items, API clients, and transactions held open for races."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from events import comments, items
from tests.events.support import Api


@pytest.fixture
def empty(postgres) -> Iterator[str]:
    """Make a database with nothing in it; its URL."""
    with psycopg.connect(postgres.url, autocommit=True) as connected:
        connected.execute("CREATE DATABASE nothing_yet")
        yield f"{postgres.url.rpartition('/')[0]}/nothing_yet"
        connected.execute("DROP DATABASE nothing_yet WITH (FORCE)")


@pytest.fixture
def item(users: SimpleNamespace) -> Any:
    """Make an item of alice's that everyone reads."""
    return items.create_item(users.alice, title="Tickets")


@pytest.fixture
def secret(users: SimpleNamespace) -> Any:
    """Make an item of alice's for members, who are bob."""
    item = items.create_item(users.alice, title="Plans", visibility="members")
    items.add_member(users.alice, item.pk, member_id=users.bob.pk)
    return item


@pytest.fixture
def comment(users: SimpleNamespace, item: Any) -> Any:
    """Make a comment of bob's on alice's item."""
    return comments.add_comment(users.bob, item.pk, text="First!")


@pytest.fixture
def api(users: SimpleNamespace) -> Callable[[str], Api]:
    """Return a client of the HTTP API, logged in as the one named."""

    def logged_in(name: str = "") -> Api:
        client = Api()
        if name:
            client.log_in(name)
        return client

    return logged_in


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Run a function in a thread of its own, with a database connection of its own."""
    with ThreadPoolExecutor(8) as pool:

        def closing(work: Callable[[], Any]) -> Any:
            try:
                return work()
            finally:
                connection.close()

        yield lambda work: pool.submit(closing, work)


@pytest.fixture
def held(background: Callable[..., Future[Any]]) -> Any:
    """Do some work in another thread's transaction, and commit that only at the block's end."""

    @contextmanager
    def hold(work: Callable[[], Any]) -> Iterator[None]:
        done, release = Event(), Event()

        def run() -> None:
            with transaction.atomic():
                try:
                    work()
                finally:
                    done.set()
                assert release.wait(20)

        running = background(run)
        assert done.wait(20)
        try:
            yield
        finally:
            release.set()
            running.result(20)

    return hold

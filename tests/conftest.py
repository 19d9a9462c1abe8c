"""Fixtures for every test: the database, users, and a running stack."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, connections

from tests import engines
from tests.stack import Stack

_KEPT = {"django_migrations", "django_content_type", "auth_permission", "events_logstate"}


@pytest.fixture(scope="session")
def postgres() -> Iterator[object]:
    """PostgreSQL, running."""
    engines.postgres.start()
    return engines.postgres


@pytest.fixture(scope="session")
def valkey() -> Iterator[object]:
    """Valkey, running."""
    engines.valkey.start()
    return engines.valkey


@pytest.fixture(scope="session")
def django_db_setup(postgres, valkey, django_db_blocker) -> None:
    """Migrate the run's own database: it needs no other name to be a test's."""
    with django_db_blocker.unblock():
        call_command("migrate", verbosity=0)
        connection.close()


@pytest.fixture
def database(django_db_setup, django_db_blocker) -> Iterator[None]:
    """Let a test use the database as it is, transactions and all; empty it afterwards."""
    with django_db_blocker.unblock():
        yield
        tables = [name for name in connection.introspection.table_names() if name not in _KEPT]
        with connection.cursor() as cursor:
            cursor.execute("SET tickertape.retention = 'on'")
            cursor.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
            cursor.execute("RESET tickertape.retention")
        connections.close_all()


@pytest.fixture
def users(database) -> SimpleNamespace:
    """Alice, bob and carol, and the admin, each with the password `demo-<name>`."""
    made = {
        name: User.objects.create_user(name, password=f"demo-{name}") for name in ("alice", "bob", "carol")
    }
    made["admin"] = User.objects.create_superuser("admin", password="demo-admin")
    return SimpleNamespace(**made)


@pytest.fixture(scope="session")
def stack(postgres, valkey, tmp_path_factory) -> Iterator[Stack]:
    """The whole service as processes: both servers and a worker, on a database of their own."""
    running = Stack(postgres, valkey, tmp_path_factory.mktemp("stack"), name="stack")
    with running:
        running.start("daphne", "uvicorn", "worker")
        yield running


@pytest.fixture(params=["daphne", "uvicorn"])
def server(request, stack) -> str:
    """The base URL of each of the stack's servers in turn."""
    return stack.url(request.param)

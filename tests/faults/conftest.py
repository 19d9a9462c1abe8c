"""Stacks to be hurt, and the figures that a run prints at its end."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from project.embedded import Postgres, Valkey
from tests.stack import Stack

# What production waits long for is short here, so that a test need not.
HASTY = {"STREAMS_HEARTBEAT_SECONDS": "1", "STREAMS_RECHECK_SECONDS": "4", "STREAMS_DRAIN_SECONDS": "0.5"}

_figures = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_figures] = []


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Print what was measured, passed or not: a number that nobody sees is not kept."""
    if config.stash[_figures]:
        terminalreporter.section("measured")
        for line in config.stash[_figures]:
            terminalreporter.line(line)


@pytest.fixture
def figure(request) -> Callable[[str], None]:
    """Have a line printed at the end of the run."""
    return request.config.stash[_figures].append


@pytest.fixture(scope="session")
def rough(postgres, valkey, tmp_path_factory) -> Iterator[Stack]:
    """A stack whose processes, log and people may be hurt, on the run's engines. Leave it running."""
    with Stack(postgres, valkey, tmp_path_factory.mktemp("rough"), name="rough", **HASTY) as stack:
        stack.start("daphne", "uvicorn", "worker")
        yield stack


@pytest.fixture(scope="session")
def alone() -> Iterator[Stack]:
    """A stack whose engines may be hurt: they are its own. Leave them, and it, running."""
    # Not in pytest's folder, which every other run closes to all but its user: as root, the
    # engines run as another. Durable: what was committed must be there after a kill.
    with tempfile.TemporaryDirectory(prefix="tickertape-alone-") as name:
        folder = Path(name)
        postgres, valkey = Postgres(folder / "postgres"), Valkey(folder / "valkey")
        try:
            postgres.start()
            valkey.start()
            reacting = {"DJANGO_SETTINGS_MODULE": "tests.reacting.settings"}
            with Stack(postgres, valkey, folder, name="alone", **HASTY, **reacting) as stack:
                stack.start("daphne", "uvicorn", "worker")
                yield stack
        finally:
            valkey.stop()
            postgres.stop()

"""Folders in which engines can work."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder of the test's own; other runs of pytest close the way to those below pytest's."""
    made = Path(tempfile.mkdtemp(prefix="tickertape-"))
    yield made
    shutil.rmtree(made)

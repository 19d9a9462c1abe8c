"""The engines of a test run, and the environment that points at them.

A pytest plugin (`-p tests.engines`), because the settings are read before any conftest is.
Ports and folders are this run's own, so two runs do not meet.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

from project.embedded import Postgres, Valkey

# What a script runs in the background ignores Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

folder = Path(tempfile.mkdtemp(prefix="tickertape-tests-"))
postgres = Postgres(folder / "postgres", durable=False)
valkey = Valkey(folder / "valkey")

os.environ.update(
    TICKERTAPE_MODE="test",
    DJANGO_SETTINGS_MODULE="project.settings",
    DATABASE_URL=postgres.url,
    REDIS_URL=valkey.url,
    LOG_LEVEL="WARNING",
)
for name in ("SECRET_KEY", "ALLOWED_HOSTS", "PORT", "HOST", "WEB_SERVER", "DATA_DIR"):
    os.environ.pop(name, None)


def pytest_unconfigure() -> None:
    """Stop the engines and remove what they left."""
    valkey.stop()
    postgres.stop()
    shutil.rmtree(folder, ignore_errors=True)

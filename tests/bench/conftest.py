"""What small scenarios run on: the real thing, started once a module."""

import shutil
import tempfile
from pathlib import Path

import pytest

from bench.context import Context
from bench.deployment import Deployment
from bench.figures import DAPHNE, UVICORN
from bench.usage import Cores
from bench.web import WebStarts


@pytest.fixture(scope="module")
def context():
    # Not pytest's folder: another run closes it to whom the engines run as.
    folder = Path(tempfile.mkdtemp(prefix="tickertape-tests-"))
    folder.chmod(0o755)
    cores = Cores.choose()
    with Deployment(folder, cores) as deployment:
        starts = [WebStarts(UVICORN, "uvicorn", deployment), WebStarts(DAPHNE, "daphne", deployment)]
        yield Context(True, cores, folder, deployment, {each.subject: each for each in starts})
    shutil.rmtree(folder)

"""Our server entry: what becomes of a process that cannot begin."""

import os
import subprocess
import sys

import pytest

from project.embedded import free_port
from tests.stack import ROOT

BROKEN = """
import os
from project import serve
serve.settings.ROOT_URLCONF = "nowhere"
status = serve.main()
os._exit(status)
"""


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_a_process_that_cannot_begin_says_why_and_ends(server):
    """Else it would listen, and whatever watches it would see a process that is there."""
    environment = {**os.environ, "WEB_SERVER": server, "HOST": "127.0.0.1", "PORT": str(free_port())}

    ended = subprocess.run(
        [sys.executable, "-c", BROKEN], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=30
    )

    said = ended.stdout + ended.stderr
    assert ended.returncode == 1, said
    assert "No module named 'nowhere'" in said

"""Programs of Node.js for tests, with the packages of npm.py at hand."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import npm

MODULES = npm.HERE / "node_modules"


def need() -> str:
    """Return the path of Node.js, with the packages there; skip where there is no npm to get them by."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        pytest.skip(npm.HOW_TO_GET_IT)
    assert npm.packages(), "see what `npm ci` says above"
    return node


def run(script: Path, *arguments: str | Path, given: str = "", seconds: float = 100, **more: Any) -> str:
    """Run a script that may import the packages; return what it prints."""
    command = [need(), str(script), *map(str, arguments)]
    ran = subprocess.run(command, input=given, text=True, capture_output=True, timeout=seconds, **more)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout

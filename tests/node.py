"""Programs of npm for tests: those that tests/chaos/clients/package.json names, installed once."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import clients

MODULES = clients.HERE / "node_modules"


def need() -> str:
    """Return the path of Node.js, with the packages there; skip where there is no npm to get them by."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js and npm are not installed (on Debian: apt-get install nodejs npm)")
    assert clients.installed(npm), "see what `npm ci` says above"
    return node


def run(script: Path, *arguments: str | Path, given: str = "", seconds: float = 100, **more: Any) -> str:
    """Run a script that may import the packages; return what it prints."""
    command = [need(), str(script), *map(str, arguments)]
    ran = subprocess.run(command, input=given, text=True, capture_output=True, timeout=seconds, **more)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout

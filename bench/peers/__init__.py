"""The peers: other people's servers, where they can be had here. Nothing of theirs is in this project."""

from pathlib import Path

from bench.context import Starts
from bench.usage import Cores


def starts(folder: Path, cores: Cores) -> tuple[list[Starts], list[str]]:
    """Return the peers that can be started, and a line about each that cannot."""
    return [], []

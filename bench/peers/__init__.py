"""The peers: other people's servers, where they can be had here. Nothing of theirs is in this project."""

from pathlib import Path

from bench.context import Starts
from bench.figures import EVENTSTREAM, NCHAN
from bench.peers import eventstream, nchan
from bench.usage import Cores


def starts(folder: Path, cores: Cores, wanted: list[str]) -> tuple[list[Starts], list[str]]:
    """Return those peers of the wanted ones that can be started, and a line about each that cannot."""
    found: list[Starts] = []
    lacking = []
    for subject, find in ((NCHAN, nchan.find), (EVENTSTREAM, eventstream.find)):
        if wanted and subject not in wanted:
            continue
        try:
            found.append(find(folder, cores))
        except LookupError as why:
            lacking.append(f"{subject} is left out: {why}.")
    return found, lacking

"""Python's garbage collector stops a process while it looks: at what the work made, not at all the code."""

import json
import os
import signal

import pytest

from tests.stack import eventually

SHOW = """
import gc, json, os, signal

def show(*args):
    with open(os.environ["SHOW_HEAP_IN"], "w") as file:
        json.dump({"frozen": gc.get_freeze_count(), "walked": len(gc.get_objects())}, file)

signal.signal(signal.SIGUSR2, show)
"""


@pytest.mark.parametrize("name", ["daphne9", "uvicorn9", "worker9"])
def test_a_full_collection_does_not_walk_what_was_there_from_the_start(rough, tmp_path, name, figure):
    (tmp_path / "sitecustomize.py").write_text(SHOW)
    shown = tmp_path / "heap.json"
    rough.start(name, PYTHONPATH=str(tmp_path), SHOW_HEAP_IN=str(shown))
    try:
        if name.startswith("worker"):
            eventually(lambda: b"ready." in rough.log(name).read_bytes())
        os.kill(rough.processes[name].pid, signal.SIGUSR2)
        eventually(lambda: shown.exists() and shown.read_text().endswith("}"))
    finally:
        rough.stop(name)
    heap = json.loads(shown.read_text())
    figure(
        f"{name}: {heap['frozen']} objects are there from the start, a full collection walks {heap['walked']}"
    )
    assert heap["frozen"] > 100_000
    assert heap["walked"] < heap["frozen"] / 5

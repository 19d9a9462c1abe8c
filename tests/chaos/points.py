"""A worker that dies where it is told to: `python -m tests.chaos.points FOLDER -m celery …`.

A point is armed by a file of its name in the folder; the first process that comes by adds its
worker's process id to the name, and the whole worker dies, as by `kill -9`. Nothing of
this is in the product.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

PLACING, PLACED, BATCH, DONE = "placing", "placed", "batch", "done"
PLACING_SECONDS = 0.002  # into the call: about the middle of a batch


def die() -> NoReturn:
    """End this process and all of its worker's."""
    os.killpg(os.getpgrp(), signal.SIGKILL)
    raise AssertionError("dead")


def take(folder: Path, point: str) -> bool:
    """Take a point if it is armed: of all that try, one worker can, and leaves its process id."""
    with contextlib.suppress(FileNotFoundError):
        (folder / point).rename(folder / f"{point}.{os.getpgrp()}")
        return True
    return False


def told(folder: Path, point: str = "*") -> set[int]:
    """Return the process ids of the workers that were told to die, at a point or at any."""
    return {int(path.suffix[1:]) for path in folder.glob(f"{point}.*")}


def install(folder: Path) -> None:
    """Make the points part of this process's sequencer: its clock and its task place by it."""
    import django

    django.setup()
    from workers import sequencer

    def armed(point: str) -> bool:
        return take(folder, point)

    place, publish, move, work = (
        sequencer.log.place, sequencer.Publisher._publish, sequencer.Publisher._move, sequencer.run,
    )  # fmt: skip

    def placing(*args: Any, **more: Any) -> Any:
        if armed(PLACING):
            threading.Timer(PLACING_SECONDS, die).start()
        return place(*args, **more)

    def publishing(self: Any, placed: Any) -> None:
        if placed.count and armed(PLACED):
            die()
        self.head_to_publish = placed.head
        publish(self, placed)

    def moving(self: Any, key: str, known: bytes, to: int, message: bytes) -> bytes:
        moved = move(self, key, known, to, message)
        if message and to < self.head_to_publish and armed(BATCH):
            die()
        return moved

    def working() -> int:
        count = work()
        if count and armed(DONE):
            die()
        return count

    sequencer.log.place = placing
    sequencer.Publisher._publish = publishing
    sequencer.Publisher._move = moving
    sequencer.run = working


if __name__ == "__main__":
    install(Path(sys.argv[1]))
    sys.argv = sys.argv[3:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

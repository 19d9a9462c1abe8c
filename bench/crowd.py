"""The crowd: our side of the load generator, and of the other processes that are told what to do."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Self

from bench import generator
from bench.generator import Heard, Opened
from bench.servers import Trouble

WINDOW = 48  # streams that are being opened at once: less than any server's queue of them


class Told:
    """A process of ours that is told what to do by a pipe and answers each time; a context manager."""

    def __init__(self, main: Callable[..., None], *arguments: Any) -> None:
        self._main = main
        self._arguments = arguments
        self._process: BaseProcess | None = None

    def __enter__(self) -> Self:
        spawn = multiprocessing.get_context("spawn")  # a fork would take our own sockets along
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=self._main, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, *exc: object) -> None:
        self._pipe.close()  # which it ends by
        if self._process is not None:
            self._process.join(10)
            if self._process.is_alive():
                self._process.kill()
                self._process.join(5)

    def tell(self, name: str, *arguments: Any) -> Any:
        """Have something done, and return what comes of it; raise Trouble where it could not be done."""
        self.begin(name, *arguments)
        return self.finish()

    def begin(self, name: str, *arguments: Any) -> None:
        """Have something done, and do not wait for it."""
        self._pipe.send((name, arguments))

    def finish(self) -> Any:
        """Return what came of what was begun."""
        try:
            good, answer = self._pipe.recv()
        except EOFError:
            raise Trouble(f"{type(self).__name__} has ended") from None
        if not good:
            raise Trouble(str(answer))
        return answer


class Crowd(Told):
    """Thousands of readers in a process of their own."""

    def __init__(self, *, core: int) -> None:
        super().__init__(generator.main, core)

    def open(
        self,
        address: tuple[str, int],
        wanted: Sequence[tuple[bytes, str, int]],
        *,
        last: int | None = None,
        window: int = WINDOW,
    ) -> Opened:
        """Open streams: by which request, of which channel, how often. Counting begins anew.

        `last` is the number before the first event to come, where that is known.
        """
        opened: Opened = self.tell("open", address, list(wanted), last, window)
        return opened

    def mark(self) -> None:
        """Begin to count anew, once all that was published has been read."""
        self.tell("mark")

    def until(self, targets: Mapping[str, int], *, seconds: float = 30.0) -> bool:
        """Return whether all readers of the channels have read so far, in time."""
        return bool(self.tell("until", dict(targets), seconds))

    def closed(self, number: int, *, seconds: float = 10.0) -> bool:
        """Return whether so many streams were closed by the server, in time."""
        return bool(self.tell("closed", number, seconds))

    def report(self) -> Heard:
        """Return what came since the mark."""
        heard: Heard = self.tell("report")
        return heard

    def nap(self, seconds: float) -> None:
        """Have it sleep so long before it reads what came: then waking it costs all servers the same."""
        self.tell("nap", seconds)

    def leave(self, channels: Sequence[str]) -> None:
        """Leave the streams of some channels."""
        self.tell("leave", list(channels))

    def close(self) -> None:
        """Leave all streams."""
        self.tell("close")


def serve(
    orders: Connection, core: int, work: type, arguments: tuple[Any, ...], environment: Mapping[str, str]
) -> None:
    """Be the child's side on a core: make the work when it is first told something, until the parent is gone.

    Whatever goes wrong, the parent says.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the parent, which ends us by the pipe
    os.sched_setaffinity(0, {core})
    os.environ.update(environment)
    made: Any = None
    while True:
        try:
            name, told = orders.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            made = made or work(*arguments)
            orders.send((True, getattr(made, name)(*told)))
        except Exception as error:
            orders.send((False, f"{work.__module__}, {name}: {type(error).__name__}: {error}"))

"""How the kit's processes talk: lines of JSON in, lines of JSON out, and an end that is noticed."""

import asyncio
import contextlib
import json
import os
import resource
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop

FLUSH_SECONDS = 0.05  # what is said within it leaves in one write


class Voice:
    """Says lines on the standard output, many in one write."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._later: asyncio.TimerHandle | None = None

    def say(self, line: str) -> None:
        """Say a line, soon."""
        self._lines.append(line)
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Say now what was kept back. Waits for a reader that is behind: nothing is kept without end."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        text = memoryview("".join(line + "\n" for line in self._lines).encode())
        self._lines.clear()
        while text:
            text = text[os.write(sys.stdout.fileno(), text) :]


async def lines() -> AsyncIterator[str]:
    """Yield the lines of the standard input; end with it."""
    reader = asyncio.StreamReader(limit=16 * 1024 * 1024)  # a configuration is one line
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield line.decode().strip()


def configuration() -> Any:
    """Read the first line of the standard input, and no more of it."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(sys.stdin.fileno(), 1)):
        line += byte
    return json.loads(line)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a program of the kit: on the fastest loop there is, with as many sockets as it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(main())

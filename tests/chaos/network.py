"""The network of the kit: a process between clients and web processes, which fails when told to.

One port for each web process and one over all of them. It takes a configuration, then commands,
as lines of JSON, and answers each with how many connections it touched. What one side does not
take, it does not read from the other: a slow reader is slow for the server, too.
"""

import asyncio
import itertools
import json
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Self

from tests.chaos import pipes

KERNEL_BYTES = 32 * 1024  # each way: what more the kernel parked would hide that a reader is slow
BUFFER_BYTES = 64 * 1024
STEP_SECONDS = 0.1  # of a throttled connection's clock
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Side(asyncio.Protocol):
    """One end of a connection: what comes in here goes out at its peer."""

    def __init__(self, relay: "Relay", *, of_client: bool) -> None:
        self.relay = relay
        self.of_client = of_client
        self.peer: Side | None = None
        self.transport: asyncio.Transport | None = None
        self.dark = False  # cut off from its peer, and not told so
        self._held = b""  # until the weather lets it through; nothing more is read meanwhile
        self._full = False  # the peer does not take what it was given
        self._reading = True

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(BUFFER_BYTES)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, KERNEL_BYTES)
        self.gate()

    def connect(self, peer: "Side") -> None:
        """Begin to forward."""
        self.peer = peer
        self._pour()

    def data_received(self, data: bytes) -> None:
        if self.dark:
            return
        if self.peer is not None and self.relay.calm and not self._held:
            self.peer.write(data)
            return
        waiting = bool(self._held)
        self._held += data
        self.gate()
        if self.peer is not None and not waiting:
            self.relay.loop.call_later(self.relay.delay, self._pour)

    def _pour(self) -> None:
        """Pass on what is held, as much as the weather lets through."""
        relay = self.relay
        if self.dark or self.peer is None:
            self._held = b""
        elif relay.stalled:
            relay.loop.call_later(STEP_SECONDS, self._pour)
            return
        else:
            most = max(1, int(relay.rate * STEP_SECONDS)) if relay.rate else len(self._held)
            self.peer.write(self._held[:most])
            self._held = self._held[most:]
            if self._held:
                relay.loop.call_later(STEP_SECONDS, self._pour)
                return
        self.gate()

    def write(self, data: bytes) -> None:
        """Send on; what cannot be sent at once makes the peer wait."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.fill(True)

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.fill(False)

    def fill(self, full: bool) -> None:
        """Learn whether the peer takes what it is given."""
        self._full = full
        self.gate()

    def gate(self) -> None:
        """Read or do not, by what stands in the way."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.dark:
            # A server whose client vanished is not read: nobody acknowledges. A client that believes
            # all to be well is, so that its leaving is noticed.
            reading = self.of_client
        else:
            reading = not (self.peer is None or self._held or self._full or self.relay.stalled)
        if reading != self._reading:
            self._reading = reading
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

    def connection_lost(self, error: Exception | None) -> None:
        self.relay.forget(self)
        if self.peer is not None and not self.dark:
            self.peer.close(reset=error is not None)

    def close(self, *, reset: bool = False) -> None:
        """End this side: with what is still to be sent, or by an RST at once."""
        if self.transport is None or (self.transport.is_closing() and not reset):
            return
        if reset:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
        else:
            self.transport.close()


class Relay:
    """The ports, the connections, and the weather between them."""

    def __init__(self, seed: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.stalled = False
        self.delay = 0.0
        self.rate = 0
        self._sides: dict[Side, None] = {}  # clients' sides, in order of their coming
        self._dark: dict[Side, None] = {}  # both kinds' surviving halves
        self._random = random.Random(seed)
        self._ending: dict[str, asyncio.TimerHandle] = {}
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def calm(self) -> bool:
        """Tell whether everything passes as it comes."""
        return not (self.stalled or self.delay or self.rate)

    async def listen(self, targets: Sequence[int]) -> int:
        """Forward a port of ours to ports of this machine in turn; return it."""
        turns = itertools.count()

        def accept() -> Side:
            side = Side(self, of_client=True)
            turn = next(turns) % len(targets)
            task = self.loop.create_task(self._connect(side, [*targets[turn:], *targets[:turn]]))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
            return side

        server = await self.loop.create_server(accept, "127.0.0.1", 0, backlog=4096)
        return int(server.sockets[0].getsockname()[1])

    async def _connect(self, client: Side, targets: Sequence[int]) -> None:
        for port in targets:
            server = Side(self, of_client=False)
            try:
                await self.loop.create_connection(lambda server=server: server, "127.0.0.1", port)
            except OSError:
                continue
            if client.transport is None or client.transport.is_closing():
                server.close()
                return
            self._sides[client] = None
            server.connect(client)
            client.connect(server)
            return
        client.close(reset=True)  # as a port does at which nobody listens

    def forget(self, side: Side) -> None:
        """Leave out a side that has ended."""
        self._sides.pop(side, None)
        self._dark.pop(side, None)

    def _share(self, part: float) -> list[Side]:
        sides = list(self._sides)
        return self._random.sample(sides, round(part * len(sides)))

    def _every(self) -> list[Side]:
        return [each for side in self._sides for each in (side, side.peer) if each is not None]

    def _for(self, name: str, seconds: float | None, over: Callable[[], None]) -> None:
        """Have something be over after a time; a command given again begins the time anew."""
        if name in self._ending:
            self._ending.pop(name).cancel()
        if seconds is not None:
            self._ending[name] = self.loop.call_later(seconds, over)

    # --- the commands -------------------------------------------------------------------------

    def do_reset(self, part: float = 1.0) -> int:
        """Break a share of the connections off, by RST to both sides."""
        chosen = self._share(part)
        for side in chosen:
            _reset(side, side.peer)
        return len(chosen)

    def do_halfopen(self, part: float = 1.0, **also: float) -> int:
        """Close one side of a share of the connections and leave the other in the belief that all is well.

        With `for`, the other side meets an RST after so many seconds.
        """
        chosen = self._share(part)
        for client in chosen:
            server = client.peer
            assert server is not None
            left, gone = self._random.sample([client, server], 2)
            left.dark = gone.dark = True
            del self._sides[client]
            self._dark[left] = None
            left.gate()
            gone.close(reset=True)
            if "for" in also:
                self.loop.call_later(also["for"], _reset, left)
        return len(chosen)

    def do_stall(self, seconds: float) -> int:
        """Forward nothing, for a time; the connections stay."""
        self._stall(True)
        self._for("stall", seconds, lambda: self._stall(False))
        return len(self._sides)

    def _stall(self, stalled: bool) -> None:
        self.stalled = stalled
        for side in self._every():
            side.gate()

    def do_delay(self, ms: float, seconds: float) -> int:
        """Have everything take longer, for a time."""
        self.delay = ms / 1000
        self._for("delay", seconds, lambda: setattr(self, "delay", 0.0))
        return len(self._sides)

    def do_throttle(self, bytes: int, seconds: float) -> int:  # noqa: A002 (as the command has it)
        """Let through so many bytes a second of each connection, for a time."""
        self.rate = bytes
        self._for("throttle", seconds, lambda: setattr(self, "rate", 0))
        return len(self._sides)

    def do_mend(self) -> int:
        """Be a network without faults; what was half-open meets an RST, as at the next packet it would."""
        for name in list(self._ending):
            self._for(name, None, lambda: None)
        self.delay, self.rate = 0.0, 0
        self._stall(False)
        dark = list(self._dark)
        _reset(*dark)
        return len(dark)


def _reset(*sides: Side | None) -> None:
    for side in sides:
        if side is not None:
            side.close(reset=True)


async def main() -> None:
    """Listen, say where, and obey."""
    configuration = pipes.configuration()
    relay = Relay(configuration["seed"])
    targets = configuration["targets"]
    ports = [await relay.listen([target]) for target in targets]
    voice = pipes.Voice()
    voice.say(json.dumps({"ports": ports, "balanced": await relay.listen(targets)}))
    voice.flush()
    async for line in pipes.lines():
        command = json.loads(line)
        name = command.pop("do")
        touched = getattr(relay, f"do_{name}")(**command)
        voice.say(json.dumps({"done": name, "touched": touched}))
        voice.flush()


class Network:
    """The process, as the kit sees it; use as a context manager."""

    def __init__(self, targets: Sequence[int], *, seed: int) -> None:
        self._configuration = {"targets": list(targets), "seed": seed}
        self._process: subprocess.Popen[str] | None = None
        self.ports: list[int] = []  # in the order of the targets
        self.balanced = 0

    def __enter__(self) -> Self:
        # It ends with its standard input, so also with us.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.network"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
        )  # fmt: skip
        answer = self._ask(self._configuration)
        self.ports, self.balanced = answer["ports"], answer["balanced"]
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process is not None
        self._process.communicate(timeout=10)

    @property
    def pid(self) -> int:
        """Return the process's id."""
        assert self._process is not None
        return self._process.pid

    def do(self, name: str, **arguments: float) -> int:
        """Have something happen (`do_…` above); return how many connections it touched."""
        return int(self._ask({"do": name, **arguments})["touched"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        answer = self._process.stdout.readline()
        assert answer, f"the network's process ended: {self._process.poll()}"
        found: dict[str, Any] = json.loads(answer)
        return found


if __name__ == "__main__":
    pipes.run(main)

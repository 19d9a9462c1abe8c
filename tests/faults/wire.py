"""Clients that no library would be: as slow, as silent or as exact as a test wants them."""

import json
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg


class Wire:
    """One GET on a bare socket: what comes is kept byte for byte, and only when it is asked for."""

    def __init__(
        self,
        client: httpx.Client,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        url = client.base_url
        self.raw = b""
        self.closed = False
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect((url.host, url.port))
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        lines = [f"GET {path} HTTP/1.1", f"Host: {url.host}:{url.port}", f"Cookie: {cookies}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave without a word, as a client does that is killed."""
        self.socket.close()

    @property
    def port(self) -> int:
        """Return this end's port: what the server's end of the connection is found by."""
        return int(self.socket.getsockname()[1])

    def read(self, *, most: int = 65_536, seconds: float = 20) -> bytes:
        """Return some bytes, none once the server has closed; fail where nothing came in time."""
        self.socket.settimeout(seconds)
        try:
            got = self.socket.recv(most)
        except ConnectionResetError:
            got = b""
        except TimeoutError:
            raise AssertionError(f"nothing came in {seconds} s after {self.raw[-200:]!r}") from None
        self.closed = not got
        self.raw += got
        return got

    def until(self, wanted: bytes, *, seconds: float = 20) -> bytes:
        """Read until the body holds some bytes; return the body."""
        deadline = time.monotonic() + seconds
        while wanted not in self.body:
            assert self.read(seconds=max(0.01, deadline - time.monotonic())), (
                f"closed after {self.raw[-500:]!r}"
            )
        return self.body

    def to_end(self, *, seconds: float = 20) -> bytes:
        """Read until the server ends the response or the connection; return the body."""
        deadline = time.monotonic() + seconds
        while not self.ended and self.read(seconds=max(0.01, deadline - time.monotonic())):
            pass
        return self.body

    @property
    def status(self) -> int:
        """Return the response's status."""
        return int(self.raw.split(b" ", 2)[1])

    @property
    def ended(self) -> bool:
        """Tell whether the response is complete: its last chunk is there."""
        return self.raw.endswith(b"\r\n0\r\n\r\n")

    @property
    def body(self) -> bytes:
        """Return the chunks read so far, the last one as far as it came."""
        rest = self.raw.partition(b"\r\n\r\n")[2]
        body = b""
        while rest:
            size, found, rest = rest.partition(b"\r\n")
            if not found or not int(size, 16):
                break
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return body


def blocks(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a body by a parser of our own, as WHATWG HTML 9.2.6 has it."""
    found = []
    for block in re.split(rb"\r\n\r\n|\n\n|\r\r", body)[:-1]:
        fields: dict[str, Any] = {}
        for line in re.split(rb"\r\n|\n|\r", block):
            name, _, value = line.partition(b":")
            if name:
                fields[name.decode()] = value.removeprefix(b" ").decode()
        if "data" in fields:
            fields["data"] = json.loads(fields["data"])
            found.append(fields)
    return found


def append(
    connection: psycopg.Connection[Any],
    *channels: str,
    data: Mapping[str, Any] | None = None,
    kind: str = "Noted",
) -> int:
    """Record an event as `log.append` does, but in a transaction of the test's and without a hint."""
    row = connection.execute(
        "INSERT INTO events_event (type, version, data, channels) VALUES (%s, 1, %s, %s) RETURNING id",
        [kind, json.dumps(data or {}, separators=(",", ":")), list(channels)],
    ).fetchone()
    return int(row[0])


# --- What a process holds ---------------------------------------------------------------------


def memory(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return _status(pid, "VmRSS") * 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return _status(pid, "Threads")


def _status(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def unread(server_port: int) -> dict[int, int]:
    """Return, by the client's port, the bytes that the kernel holds for a server's clients."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if state == "01" and int(local.rpartition(":")[2], 16) == server_port:  # 01: established
            found[int(remote.rpartition(":")[2], 16)] = int(queues.partition(":")[0], 16)
    return found

"""A connection's link: by it a stream sees what its reader takes, and can cut it off."""

import contextlib
import fcntl
import socket
import struct
import termios
from typing import Any


def unacknowledged(fd: int) -> int:
    """Return the bytes in a socket's send queue (Linux and macOS; 0 elsewhere)."""
    with contextlib.suppress(OSError, AttributeError, ValueError):  # ValueError: closed
        (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))
        return int(size)
    return 0


SILENT_MS = 10_000  # without any sign of the peer
SENT_AGAIN = 3  # times: a second and a half where acknowledgements are quick, seven where they are slow


def silent(connection: Any) -> bool:
    """Tell whether a socket's peer acknowledges nothing of what it was sent again and again (Linux).

    A peer that is merely slow does acknowledge: what it has no room for, too.
    """
    if not hasattr(socket, "TCP_INFO"):
        return False
    with contextlib.suppress(OSError, AttributeError, ValueError):  # closed
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)
        retransmits, probes = struct.unpack_from("2B", info, 2)  # struct tcp_info in linux/tcp.h
        (acknowledged_ms,) = struct.unpack_from("I", info, 56)
        return bool(max(retransmits, probes) >= SENT_AGAIN and acknowledged_ms >= SILENT_MS)
    return False


def with_link(scope: Any, link: Any) -> Any:
    """Return the scope with the connection's link in it."""
    return {**scope, "extensions": {**scope.get("extensions", {}), "tickertape": link}}

"""A connection's link: by it a stream sees what its reader takes, and can cut it off."""

import contextlib
import fcntl
import struct
import termios
from typing import Any


def unacknowledged(fd: int) -> int:
    """Return the bytes in a socket's send queue (Linux and macOS; 0 elsewhere)."""
    with contextlib.suppress(OSError, AttributeError, ValueError):  # ValueError: closed
        (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))
        return int(size)
    return 0


def with_link(scope: Any, link: Any) -> Any:
    """Return the scope with the connection's link in it."""
    return {**scope, "extensions": {**scope.get("extensions", {}), "tickertape": link}}

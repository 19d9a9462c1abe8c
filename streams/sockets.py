"""What a socket does at once, with Python's lock kept.

`os.write` and `os.read` offer the lock to other threads: one that computes keeps it for 5 ms, and who wants
it back sleeps and is woken. That is right for what may wait; this never does. What is wrong, it does not say:
who then goes on in the usual way hears of it.
"""

import ctypes
import socket

NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
MOST = 512  # bytes read at once: dozens of short answers

_libc = ctypes.PyDLL(None)

# The kernel's, of (descriptor, data, its size, NOW): how many bytes were taken; -1 for none.
send = _libc.send
send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
send.restype = ctypes.c_ssize_t

_recv = _libc.recv
_recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_recv.restype = ctypes.c_ssize_t


def read(descriptor: int) -> bytes | None:
    """Return up to MOST bytes that are there; b"" at the end, and None where there is nothing, or a fault."""
    received = ctypes.create_string_buffer(MOST)
    size: int = _recv(descriptor, received, MOST, NOW)
    return None if size < 0 else ctypes.string_at(received, size)

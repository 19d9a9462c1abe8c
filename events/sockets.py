"""What a socket does at once, with Python's lock kept.

`os.write` and `os.read` offer the lock to other threads: one that computes keeps it for 5 ms, and who wants
it back sleeps and is woken. That is right for what may wait; this never does. What is wrong, it does not say:
who then goes on in the usual way hears of it.
"""

import ctypes
import socket

MOST = 512

_libc = ctypes.PyDLL(None)
_recv = _libc.recv
_recv.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_recv.restype = ctypes.c_ssize_t

# How many bytes of (a descriptor that does not block, data, their number) the kernel took; -1: none.
write = _libc.write
write.argtypes, write.restype = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t), ctypes.c_ssize_t


def read(descriptor: int) -> bytes | None:
    """Return up to MOST bytes that are there; b"" at the end, and None where there is nothing, or a fault."""
    received = ctypes.create_string_buffer(MOST)
    size: int = _recv(descriptor, received, MOST, socket.MSG_DONTWAIT)
    return None if size < 0 else ctypes.string_at(received, size)

"""Run a program that ends when its parent does, as another user if asked.

A script of its own, run as `python -I -S leash.py PARENT SIGNAL UID GID PROGRAM …`: the kernel
forgets the wish at a change of user, so both are done here in order, between fork and exec, and
without the hazards of Python code in a fork of a threaded process.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def become(command: list[str], *, parent: int, death_signal: int, uid: int, gid: int) -> None:
    """Become the program; a uid of -1 keeps the user."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before the wish was made
            sys.exit(1)
    try:
        os.execv(command[0], command)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    parent, death_signal, uid, gid = map(int, sys.argv[1:5])
    become(sys.argv[5:], parent=parent, death_signal=death_signal, uid=uid, gid=gid)

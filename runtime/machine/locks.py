"""A lock on an open file. It ends with the process that holds it, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import sys

if sys.platform == "win32":
    import msvcrt

    # Windows keeps others from reading a locked byte, so it is one that no file has: not even where
    # only the lower 32 bits of the offset count.
    _BYTE = (1 << 62) + (1 << 32) - 2

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_TAKEN = (errno.EAGAIN, errno.EACCES)


def try_lock(descriptor: int) -> bool:
    """Lock a file that is open to write until it is closed; return whether nobody else has.

    Others can still read it, and write it if they ask for no lock. Where a file system has no
    locks, as some network file systems do not, the answer is always yes.
    """
    try:
        _lock(descriptor)
    except OSError as error:
        return error.errno not in _TAKEN
    return True

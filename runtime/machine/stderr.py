"""Standard error for this program alone, without the output of C libraries."""

from __future__ import annotations

import faulthandler
import os
import sys


def keep_libraries_off_stderr() -> None:
    """Let nothing but this program write to standard error from now on.

    Image libraries print complaints about damaged files there, without the file's name; the file's
    record says what is wrong. Crashes are still reported, by ``faulthandler``. The standard error
    of processes started from now on goes nowhere. So only commands call this, and only those that
    start no process whose messages matter.
    """
    if _descriptor() != 2:  # redirected already, as in tests
        return
    own = os.dup(2)
    sys.stderr.flush()
    sys.stderr = os.fdopen(own, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors,
                           buffering=1)  # fmt: skip
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    faulthandler.enable(sys.stderr)


def _descriptor() -> int | None:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        return None

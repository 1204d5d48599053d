"""Starting another Python that finds exactly the modules that this one finds."""

from __future__ import annotations

import sys


def python_command(program: str) -> list[str]:
    """Return the command that runs a program's source in an interpreter of its own.

    By itself ``python -c``, like ``python -m``, looks for modules in the working directory before
    anywhere else, where strangers may have left files. ``-P`` forbids that from Python 3.11 on; the
    parent's own list serves every version, virtual environments and programs that changed it.
    """
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {program}"]

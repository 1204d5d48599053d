"""Waiting for what happens elsewhere: in another thread, process or machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 120.0
"""Seconds after which what should have happened is given up, on a machine that does much else."""

Found = TypeVar("Found")


def until(look: Callable[[], Found], patience: float = PATIENCE) -> Found:
    """Look until there is something, or something is true, and return it."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {patience:g} s"
        time.sleep(0.02)
    return found

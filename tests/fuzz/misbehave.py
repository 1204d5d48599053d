"""Targets that do what the harness must notice."""

from __future__ import annotations

import os
import time

from glass_edge import ImageError


def act(content: bytes) -> str:
    """Do what the input says."""
    match content:
        case b"crash":
            os.abort()
        case b"hang":
            time.sleep(60)
        case b"eat":
            return str(len(bytearray(1 << 40)))
        case b"fault":
            raise ZeroDivisionError("nobody expects this")
        case b"refuse":
            raise ImageError("it is refused.")
        case b"grow":
            return str(sum(bytearray(100 << 20)))
    return "read"

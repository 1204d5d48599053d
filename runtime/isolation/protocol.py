"""What a process that decodes is asked, and what it answers.

A request is one byte that names it, then for all but pixels :data:`SIZES`, options in JSON, and the
file. An answer is one line of JSON; pixels lie in memory that both processes share.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

CLAIMS, LOOK, DECODE = b"C", b"L", b"D"
"""Read what a file says of itself; read its header; decode the image looked at last."""
SIZES = struct.Struct("<QQ")
"""Of the file, and of the options before it, in bytes."""


class Answer(msgspec.Struct):
    """Facts about an image, or why it cannot be judged."""

    width: int = 0
    height: int = 0
    peak: float = 0.0
    damaged: bool = False
    error: str | None = None


def request(kind: bytes, content: bytes, options: Any) -> bytes:
    """Return the bytes that ask something of a file."""
    rules = msgspec.json.encode(options)
    return b"".join([kind, SIZES.pack(len(content), len(rules)), rules, content])

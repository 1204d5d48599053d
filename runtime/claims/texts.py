"""What files hold as text, made short and harmless to store."""

from __future__ import annotations

from .claims import LONGEST_VALUE

_MOST_BYTES = 4  # of a character in UTF-8


def shortened(value: str | bytes, encoding: str = "utf-8") -> str:
    """Return a text without what pads it, cut at :data:`LONGEST_VALUE` characters.

    Bytes that are no text are replaced; so are lone surrogates, which no file can be written with.
    """
    if isinstance(value, str):
        value = value[: 2 * LONGEST_VALUE].encode("utf-8", "replace")
        encoding = "utf-8"
    value = value.strip(b" \t\r\n\0")[: _MOST_BYTES * LONGEST_VALUE]
    return value.decode(encoding, "replace")[:LONGEST_VALUE]

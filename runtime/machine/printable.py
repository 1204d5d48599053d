"""Text from files, made safe to show."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # what drives terminals
    "\u2028-\u202e\u2066-\u2069\u061c\u200e\u200f"  # what ends lines or turns the direction
    "\xad\u200b\u2060\ufeff\U000e0000-\U000e007f]"  # what nobody sees
)


def printable(text: str) -> str:
    """Escape what ends a line, drives a terminal, turns the direction of writing or is not seen.

    Files may have such names, and people would read what whoever named them wants them to.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)

"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table that reads well as it is; all columns but the first to the right."""
    lines = [header, *rows]
    first, *others = (max(3, *map(len, column)) for column in zip(*lines, strict=True))
    rule = [":" + "-" * (first - 1), *("-" * (width - 1) + ":" for width in others)]
    return "\n".join(
        f"| {' | '.join([line[0].ljust(first), *map(str.rjust, line[1:], others)])} |"
        for line in (header, rule, *lines[1:])
    )

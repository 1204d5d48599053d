"""Puts the parts of a run together in one output."""

from __future__ import annotations

from collections.abc import Sequence

from ..results.writers import Writer
from ..storage.folders import Folder
from .parts import Summary, part_records, part_summary


def merge(folder: Folder, parts: Sequence[str], writer: Writer) -> Summary:
    """Write the records of parts, in the order of the parts.

    Args:
        folder: holds the parts.
        parts: their names.
        writer: takes the records.

    Raises:
        InputError: a part is damaged or cannot be read.
        OSError: the output cannot be written.
    """
    summary = Summary.of(part_summary(folder, part) for part in parts)
    for part in parts:
        for record in part_records(folder, part):
            writer.write(record)
    return summary

"""Records from the lines of a file, whatever else is in it, or from a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import msgspec

from ..results.parquet import records_in
from ..results.records import Crop, Failure, Record, Verdict, decode_record


@dataclass
class LeftOut:
    """The lines of a file that are no records."""

    count: int = 0
    first: int = 0
    torn: bool = False

    def note(self, number: int, line: bytes) -> None:
        """Leave a line out."""
        if not line.endswith(b"\n"):
            self.torn = True  # as the last line of a run that was killed may be
            return
        self.first = self.first or number
        self.count += 1

    def sentences(self) -> list[str]:
        """Say what was left out."""
        said = []
        if self.count == 1:
            said.append(f"Line {self.first} is not a record of this version and was left out.")
        elif self.count:
            said.append(
                f"{self.count} lines are not records of this version and were left out; the first "
                f"is line {self.first}."
            )
        if self.torn:
            said.append(
                "The last line is incomplete and was left out, as after a run that was killed."
            )
        return said


def read_records(lines: Iterable[bytes], left_out: LeftOut) -> Iterator[Record]:
    """Yield the records among some lines; the others are noted as left out. Empty lines are not."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = decode_record(line)
        except msgspec.MsgspecError:
            left_out.note(number, line)
            continue
        if _makes_sense(record):
            yield record
        else:
            left_out.note(number, line)


def copy_as_lines(table: IO[bytes], lines: IO[bytes]) -> None:
    """Write the records of a Parquet table as JSON lines.

    Raises:
        InputError: it is no table of records, or damaged; or pyarrow is not installed.
        OSError: it cannot be read, or the lines cannot be written.
    """
    for record in records_in(table):
        lines.write(msgspec.json.encode(record) + b"\n")


def _makes_sense(record: Record) -> bool:
    """Whether a record could be one of glass-run's; files come from strangers."""
    if isinstance(record, Failure):
        return True
    return (
        0.0 <= record.score <= 1.0
        and record.width > 0
        and record.height > 0
        and all(_lies_in(crop, record) for crop in record.crops)
    )


def _lies_in(crop: Crop, image: Verdict) -> bool:
    return (
        0 <= crop.top < crop.top + crop.height <= image.height
        and 0 <= crop.left < crop.left + crop.width <= image.width
        and 0.0 <= (crop.attention or 0.0) <= 1.0
        and -1.0 <= (crop.influence or 0.0) <= 1.0
    )

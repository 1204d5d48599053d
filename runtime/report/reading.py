"""Records from the lines of a file, whatever else is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from ..results.records import Record, decode_record


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
        if self.count:
            lines = (
                "1 line is no record" if self.count == 1 else f"{self.count} lines are no records"
            )
            first = f"line {self.first}" if self.count == 1 else f"the first is line {self.first}"
            said.append(f"{lines} of this version of glass-run and left out ({first}).")
        if self.torn:
            said.append(
                "The last line is not complete and left out, as after a run that was killed."
            )
        return said


def read_records(lines: Iterable[bytes], left_out: LeftOut) -> Iterator[Record]:
    """Yield the records among some lines; the others are noted as left out. Empty lines are not."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield decode_record(line)
        except msgspec.MsgspecError:
            left_out.note(number, line)

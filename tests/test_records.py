"""Records: stable order, a schema they keep, and three ways to write them."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import pytest
from conftest import ROOT
from glass_edge.runtime.finding.files import ImageFile
from glass_edge.runtime.results.records import ErrorInfo, record_schema
from glass_edge.runtime.results.writers import CsvWriter, JsonLinesWriter
from jsonschema import Draft202012Validator

from glass_edge import Crop, Failure, Verdict

VERDICT = Verdict(
    path="images/a, b.jpg",
    verdict="fake",
    score=0.75,
    probabilities={"fake": 0.75, "real": 0.25},
    logits={"fake": 1.0, "real": -0.1},
    views={"global": 1, "local": 2},
    crops=(Crop(1, 2, 224, 224, 0.5), Crop(300, 4, 224, 200, 0.5)),
    width=1000,
    height=800,
    seed=42,
    bundle="demo.glass@0123456789ab",
    engine="onnxruntime 1.24.0 cpu",
    precision="fp32",
    file=ImageFile(1234, "2026-01-02T03:04:05.000006+00:00"),
)
FAILURE = Failure(path="bad.jpg", error=ErrorInfo("ImageError", "the file is empty."))


def written(writer_class, *arguments, records=(VERDICT, FAILURE)) -> str:
    lines: list[bytes] = []  # a list is a sink: it takes lines with append
    writer = writer_class(lines, *arguments)
    for record in records:
        writer.write(record)
    return b"".join(lines).decode()


def test_json_lines_keep_the_documented_order():
    first, second = written(JsonLinesWriter).splitlines()
    assert list(json.loads(first)) == [
        "path", "status", "verdict", "score", "probabilities", "logits", "views", "crops",
        "width", "height", "seed", "bundle", "engine", "precision", "file", "provenance",
        "damaged", "settled",
    ]  # fmt: skip
    assert list(json.loads(first)["crops"][0]) == [
        "top", "left", "height", "width", "attention", "influence",
    ]  # fmt: skip
    assert json.loads(second) == {
        "path": "bad.jpg",
        "status": "error",
        "error": {"type": "ImageError", "message": "the file is empty."},
        "file": None,
    }


def test_real_records_keep_the_schema(vit_bundle, photographs):
    from glass_edge import Detector

    validator = Draft202012Validator(record_schema())
    records = list(Detector(vit_bundle).stream([photographs[0], "missing.jpg"]))
    for record in [*records, VERDICT, FAILURE]:
        validator.validate(json.loads(msgspec.json.encode(record)))
    broken = json.loads(msgspec.json.encode(records[0])) | {"score": "high"}
    assert not validator.is_valid(broken)


ONE_VIEW = msgspec.structs.replace(VERDICT, views={"whole": 1}, crops=(), seed=None)
WITHOUT_ATTENTION = msgspec.structs.replace(
    VERDICT, crops=(Crop(1, 2, 224, 224, None),), views={"whole": 1, "tile": 1}, seed=None
)


@pytest.mark.parametrize("verdict", [ONE_VIEW, WITHOUT_ATTENTION])
def test_what_other_detectors_do_not_have_is_null(verdict):
    fields = json.loads(msgspec.json.encode(verdict))
    assert fields["seed"] is None
    assert all(crop["attention"] is None for crop in fields["crops"])
    Draft202012Validator(record_schema()).validate(fields)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    (row,) = csv.DictReader(io.StringIO(written(CsvWriter, ("fake", "real"), records=[verdict])))
    assert row["seed"] == ""
    assert json.loads(row["crops"]) == fields["crops"]
    assert json.loads(row["views"]) == fields["views"]


def test_csv_has_a_row_for_each_record():
    rows = list(csv.DictReader(io.StringIO(written(CsvWriter, ("fake", "real")))))
    assert rows[0]["path"] == "images/a, b.jpg"
    assert float(rows[0]["score"]) == VERDICT.score
    assert float(rows[0]["logit_real"]) == -0.1
    assert json.loads(rows[0]["crops"])[1]["left"] == 4
    assert list(rows[0])[-2:] == ["views", "provenance"]
    assert json.loads(rows[0]["views"]) == {"global": 1, "local": 2}
    assert rows[1]["views"] == ""
    assert rows[1]["status"] == "error"
    assert rows[1]["error_message"] == "the file is empty."
    assert (rows[0]["file_bytes"], rows[1]["file_bytes"]) == ("1234", "")
    assert rows[1]["score"] == ""


def test_numbers_of_a_record_are_the_shortest_of_their_float(vit_bundle, photographs):
    from glass_edge import Detector

    (verdict,) = Detector(vit_bundle).detect(photographs[0])
    numbers = [verdict.score, *verdict.logits.values(), *(c.attention for c in verdict.crops)]
    assert max(len(repr(number).lstrip("-")) for number in numbers) <= 15


@pytest.mark.parametrize("name", ["Verdict", "Failure"])
def test_the_documentation_describes_every_field(name):
    text = (ROOT / "docs" / "records.md").read_text()
    for field in record_schema()["$defs"][name]["properties"]:
        assert f"`{field}`" in text, field

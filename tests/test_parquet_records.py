"""Records as a Parquet table: equal when read back, and with one schema for all."""

from __future__ import annotations

import gc
import io
import json
import sys
from collections.abc import Sequence

import msgspec
import pandas
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from glass_edge.runtime.claims.claims import Credentials, Declared, Provenance
from glass_edge.runtime.finding.files import ImageFile
from glass_edge.runtime.results import parquet
from glass_edge.runtime.results.parquet import (
    ParquetWriter,
    footer_of,
    parquet_schema,
    records_in,
)
from glass_edge.runtime.results.records import ErrorInfo, Record
from hypothesis import given, settings
from hypothesis import strategies as st

from glass_edge import Crop, Failure, InputError, Verdict

VERDICT = Verdict(
    path="images/a, b.jpg",
    verdict="fake",
    score=0.75,
    probabilities={"fake": 0.75, "real": 0.25},
    logits={"fake": 1.0, "real": -0.1},
    views={"global": 1, "local": 2},
    crops=(Crop(1, 2, 224, 224, 0.5), Crop(300, 4, 224, 200, 0.5, -0.25)),
    width=1000,
    height=800,
    seed=2**32 - 1,
    bundle="demo.glass@0123456789ab",
    engine="onnxruntime 1.24.0 cpu",
    precision="fp32",
    file=ImageFile(1234, "2026-01-02T03:04:05.000006+00:00"),
    provenance=Provenance((Declared("EXIF", "a\0ü"),), Credentials("valid", actions=("edited",))),
    settled=True,
)
FAILURE = Failure(path="bad.jpg", error=ErrorInfo("ImageError", "the file is empty."))
OTHER = msgspec.structs.replace(
    VERDICT, path=None, verdict="ai", probabilities={"ai": 0.75, "photo": 0.25}, views={"whole": 1},
    logits={"ai": 0.1, "photo": 0.2}, crops=(), seed=None, file=None, provenance=None,
    damaged=True, settled=None,
)  # fmt: skip


def written(records: Sequence[Record], about: dict[str, str] | None = None) -> io.BytesIO:
    file = io.BytesIO()
    writer = ParquetWriter(file)
    for record in records:
        writer.write(record)
    writer.close(about)
    file.seek(0)
    return file


# --- the table --------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LENGTHS = st.integers(0, 2**31 - 1)
FILES = st.none() | st.builds(
    ImageFile,
    st.integers(0, 2**63 - 1),
    st.datetimes().map(lambda time: time.isoformat(timespec="microseconds") + "+00:00"),
)
CLAIMS = st.none() | st.builds(
    Provenance,
    st.lists(st.builds(Declared, TEXTS, TEXTS), max_size=2).map(tuple),
    st.builds(Credentials, st.sampled_from(["trusted", "none"]), TEXTS, st.none() | TEXTS),
    st.none() | TEXTS,
)
CROPS = st.builds(
    Crop, LENGTHS, LENGTHS, LENGTHS, LENGTHS, st.none() | NUMBERS, st.none() | NUMBERS
)
BY_CLASS = st.dictionaries(TEXTS, NUMBERS, max_size=3)
VERDICTS = st.builds(
    Verdict, path=st.none() | TEXTS, verdict=TEXTS, score=NUMBERS, probabilities=BY_CLASS,
    logits=BY_CLASS, views=st.dictionaries(TEXTS, LENGTHS, max_size=2),
    crops=st.lists(CROPS, max_size=3).map(tuple), width=LENGTHS, height=LENGTHS,
    seed=st.none() | st.integers(0, 2**32 - 1), bundle=TEXTS, engine=TEXTS, precision=TEXTS,
    file=FILES, provenance=CLAIMS, damaged=st.booleans(), settled=st.none() | st.booleans(),
)  # fmt: skip
FAILURES = st.builds(
    Failure, path=st.none() | TEXTS, error=st.builds(ErrorInfo, TEXTS, TEXTS), file=FILES
)


@settings(max_examples=40)
@given(st.lists(VERDICTS | FAILURES, max_size=6))
def test_what_is_read_equals_what_was_written(records):
    file = written(records)
    assert list(records_in(file)) == records
    assert footer_of(file) == (len(records), {})


def test_cells_are_what_json_has():
    """Read by pandas and pyarrow.dataset, without this package's reader."""
    records = [VERDICT, FAILURE, OTHER]
    file = written(records)
    table = pyarrow.dataset.dataset(pq.read_table(file)).to_table()
    for row, record in zip(table.to_pylist(), records, strict=True):
        expected = json.loads(msgspec.json.encode(record))
        if row["status"] == "ok":
            for name in ("probabilities", "logits", "views"):
                row[name] = dict(row[name])
            row["provenance"] = json.loads(row["provenance"] or "null")
        if row["file"]:
            row["file"]["modified"] = row["file"]["modified"].isoformat()
        assert row == dict.fromkeys(table.column_names) | expected
    frame = pandas.read_parquet(file)
    assert frame["score"].tolist()[::2] == [0.75, 0.75]
    assert frame["verdict"].isna().tolist() == [False, True, False]
    assert str(frame["file"][0]["modified"]) == "2026-01-02 03:04:05.000006+00:00"


def test_columns_come_in_the_documented_order():
    fields = [*json.loads(msgspec.json.encode(VERDICT))]
    fields.insert(fields.index("file"), "error")
    assert parquet_schema().names == fields


@pytest.mark.parametrize("records", [[], [OTHER], [FAILURE]])
def test_all_tables_have_the_same_schema(records):
    """Whatever bundle made them, so that tables can be read as one."""
    schema = pq.read_schema(written(records))
    assert schema.equals(parquet_schema())
    assert schema.equals(pq.read_schema(written([VERDICT])), check_metadata=True)


def test_tables_of_two_bundles_are_one_dataset(tmp_path):
    for name, record in (("a", VERDICT), ("b", OTHER), ("c", FAILURE)):
        (tmp_path / f"{name}.parquet").write_bytes(written([record]).getvalue())
    table = pyarrow.dataset.dataset(tmp_path).to_table()
    assert table["verdict"].to_pylist() == ["fake", "ai", None]


def test_what_repeats_is_written_once():
    records = [msgspec.structs.replace(VERDICT, path=f"images/{number}.jpg", score=number / 1000)
               for number in range(1000)]  # fmt: skip
    file = written(records)
    group = pq.read_metadata(file).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {each.compression for each in columns} == {"ZSTD"}
    dictionaries = {each.path_in_schema for each in columns if each.has_dictionary_page}
    assert dictionaries >= {"bundle", "engine", "crops.list.element.width", "logits.key_value.key"}
    assert not dictionaries & {"path", "score", "seed", "crops.list.element.attention"}
    assert len(file.getvalue()) < 40 * len(records)


def test_what_the_writer_is_told_is_in_the_footer():
    about = {"bundle": "demo.glass", "glass-edge": "ü"}
    file = written([VERDICT], about)
    assert footer_of(file) == (1, about)
    assert pq.read_schema(file).equals(parquet_schema())


# --- row groups -------------------------------------------------------------------------------


def groups_of(file: io.BytesIO) -> list[int]:
    metadata = pq.read_metadata(file)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


@pytest.mark.parametrize(
    ("rows", "crops", "groups"), [(10, 1000, [10, 10, 5]), (1000, 8, [4, 4, 4, 4, 4, 4, 1])]
)
def test_row_groups_are_written_as_they_fill(rows, crops, groups, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", rows)
    monkeypatch.setattr(parquet, "GROUP_CROPS", crops)
    file = io.BytesIO()
    writer = ParquetWriter(file)
    sizes = []
    for _ in range(25):
        writer.write(VERDICT)  # two crops
        sizes.append(file.tell())
    assert len(set(sizes)) == 1 + sum(size in (rows, crops // 2) for size in groups)
    writer.close()
    assert groups_of(file) == groups
    assert list(records_in(file)) == [VERDICT] * 25


def test_the_bounds_are_those_that_are_documented():
    assert (parquet.GROUP_ROWS, parquet.GROUP_CROPS) == (4096, 65_536)
    file = written([FAILURE] * 4097)
    assert groups_of(file) == [4096, 1]


def test_a_table_is_read_a_part_at_a_time():
    records = [msgspec.structs.replace(VERDICT, path=str(number)) for number in range(3000)]
    found = records_in(written(records))
    first = next(found)
    gc.collect()
    held = sum(type(each) is Verdict for each in gc.get_objects()) - len(records)
    assert 1000 < held < 1100
    assert [first, *found] == records


# --- what is no table of records --------------------------------------------------------------


def other_table(**columns: Sequence[object]) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file


def changed(name: str, value: object) -> io.BytesIO:
    """A table in which one cell is what no record has."""
    table = pq.read_table(written([VERDICT]))
    index = table.column_names.index(name)
    file = io.BytesIO()
    column = pa.chunked_array([[value]], table.field(index).type)
    pq.write_table(table.set_column(index, table.field(index), column), file)
    return file


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (io.BytesIO(), "damaged or no Parquet file: "),
        (io.BytesIO(b"x" * 99), "damaged or no Parquet file: "),
        (io.BytesIO(written([VERDICT]).getvalue()[:-9]), "damaged or no Parquet file: "),
        (other_table(a=[1]), "this is no table of records: it has no column path of type string."),
        (other_table(path=[b"a"]), "it has no column path of type string."),
        (changed("status", "well"), "a row of the table is no record of this version: "),
        (changed("verdict", None), "a row of the table is no record of this version: "),
        (changed("provenance", "{"), "a row of the table is no record of this version: "),
    ],
)
def test_another_table_is_one_sentence(file, sentence):
    with pytest.raises(InputError) as refused:
        list(records_in(file))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_flipped_byte_is_never_another_record():
    content = written([VERDICT, FAILURE]).getvalue()
    noticed = 0
    for place in range(0, len(content), 23):
        broken = bytearray(content)
        broken[place] ^= 0xFF
        try:
            assert list(records_in(io.BytesIO(broken))) == [VERDICT, FAILURE]
        except InputError:
            noticed += 1
    assert noticed > 100


def test_columns_of_a_later_version_are_passed_over():
    table = pq.read_table(written([VERDICT, FAILURE]))
    file = io.BytesIO()
    pq.write_table(table.append_column("later", [[1, 2]]), file)
    assert list(records_in(file)) == [VERDICT, FAILURE]


def test_a_table_that_is_given_up_is_silent(monkeypatch):
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    file = io.BytesIO()
    writer = ParquetWriter(file)
    writer.write(VERDICT)
    file.close()
    del writer
    gc.collect()
    assert said == []

"""Images in a column of a Parquet table: which column, which rows, and what is damaged."""

from __future__ import annotations

import base64
import errno
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from glass_edge.runtime.containers.container import Container, ReadOptions
from glass_edge.runtime.containers.formats import images_within
from glass_edge.runtime.finding.choosing import in_silence
from glass_edge.runtime.finding.files import ImageFile
from glass_edge.runtime.finding.stored import HeldImage, LostImage, StoredImage

from glass_edge import Detector, InputError, Verdict

CHANGED = "2026-01-02T03:04:05.000006+00:00"
CONTENTS = [b"first", None, b"", b"\xffthird"]
ROWS = [f"t.parquet/{number}" for number in range(4)]


def saved(table: pa.Table, **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def container(content: bytes) -> Container:
    return Container(
        "t.parquet", ImageFile(len(content), CHANGED), lambda: io.BytesIO(content), True
    )


def found(content: bytes, column: str | None = None, max_bytes: int = 100) -> list[StoredImage]:
    options = ReadOptions(column, max_bytes)
    return list(images_within(container(content), in_silence, options))


def described(images: Sequence[StoredImage]) -> list[tuple[str, bytes | str]]:
    """Each image's path, with its content or why it has none."""
    return [
        (each.path, each.read(1 << 30) if isinstance(each, HeldImage) else str(each.error))
        for each in images
        if isinstance(each, HeldImage | LostImage)
    ]


def in_structs(rows: Sequence[object]) -> pa.Array:
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


# --- what is read -----------------------------------------------------------------------------

PLAIN = pa.array(CONTENTS, pa.binary())
COLUMNS = {
    "binary": PLAIN,
    "large_binary": PLAIN.cast(pa.large_binary()),
    "dictionary": PLAIN.dictionary_encode(),
    "chunks": pa.chunked_array([PLAIN[:1], PLAIN[1:1], PLAIN[1:]]),
    "structs": in_structs([each and {"bytes": each} for each in CONTENTS[:2]]
                          + [{"bytes": b"", "path": ""}, {"bytes": CONTENTS[3]}]),
    "structs without a path": pa.array([each if each is None else {"bytes": each}
                                        for each in CONTENTS],
                                       pa.struct([("bytes", pa.large_binary())])),
}  # fmt: skip


@pytest.mark.parametrize("group", [1, 3, 100])
@pytest.mark.parametrize("kind", COLUMNS)
def test_rows_of_all_kinds_of_columns_are_images_in_order(kind, group):
    table = pa.table({"label": [0, 1, 0, 1], "photo": COLUMNS[kind]})
    expected = [b"first", "row 1 has no image.", b"", b"\xffthird"]
    images = found(saved(table, row_group_size=group))
    assert described(images) == list(zip(ROWS, expected, strict=True))
    assert [each.file for each in images] == [
        ImageFile(size, CHANGED) for size in (len(b"first"), 0, 0, 6)
    ]


def test_views_are_images_too():
    pytest.importorskip("pyarrow", "21")  # older ones do not write them
    content = saved(pa.table({"photo": PLAIN.cast(pa.binary_view())}))
    assert [path for path, _ in described(found(content))] == ROWS
    assert described(found(content))[3] == (ROWS[3], b"\xffthird")


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_compression_is_no_matter(compression, version):
    table = pa.table({"image": [bytes([number]) * 50 for number in range(30)]})
    content = saved(table, compression=compression, data_page_version=version, row_group_size=7)
    assert [each for _, each in described(found(content))] == table["image"].to_pylist()


def test_paths_are_those_of_hugging_face_where_there_are_any():
    rows = [{"bytes": b"a", "path": "cats/ä.png"}, {"bytes": b"b", "path": None}]
    content = saved(pa.table({"image": in_structs(rows)}))
    assert described(found(content)) == [("t.parquet/cats/ä.png", b"a"), ("t.parquet/1", b"b")]


def test_a_path_that_is_no_utf_8_is_text_in_the_record():
    path = pa.array([b"\xff.png"], pa.binary()).view(pa.string())
    images = pa.StructArray.from_arrays([pa.array([b"a"]), path], ["bytes", "path"])
    assert described(found(saved(pa.table({"image": images})))) == [("t.parquet/\\xff.png", b"a")]


def test_rows_with_a_name_alone_say_that_the_images_are_not_there():
    content = saved(pa.table({"image": in_structs([{"bytes": None, "path": "x.png"}])}))
    ((path, error),) = described(found(content))
    assert path == "t.parquet/x.png"
    assert "row 0 holds only the name of an image" in str(error)


def test_an_empty_table_has_no_images():
    images = found(saved(pa.table({"image": pa.array([], pa.binary())})))
    assert described(images) == [("t.parquet", "it holds no image.")]


def test_an_image_above_the_limit_is_an_error_and_the_next_one_is_read():
    content = saved(pa.table({"image": [b"x" * 101, b"x" * 100]}))
    (_, error), (_, read) = described(found(content))
    assert "the file has 101 bytes, more than the limit of 100" in str(error)
    assert read == b"x" * 100


def test_images_in_a_table_are_judged_like_files(vit_bundle, photograph, tmp_path):
    photograph.resize((300, 280)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    table = saved(pa.table({"image": [content, b"no image", None]}))
    detector = Detector(vit_bundle)
    judged, broken, missing = detector.stream(found(table, max_bytes=1 << 30))
    (alone,) = detector.detect(tmp_path / "a.png")
    assert isinstance(judged, Verdict)
    assert judged.path == "t.parquet/0"
    assert (judged.seed, judged.crops) == (alone.seed, judged.crops)
    assert judged.score == pytest.approx(alone.score, abs=1e-5)
    assert judged.file == ImageFile(len(content), CHANGED)
    assert [each.error.type for each in (broken, missing)] == ["ImageError"] * 2
    assert missing.error.message == "row 2 has no image."


# --- which column -----------------------------------------------------------------------------


@pytest.mark.parametrize("usual", ["image", "image_data", "image_bytes", "bytes"])
def test_a_usual_name_decides_between_columns(usual):
    content = saved(pa.table({"mask": [b"no"], usual: [b"yes"], "embedding": [b"no"]}))
    assert described(found(content)) == [(ROWS[0], b"yes")]


def test_the_column_that_is_named_is_read():
    content = saved(pa.table({"image": [b"no"], "a.mask": [b"yes"], "a": [b"no"]}))
    assert described(found(content, "a.mask")) == [(ROWS[0], b"yes")]
    assert described(found(content, "a")) == [(ROWS[0], b"no")]
    content = saved(pa.table({"a.bytes": [b"no"], "a": in_structs([{"bytes": b"yes"}])}))
    assert described(found(content, "a")) == [(ROWS[0], b"yes")]


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (None, "several columns of t.parquet could hold the images: name one of left, right."),
        ("rigth", "t.parquet has no column rigth; it has left (binary), right (binary), "
                  "label (int64). Did you mean right?"),
        ("label", "the column label of t.parquet holds no images, which are binary, but int64."),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_meant_is_one_sentence(column, sentence):
    content = saved(pa.table({"left": [b"1"], "right": [b"2"], "label": [1]}))
    with pytest.raises(InputError) as refused:
        found(content, column)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("kind", [pa.string(), pa.list_(pa.binary()),
                                  pa.struct([("bytes", pa.string())])])  # fmt: skip
def test_a_table_without_a_column_of_images_is_refused(kind):
    with pytest.raises(InputError, match=r"t.parquet has no column of images, .* has photo \("):
        found(saved(pa.table({"photo": pa.array([None], kind)})))


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install 'glass-edge\[parquet\]'"):
        found(b"")


# --- damage -----------------------------------------------------------------------------------

IMAGES = [os.urandom(40) for _ in range(30)]
WHOLE = saved(
    pa.table({"image": in_structs([{"bytes": each, "path": "same"} for each in IMAGES])}),
    row_group_size=10,
    write_page_checksum=True,
)


def check_damaged(content: bytes) -> bool:
    """Check that nothing wrong was read; return whether something was missed."""
    try:
        images = found(content)
    except InputError:  # the name of a column was hit
        return True
    *held, last = [*images, None] if len(images) == 30 else images
    assert [each.content for each in held if isinstance(each, HeldImage)] == IMAGES[: len(held)]
    if last is not None:
        assert isinstance(last, LostImage)
        assert last.path == "t.parquet"
        assert str(last.error).startswith("the Parquet file is damaged or encrypted: ")
        assert "\n" not in str(last.error)
    return last is not None


def test_a_flipped_byte_anywhere_is_never_a_wrong_image():
    missed = 0
    for place in range(0, len(WHOLE), 7):
        broken = bytearray(WHOLE)
        broken[place] ^= 0xFF
        missed += check_damaged(bytes(broken))
    assert missed > len(WHOLE) // 7 / 2  # else the damage was not noticed, or not done


def test_a_file_cut_short_anywhere_is_an_error():
    assert all(check_damaged(WHOLE[:length]) for length in range(0, len(WHOLE), 31))


def test_what_comes_before_the_damage_is_read():
    second = pq.read_metadata(io.BytesIO(WHOLE)).row_group(1).column(0).data_page_offset
    broken = WHOLE[: second + 60] + b"\0" * 40 + WHOLE[second + 100 :]
    *read, lost = found(broken)
    assert [each.content for each in read if isinstance(each, HeldImage)] == IMAGES[:10]
    assert isinstance(lost, LostImage)


def test_rows_that_the_footer_promises_and_are_not_there_are_missed():
    """Without checksums a page may end early, and nothing but their number tells."""
    metadata = pq.read_metadata(io.BytesIO(WHOLE))
    assert metadata.num_rows == 30
    # Thrift's compact form: the number of rows of a file (a 64-bit zigzag varint) is its third
    # field, behind the schema; here it is found by what follows it, a list of three structs.
    footer = WHOLE.rindex(bytes([0x16, 60, 0x19, 0x3C]))
    promised = WHOLE[: footer + 1] + bytes([62]) + WHOLE[footer + 2 :]
    *read, lost = found(promised)
    assert len(read) == 30
    assert isinstance(lost, LostImage)
    assert str(lost.error).endswith("it should have 31 rows, and has 30.")


class Keys(pe.KmsClient):
    """Keeps keys for nobody."""

    def __init__(self, _: object) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64decode(key)


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_an_encrypted_table_is_one_sentence(plaintext_footer, tmp_path):
    table = pa.table({"image": [b"a"]})
    properties = pe.CryptoFactory(Keys).file_encryption_properties(
        pe.KmsConnectionConfig(),
        pe.EncryptionConfiguration(
            footer_key="footer",
            column_keys={"column": ["image"]},
            plaintext_footer=plaintext_footer,
            cache_lifetime=timedelta(minutes=5),
        ),
    )
    with pq.ParquetWriter(
        tmp_path / "t.parquet", table.schema, encryption_properties=properties
    ) as writer:
        writer.write_table(table)
    (image,) = found((tmp_path / "t.parquet").read_bytes())
    assert isinstance(image, LostImage)
    assert "damaged or encrypted" in str(image.error)


def test_a_disk_that_fails_is_no_damage_and_may_be_tried_again():
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    failing = Container("t.parquet", ImageFile(9, CHANGED), lambda: Failing(WHOLE), True)
    (image,) = images_within(failing, in_silence, ReadOptions())
    assert isinstance(image, LostImage)
    assert type(image.error).__name__ == "UnreadableError"
    assert "cannot be read: Input/output error." in str(image.error)


# --- memory -----------------------------------------------------------------------------------


def large_table(path: Path, rows: int, **options: object) -> None:
    """A row group of so many images of 100 kB."""
    table = pa.table({"image": [os.urandom(100_000) for _ in range(rows)]})
    pq.write_table(table, path, row_group_size=rows, use_dictionary=False, **options)


def test_a_row_group_is_read_a_page_at_a_time(tmp_path):
    large_table(tmp_path / "t.parquet", 300, write_batch_size=10)  # pages of 1 MB
    reads = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(size)
            return super().read(size)

    path = tmp_path / "t.parquet"
    table = Container("t.parquet", ImageFile(9, CHANGED), lambda: Counted(path), True)
    before, most = pa.total_allocated_bytes(), 0
    for _ in images_within(table, in_silence, ReadOptions()):
        most = max(most, pa.total_allocated_bytes() - before)
    assert 1_000_000 < most < 5_000_000
    assert max(reads) < 2_000_000


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "page"), [(16, 2), (1024, 103)])
def test_600_megabytes_in_one_row_group_take_a_few_pages(batch, page, tmp_path):
    large_table(tmp_path / "t.parquet", 6000, write_batch_size=batch, compression="zstd")
    program = """
import resource, sys, pyarrow.parquet
from glass_edge.runtime.containers.container import Container, ReadOptions
from glass_edge.runtime.containers.formats import images_within
from glass_edge.runtime.finding.files import ImageFile
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
table = Container("t.parquet", ImageFile(0, ""), lambda: open("t.parquet", "rb"), True)
print(sum(len(each.content) for each in images_within(table, None, ReadOptions())), peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    total, taken = map(int, done.stdout.split())
    assert total == 600_000_000
    assert taken / 1000 < 3.5 * page + 30

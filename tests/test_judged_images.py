"""Images that were judged before are found again by their paths, in bounded memory."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from glass_edge.runtime.containers import judged_images
from glass_edge.runtime.containers.container import ReadOptions
from glass_edge.runtime.containers.judged_images import JudgedImages, state_of
from pyarrow import parquet

SIZE = 100  # bytes of each image
NAMES = ("1.jpg", "2.jpg", "3.jpg")


def tar(path: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name in NAMES:
            member = tarfile.TarInfo(name)
            member.size = SIZE
            archive.addfile(member, io.BytesIO(name[:1].encode() * SIZE))
    return path


def found(root: Path, *paths: str, column: str | None = None) -> list[bytes | None]:
    images = JudgedImages(paths, root, ReadOptions(column))
    contents = []
    for path in paths:
        image = images.find(path)
        assert not isinstance(image, Path)
        assert state_of(image) is None or state_of(image).bytes == SIZE
        contents.append(None if image is None else image.read(SIZE))
    return contents


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "folder.tar/a.tar"])
def test_only_what_is_asked_for_is_found_in_an_archive(name, tmp_path):
    (tmp_path / "folder.tar").mkdir()
    tar(tmp_path / name, "w:gz" if name.endswith("tgz") else "w")
    assert found(tmp_path, f"{name}/3.jpg", f"{name}/1.jpg", f"{name}/4.jpg") == [
        b"3" * SIZE, b"1" * SIZE, None,
    ]  # fmt: skip


def test_rows_of_a_table_are_those_of_its_column(tmp_path):
    table = pa.table({"one": [b"1" * SIZE], "two": [b"2" * SIZE]})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert found(tmp_path, "t.parquet/0", column="two") == [b"2" * SIZE]
    assert found(tmp_path, "t.parquet/0") == [None]  # either column could be meant


def test_a_file_in_a_folder_that_is_called_like_an_archive_is_a_file(tmp_path):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "1.jpg").touch()
    images = JudgedImages(["x.tar/1.jpg"], tmp_path, ReadOptions())
    assert images.find("x.tar/1.jpg") == tmp_path / "x.tar" / "1.jpg"


class TestWhatIsHeld:
    """The content of what can only be read in order is held, up to a limit in all."""

    @pytest.fixture(autouse=True)
    def room_for_four(self, monkeypatch):
        monkeypatch.setattr(judged_images, "_HELD", 4 * SIZE)

    def test_is_bounded_over_all_archives(self, tmp_path):
        for name in ("a.tgz", "b.tgz"):
            tar(tmp_path / name)
        paths = [f"{name}/{image}" for name in ("a.tgz", "b.tgz") for image in NAMES]
        contents = found(tmp_path, *paths)
        assert contents == [*(name[:1].encode() * SIZE for name in (*NAMES, "1.jpg")), None, None]

    def test_is_nothing_of_an_archive_that_can_be_read_here_and_there(self, tmp_path):
        tar(tmp_path / "a.tar", "w")
        tar(tmp_path / "b.tar", "w")
        paths = [f"{name}/{image}" for name in ("a.tar", "b.tar") for image in NAMES]
        assert None not in found(tmp_path, *paths)

    def test_is_only_what_is_wanted(self, tmp_path):
        for number in range(4):
            tar(tmp_path / f"{number}.tgz")
        assert None not in found(tmp_path, *(f"{number}.tgz/3.jpg" for number in range(4)))

"""Images wherever they lie: named alone, beside others, in lists; and what is refused at once."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import call, refusal
from glass_edge.runtime.containers import formats
from glass_edge.runtime.containers.arguments import images_named
from glass_edge.runtime.containers.container import ReadOptions
from glass_edge.runtime.containers.places import images_at, images_at_each
from glass_edge.runtime.finding import choosing
from glass_edge.runtime.finding.choosing import in_silence
from glass_edge.runtime.images.reading import read_image
from glass_edge.runtime.machine.errors import ImageError, InputError, UnreadableError
from glass_edge.runtime.storage import store
from object_storage import (
    object_storage_fixture,  # noqa: F401
    proxy_fixture,  # noqa: F401
    refusing,
    through,
)
from pyarrow import parquet

MEMBERS = {"first.jpg": b"1", "a/b.jpg": b"2", "a/c.jpg": b"3"}
ROWS = [{"bytes": content, "path": name} for name, content in MEMBERS.items()]
ARCHIVES = ("photos.tar", "photos.tgz", "photos.tar.xz", "photos.zip", "photos.parquet")
OPTIONS = ReadOptions("picture")
run = partial(call, "glass-run")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with the same images in archives and a table, and two files."""
    monkeypatch.chdir(tmp_path)
    for name in ARCHIVES[:3]:
        with tarfile.open(name, f"w:{'' if name.endswith('tar') else name[-2:]}") as archive:
            for member, content in MEMBERS.items():
                header = tarfile.TarInfo(member)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for member, content in MEMBERS.items():
            archive.writestr(member, content)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    other = [{"bytes": b"another", "path": name} for name in MEMBERS]
    columns = {"other": pa.array(other, kind), "picture": pa.array(ROWS, kind)}
    parquet.write_table(pa.table(columns), "photos.parquet")
    for name in ("x.jpg", "y.jpg"):
        Path(name).write_bytes(name.encode())
    return tmp_path


def described(images: Iterator) -> list[tuple[str, bytes | str]]:
    """Each image's path, with its content or why it has none."""
    found = []
    for image in images:
        try:
            content = read_image(image)
        except ImageError as error:
            content = str(error)
        found.append((image if isinstance(image, str) else image.path, content))
    return found


def named(*arguments: str, options: ReadOptions = OPTIONS) -> list[tuple[str, bytes | str]]:
    return described(images_named(arguments, in_silence, options).images)


class TestOneImageInAnArchive:
    @pytest.mark.parametrize("archive", ARCHIVES)
    def test_can_be_named_alone(self, archive, place):
        options = OPTIONS if archive.endswith("parquet") else ReadOptions()
        assert named(f"{archive}/a/b.jpg", options=options) == [(f"{archive}/a/b.jpg", b"2")]
        whole = str(place / archive / "a/b.jpg")
        assert named(whole, options=options) == [(whole, b"2")]

    def test_comes_in_its_turn_among_others(self, place):
        assert named("y.jpg", "photos.tar/a/b.jpg", "photos.zip", "photos.tar/first.jpg", "x.jpg",
                     options=ReadOptions()) == [
            ("y.jpg", b"y.jpg"),
            ("photos.tar/a/b.jpg", b"2"),
            *((f"photos.zip/{name}", content) for name, content in MEMBERS.items()),
            ("photos.tar/first.jpg", b"1"),
            ("x.jpg", b"x.jpg"),
        ]  # fmt: skip

    @pytest.mark.parametrize("archive", ARCHIVES)
    def test_that_is_not_there_is_no_such_file(self, archive, place):
        options = OPTIONS if archive.endswith("parquet") else ReadOptions()
        lost, found = named(f"{archive}/a/d.jpg", f"{archive}/a/c.jpg", options=options)
        assert lost == (f"{archive}/a/d.jpg", "there is no such file.")
        assert found == (f"{archive}/a/c.jpg", b"3")

    def test_can_stand_in_a_list(self, place):
        listed = ("x.jpg", "photos.zip/a/c.jpg", "photos.parquet/a/b.jpg", "photos.tar/gone.jpg")
        found = [image for path in listed for image in images_at(path, in_silence, OPTIONS)]
        expected = [b"x.jpg", b"3", b"2", "there is no such file."]
        assert described(iter(found)) == list(zip(listed, expected, strict=True))
        assert described(images_at_each(listed, in_silence, OPTIONS)) == described(iter(found))

    def test_whose_column_is_not_clear_is_an_error_of_that_image(self, place):
        (_, why), other = named("photos.parquet/a/b.jpg", "x.jpg", options=ReadOptions())
        assert why.startswith("several columns of photos.parquet could hold the images: name one")
        assert other == ("x.jpg", b"x.jpg")


def test_the_total_is_known_of_files_alone(place):
    assert images_named(["x.jpg", "gone.jpg", "y.jpg"]).total == 3
    for more in ("photos.tar", "photos.zip/a/b.jpg", "memory://bucket/x.jpg"):
        assert images_named(["x.jpg", more]).total is None


def test_folders_that_are_called_like_archives_are_folders(place):
    for folder in ("images.parquet", "x.tar"):
        Path(folder, "sub").mkdir(parents=True)
        Path(folder, "sub", "1.jpg").write_bytes(b"in a folder")
    found = images_named(["images.parquet", "x.tar/sub/1.jpg", "x.tar"])
    assert found.total == 3
    assert described(found.images) == [
        (f"{folder}/sub/1.jpg", b"in a folder") for folder in ("images.parquet", "x.tar", "x.tar")
    ]


class TestWhatTheStoreDoesNotAnswer:
    """An address that cannot be looked at now is tried again later: its images are not judged."""

    @pytest.mark.parametrize("path", ["a.jpg", "photos.tar", "a/", "*.jpg"])
    def test_is_unreadable_and_no_bad_image(self, path, object_storage, proxy, monkeypatch):
        monkeypatch.setattr(store, "RETRY_SECONDS", 0.0)
        url = f"s3://{object_storage.bucket({})}/{path}"
        with through(proxy, refusing(503, "SlowDown"), AWS_MAX_ATTEMPTS="1"):
            (image,) = images_at(url, in_silence, ReadOptions())
        assert image.path == url
        with pytest.raises(UnreadableError, match="the store still throttles"):
            image.read(1)

    @pytest.mark.parametrize("url", ["https://x/y.jpg", "s3:///y.jpg"])
    def test_is_told_from_an_address_that_never_can(self, url):
        (image,) = images_at(url, in_silence, ReadOptions())
        with pytest.raises(ImageError) as caught:
            image.read(1)
        assert not isinstance(caught.value, UnreadableError)


# --- what is refused before anything is judged ------------------------------------------------


class TestTheFirstOfItsKind:
    """Is looked at before the bundle is: there is none here, and no word is said about that."""

    def refused(self, place: Path, *arguments: str) -> str:
        said = refusal(run(place, "x.jpg", *arguments, "-b", "nowhere.glass", "-o", "-"))
        assert "nowhere.glass" not in said
        return said

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads Zstandard")
    def test_may_need_a_newer_python(self, place):
        (place / "photos.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd")
        said = self.refused(place, "photos.tar", "photos.tar.zst")
        assert "photos.tar.zst needs Python 3.14 or newer; or unpack it first: zstd -d" in said

    def test_may_have_other_columns(self, place):
        said = self.refused(place, "photos.parquet", "--column", "pictrue")
        assert "photos.parquet has no column pictrue; it has other" in said
        assert "Did you mean picture?" in said
        assert "several columns of photos.parquet could hold" in self.refused(
            place, "photos.parquet"
        )

    def test_a_column_is_for_tables(self, place):
        for arguments in ([], ["photos.tar"], ["photos.zip"]):
            said = self.refused(place, *arguments, "--column", "picture")
            assert "--column is for .parquet tables, and none is named: leave it out." in said

    @pytest.mark.parametrize(
        ("url", "sentence"),
        [
            ("s3:///photos/", "s3:///photos/ names no bucket: write s3://bucket/folder."),
            ("s3:/photos/", "s3:/photos/ lacks a slash: addresses begin with s3://."),
            ("https://x/y.jpg", "https:// is not read: name a path, or an address that begins"),
            ("memory://bucket/phots/", "there is nothing at memory://bucket/phots/: check the"),
            ("memory://bucket/phots", "there is nothing at memory://bucket/phots: check the"),
        ],
    )
    def test_may_be_no_address(self, url, sentence, place):
        assert sentence in self.refused(place, url)

    def test_may_be_in_no_bucket(self, object_storage, place):
        said = self.refused(place, "s3://no-such-bucket-here/photos/")
        assert "there is no such bucket" in said

    MAIN = """
import sys
blocked = sys.argv.pop(1)
sys.modules[blocked] = None
from glass_edge.runtime.commands.run import main
main(prog_name="glass-run")
"""

    @pytest.mark.parametrize(
        ("blocked", "named", "sentence"),
        [
            ("pyarrow", "photos.parquet", "pip install 'glass-edge[parquet]'."),
            ("s3fs", "s3://bucket/a/", "s3:// needs the library s3fs: pip install s3fs."),
        ],
    )
    def test_may_need_a_library(self, blocked, named, sentence, place):
        command = [sys.executable, "-c", self.MAIN, blocked, "x.jpg", named]
        done = subprocess.run(
            [*command, "-b", "nowhere.glass", "-o", "-"], cwd=place, capture_output=True, text=True
        )
        assert sentence in refusal(done)
        assert "nowhere.glass" not in done.stderr


def test_a_damaged_one_is_no_reason_to_refuse_the_run(place):
    """Its record says so, and the others are judged."""
    for name in ("photos.tar", "photos.zip", "photos.parquet"):
        Path(name).write_bytes(b"damaged")
    found = images_named(["photos.tar", "photos.zip", "photos.parquet", "x.jpg"])
    assert [path for path, _ in described(found.images)] == [*ARCHIVES[:1], *ARCHIVES[3:], "x.jpg"]


def test_a_bucket_is_asked_before_the_run_and_an_object_in_its_turn(place):
    with pytest.raises(InputError, match="there is nothing at memory://bucket/a:"):
        images_named(["memory://bucket/a"])
    (image,) = images_named(["memory://bucket/a.jpg"]).images
    with pytest.raises(UnreadableError, match=r"^it cannot be read: it is not there\.$"):
        image.read(1)


def test_what_is_called_an_archive_is_read_as_one():
    assert set(choosing.ARCHIVES) == set(formats._READERS)

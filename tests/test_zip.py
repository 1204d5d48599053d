"""Images in zip archives: which are found, what is refused, and that nothing else happens."""

from __future__ import annotations

import io
import os
import random
import shutil
import stat
import struct
import subprocess
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipInfo

import pytest
from archives import JPEG, MOST, NO_IMAGE, Opened, content_of, found_in, images_in, nothing_written
from glass_edge.runtime.finding.choosing import Reason
from glass_edge.runtime.finding.stored import HeldImage
from glass_edge.runtime.machine.errors import UnreadableError

IMAGES = {
    "a.jpg": JPEG,
    "sub/b.png": random.Random(1).randbytes(70_000),
    "sub/empty.webp": b"",
    "sub/no-suffix": JPEG + b"c" * 20_000,
    "ünï.jpg": b"d" * 512,
}
METHODS = {"stored": ZIP_STORED, "deflated": ZIP_DEFLATED}
both = pytest.mark.parametrize("near", [True, False])
needs_zip = pytest.mark.skipif(shutil.which("zip") is None, reason="there is no zip")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "photos.zip"


def write(path: Path, *members: tuple[str | ZipInfo, bytes], method: int = ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)


def patch(path: Path, name: str, **fields: int) -> None:
    """Let both headers of a member say something else."""
    content = bytearray(path.read_bytes())
    places = {  # in the member's own header, and in the directory
        "flags": ("<H", 6, 8),
        "method": ("<H", 8, 10),
        "crc": ("<L", 14, 16),
        "packed": ("<L", 18, 20),
        "size": ("<L", 22, 24),
    }
    local, central = content.index(name.encode()) - 30, content.rindex(name.encode()) - 46
    for field, value in fields.items():
        kind, *offsets = places[field]
        for start, offset in zip((local, central), offsets, strict=True):
            struct.pack_into(kind, content, start + offset, value)
    path.write_bytes(content)


class TestWhatIsRead:
    @both
    @pytest.mark.parametrize("method", METHODS)
    def test_all_that_was_put_in_comes_in_its_order(self, method, near, path):
        write(path, *IMAGES.items(), method=METHODS[method])
        found = found_in(path, near)
        assert found.images == list(IMAGES.items())
        assert not found.skipped

    @needs_zip
    @pytest.mark.parametrize("level", ["-0", "-9"])
    def test_what_zip_writes(self, level, path, tmp_path):
        for name, content in IMAGES.items():
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).write_bytes(content)
        (tmp_path / "photos" / "link.jpg").symlink_to("a.jpg")
        subprocess.run(["zip", "-qry", level, path, "."], cwd=tmp_path / "photos", check=True)
        found = found_in(path)
        assert dict(found.images) == IMAGES
        assert found.skipped == [("link.jpg", Reason.SPECIAL)]

    @needs_zip
    def test_what_zip_writes_to_a_pipe(self, path, tmp_path):
        """Sizes then come behind the content."""
        (tmp_path / "a.jpg").write_bytes(JPEG)
        with path.open("wb") as file:
            subprocess.run(["zip", "-q", "-", "a.jpg"], cwd=tmp_path, stdout=file, check=True)
        assert found_in(path).images == [("a.jpg", JPEG)]

    def test_an_archive_behind_something_else(self, path):
        write(path, ("a.jpg", JPEG))
        path.write_bytes(b"#!/bin/sh" * 1000 + path.read_bytes())
        assert found_in(path).images == [("a.jpg", JPEG)]

    @both
    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_duplicates_are_an_image_each(self, near, path):
        write(path, ("a.jpg", b"1"), ("a.jpg", b"22"), ("a.jpg", b"3"))
        assert found_in(path, near).images == [("a.jpg", b"1"), ("a.jpg", b"22"), ("a.jpg", b"3")]

    def test_what_is_no_image_is_told(self, path):
        others = {"a.txt": JPEG, "b": b"text", "c.nef": b"", ".d.jpg": b"", ".git/e.jpg": b""}
        write(path, *others.items())
        found = found_in(path)
        assert found.images == [(str(path), NO_IMAGE)]
        reasons = (Reason.OTHER, Reason.OTHER, Reason.RAW, Reason.HIDDEN, Reason.HIDDEN_FOLDER)
        assert found.skipped == list(zip(others, reasons, strict=True))

    def test_an_empty_archive_holds_no_image(self, path):
        write(path)
        assert found_in(path).images == [(str(path), NO_IMAGE)]

    def test_states_are_those_of_the_archive(self, path):
        write(path, ("a.jpg", b"123"), method=ZIP_DEFLATED)
        os.utime(path, (0, 0))
        (image,) = images_in(path)
        assert image.file.bytes == 3
        assert image.file.modified.startswith("1970-01-01")


class TestNames:
    HOSTILE = ("/etc/passwd.jpg", "../../up.jpg", "a/../../b.jpg", "C:\\c.jpg", "new\nline.jpg")

    @both
    def test_are_only_text(self, near, path, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        write(path, *((name, JPEG) for name in self.HOSTILE))
        with nothing_written(tmp_path):
            assert found_in(path, near).images == [(name, JPEG) for name in self.HOSTILE]

    @pytest.mark.parametrize(
        ("raw", "expected"), [("é.jpg".encode(), "é.jpg"), (b"caf\x82.jpg", "café.jpg")]
    )
    def test_are_utf_8_or_of_dos_where_nothing_says_which(self, raw, expected, path):
        write(path, ("x" * len(raw), JPEG))
        path.write_bytes(path.read_bytes().replace(b"x" * len(raw), raw))
        assert found_in(path).images == [(expected, JPEG)]

    def test_may_be_missing(self, path):
        write(path, ("xxxxx", JPEG), ("a.jpg", JPEG))
        path.write_bytes(path.read_bytes().replace(b"xxxxx", b"\0xxxx"))  # where it ends
        assert found_in(path).images == [("", JPEG), ("a.jpg", JPEG)]


@both
def test_links_and_devices_are_told_and_folders_are_not(near, path, tmp_path):
    kinds = {"link.jpg": stat.S_IFLNK, "pipe.jpg": stat.S_IFIFO, "disk.jpg": stat.S_IFBLK}
    members = []
    for name, kind in (kinds | {"dir.jpg": stat.S_IFDIR}).items():
        info = ZipInfo(name)
        info.external_attr = (kind | 0o644) << 16
        members.append((info, b"../../etc/passwd"))
    write(path, ("folder.jpg/", b""), *members, ("a.jpg", JPEG))
    with nothing_written(tmp_path):
        found = found_in(path, near)
    assert found.skipped == [(name, Reason.SPECIAL) for name in kinds]
    assert found.images == [("a.jpg", JPEG)]


class TestWhenItIsRead:
    @pytest.fixture
    def large(self, path) -> Path:
        write(path, *((f"{i}.jpg", bytes([i]) * 1_000_000) for i in range(20)))
        return path

    def test_what_is_not_asked_for_is_not(self, large):
        opened = Opened(large)
        *_, last = images_in(large, opened=opened)
        assert opened.read < 100_000
        assert last.read(MOST) == bytes([19]) * 1_000_000

    def test_and_again(self, large):
        image = next(images_in(large))
        assert image.read(MOST) == image.read(MOST) == bytes(1_000_000)

    def test_of_what_may_be_an_image_the_first_bytes_are_at_once(self, path):
        write(path, ("a", bytes(500_000)), ("b", JPEG * 20_000))
        opened = Opened(path)
        assert len(list(images_in(path, opened=opened))) == 1
        assert opened.read < 40_000

    @pytest.mark.parametrize("method", METHODS)
    def test_by_any_thread(self, method, path):
        contents = [random.Random(i).randbytes(200_000) for i in range(40)]
        members = ((f"{i}.jpg", content) for i, content in enumerate(contents))
        write(path, *members, method=METHODS[method])
        images = list(enumerate(images_in(path)))
        random.Random(1).shuffle(images)
        with ThreadPoolExecutor(8) as pool:
            read = pool.map(lambda each: content_of(each[1]), images)
            assert all(content == contents[i] for (i, _), content in zip(images, read, strict=True))

    def test_what_is_far_away_is_held(self, path):
        write(path, *IMAGES.items())
        images = list(images_in(path, near=False))
        path.unlink()
        assert all(isinstance(image, HeldImage) for image in images)
        assert [image.read(MOST) for image in images] == list(IMAGES.values())

    @both
    def test_images_above_the_limit_are_not(self, near, path):
        write(path, ("large.jpg", bytes(300_000)), ("a.jpg", JPEG))
        opened = Opened(path)
        (_, refused), small = found_in(path, near, max_bytes=1000, opened=opened).images
        assert refused == "the file has 300000 bytes, more than the limit of 1000; scale it down."
        assert small == ("a.jpg", JPEG)
        assert opened.read < 10_000


class TestTheFileIsClosed:
    @pytest.fixture
    def opened(self, path) -> Opened:
        write(path, *IMAGES.items())
        return Opened(path)

    def test_after_the_last_image(self, opened, path):
        images = list(images_in(path, opened=opened))
        assert images[1].read(MOST) == IMAGES["sub/b.png"]
        assert not opened.all_closed
        del images
        assert opened.all_closed

    def test_when_nobody_goes_on(self, opened, path):
        images = images_in(path, opened=opened)
        image = next(images)
        images.close()
        assert image.read(MOST) == JPEG
        del image
        assert opened.all_closed

    def test_when_it_is_no_archive(self, opened, path):
        path.write_bytes(b"no archive" * 1000)
        assert len(list(images_in(path, opened=opened))) == 1
        assert opened.all_closed


@both
class TestADamagedMember:
    """Is refused, and those behind it are read."""

    def refusal(self, path: Path, near: bool, name: str = "bad.jpg") -> str:
        first, (found, sentence), last = found_in(path, near).images
        assert (first, found, last) == (("a.jpg", JPEG), name, ("z.jpg", JPEG))
        return sentence

    def three(self, path, content=b"content" * 100, method=ZIP_DEFLATED, name="bad.jpg"):
        write(path, ("a.jpg", JPEG), (name, content), ("z.jpg", JPEG), method=method)

    def test_with_a_wrong_checksum(self, near, path):
        self.three(path)
        patch(path, "bad.jpg", crc=1)
        assert "is damaged in the archive: Bad CRC-32" in self.refusal(path, near)

    def test_whose_packed_bytes_are_wrong(self, near, path):
        self.three(path, random.Random(1).randbytes(1000))
        content = bytearray(path.read_bytes())
        start = content.index(b"bad.jpg") + 7
        content[start : start + 4] = b"\xff" * 4
        path.write_bytes(content)
        assert "is damaged in the archive: Error -3" in self.refusal(path, near)

    @pytest.mark.parametrize("method", METHODS)
    def test_that_has_more_than_it_says(self, method, near, path):
        self.three(path, method=METHODS[method])
        patch(path, "bad.jpg", size=5)
        assert "is damaged in the archive: Bad CRC-32" in self.refusal(path, near)

    def test_that_has_less_than_it_says(self, near, path):
        self.three(path)
        patch(path, "bad.jpg", size=10_000)
        assert self.refusal(path, near).endswith("in the archive: it ends too early.")

    def test_whose_headers_name_different_files(self, near, path):
        self.three(path)
        path.write_bytes(path.read_bytes().replace(b"bad.jpg", b"wor.jpg", 1))
        assert "differ" in self.refusal(path, near)

    @pytest.mark.parametrize("name", ["bad.jpg", "no-suffix"])
    def test_that_is_encrypted(self, name, near, path):
        self.three(path, name=name)
        patch(path, name, flags=1)
        sentence = "the file is encrypted; make an archive of it that is not."
        assert self.refusal(path, near, name) == sentence

    @pytest.mark.parametrize("method", [9, 14, 93, 99])
    def test_that_is_packed_in_an_unknown_way(self, method, near, path):
        self.three(path)
        patch(path, "bad.jpg", method=method)
        assert f"is packed by method {method}, which is not read" in self.refusal(path, near)

    @pytest.mark.parametrize("name", ["bad.jpg", "no-suffix"])
    def test_that_unpacks_without_a_bound(self, name, near, path):
        """4 KiB of bzip2 may become gigabytes before zipfile looks at the size in the header."""
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.jpg", JPEG)
            archive.writestr(name, bytes(10_000_000), ZIP_BZIP2)
            archive.writestr("z.jpg", JPEG)
        patch(path, name, size=10)
        tracemalloc.start()
        assert "is packed by method 12, which is not read" in self.refusal(path, near, name)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()

    def test_that_is_a_bomb(self, near, path):
        self.three(path, bytes(33 << 20))
        sentence = "the file is a bomb: it unpacks to 34603008 bytes, more than 100 times"
        assert sentence in self.refusal(path, near)

    @pytest.mark.parametrize("size", [10, 1 << 29])
    def test_that_is_a_bomb_and_hides_it(self, size, near, path):
        """What it unpacks to is bounded by what it says, and by how much is there."""
        self.three(path, bytes(33 << 20))
        patch(path, "bad.jpg", size=size)
        tracemalloc.start()
        assert "damaged" in (said := self.refusal(path, near)) or "bomb" in said
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()


def test_large_members_that_are_no_bombs_are_read(path):
    """32 MiB of one colour, and more of what is not."""
    images = {"plain.bmp": bytes(32 << 20), "photo.bmp": bytes(33 << 20) + os.urandom(1 << 20)}
    with zipfile.ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in images.items():
            archive.writestr(name, content)
    assert found_in(path).images == list(images.items())


class TestOverlaps:
    REFUSAL = "the file overlaps with another one in the archive, as in a bomb."

    @both
    def test_of_members_that_share_content(self, near, path):
        """As many entries of the directory as one likes, for one member."""
        write(path, ("a.jpg", JPEG), ("b.jpg", JPEG))
        content = path.read_bytes()
        directory = content.index(b"PK\1\2")
        end = content.index(b"PK\5\6")
        entry = content[directory : directory + 46 + 5]
        tail = bytearray(content[end:])
        struct.pack_into("<HHL", tail, 8, 5, 5, end - directory + 3 * len(entry))
        path.write_bytes(content[:directory] + entry * 3 + content[directory:end] + tail)
        found = found_in(path, near)
        assert found.images == [("a.jpg", self.REFUSAL)] * 4 + [("b.jpg", JPEG)]

    @both
    def test_of_members_in_each_other(self, near, path):
        """The first has the second's header and content in its own."""
        inner = io.BytesIO()
        write(inner, ("in.jpg", JPEG))
        end = inner.getvalue().index(b"PK\1\2")
        write(path, ("a.jpg", JPEG), ("out.jpg", inner.getvalue()[:end]), ("b.jpg", JPEG))
        content = path.read_bytes()
        entry = bytearray(inner.getvalue()[end : end + 46 + 6])
        struct.pack_into("<L", entry, 42, content.index(b"out.jpg") + 7)
        tail = bytearray(content[-22:])
        (size,) = struct.unpack_from("<L", tail, 12)
        struct.pack_into("<HHL", tail, 8, 4, 4, size + len(entry))
        path.write_bytes(content[:-22] + entry + tail)
        expected = [("a.jpg", JPEG), ("out.jpg", self.REFUSAL), ("b.jpg", JPEG), ("in.jpg", JPEG)]
        assert found_in(path, near).images == expected


class TestTheDirectory:
    TOO_MANY = "the archive has more than 500000 members, or 64 MiB of their names; make a tar"

    @staticmethod
    def written(path: Path, directory: bytes, size: int | None = None) -> Path:
        """Write a directory of nothing, with what says where it is."""
        claimed = len(directory) if size is None else size
        tail = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 65535, 65535, claimed, 0, 0)
        path.write_bytes(directory + tail)
        return path

    @staticmethod
    def entry(name: bytes, comment: bytes = b"") -> bytes:
        fields = (0, 0, 0, 0, 0, 33, zlib.crc32(b""), 0, 0, len(name), 0, len(comment), 0, 0, 0, 0)
        return b"PK\1\2" + struct.pack("<HHHHHHLLLHHHHHLL", *fields) + name + comment

    def peak_of(self, path: Path) -> tuple[str, int]:
        tracemalloc.start()
        ((_, sentence),) = found_in(path).images
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return str(sentence), peak

    def test_of_too_many_members_is_not_parsed(self, path):
        sentence, peak = self.peak_of(self.written(path, self.entry(b"") * 500_001))
        assert sentence.startswith(self.TOO_MANY)
        assert peak < 50_000_000

    def test_of_too_many_bytes_is_not_read(self, path):
        entry = self.entry(b"x" * 1000, b"y" * 64_000)
        sentence, peak = self.peak_of(self.written(path, entry * 1100))
        assert sentence.startswith(self.TOO_MANY)
        assert peak < 4_000_000

    @pytest.mark.parametrize("size", [1000, 1 << 20])
    def test_may_be_larger_than_the_archive_only_in_words(self, size, path):
        sentence, peak = self.peak_of(self.written(path, self.entry(b"a.jpg"), size))
        assert sentence.startswith("the file is no zip archive, or it is truncated or damaged: ")
        assert peak < 4_000_000

    @pytest.mark.slow
    def test_of_as_many_members_as_are_read(self, path):
        write(path, *((f"{i:06}.jpg", b"") for i in range(500_000)))
        assert sum(1 for _ in images_in(path)) == 500_000


class TestDamage:
    def test_wherever_an_archive_is_cut(self, path, tmp_path):
        """The directory is at its end."""
        write(path, *IMAGES.items())
        content = path.read_bytes()
        cut = tmp_path / "cut.zip"
        last = range(len(content) - 500, len(content), 9)
        for length in (*range(0, last[0], 3001), *last, len(content) - 1):
            cut.write_bytes(content[:length])
            ((_, sentence),) = found_in(cut).images
            assert sentence.startswith("the file is no zip archive, or it is truncated or damaged")

    @both
    def test_never_ends_a_run(self, near, path):
        chance = random.Random(1)
        write(path, *((name, content[:300]) for name, content in IMAGES.items()))
        content = path.read_bytes()
        for _ in range(150):
            damaged = bytearray(content)
            for _ in range(chance.randint(1, 6)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            path.write_bytes(damaged)
            found_in(path, near)

    def test_names_that_break_their_promise_of_utf_8(self, path):
        write(path, ("é.jpg", JPEG))
        path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe9\xe9"))
        ((_, sentence),) = found_in(path).images
        assert "damaged: 'utf-8' codec can't decode" in sentence


class TestTheSystemFails:
    @both
    def test_while_it_reads(self, near, path):
        write(path, *((f"{i}.jpg", bytes(300_000)) for i in range(3)))

        class Failing(io.FileIO):
            def read(self, size: int = -1, /) -> bytes:
                if 400_000 < self.tell() < 600_000:
                    raise OSError(5, "Input/output error")
                return super().read(size)

        (_, first), (at, second), *rest = found_in(path, near, opened=lambda: Failing(path)).images
        assert first == bytes(300_000)
        assert second == "the archive cannot be read: Input/output error."
        if near:  # each is read when it is asked for, and the next may be readable again
            assert (at, rest) == ("1.jpg", [("2.jpg", bytes(300_000))])
        else:  # what is read in order ends there, and all of the archive is to be tried again
            assert (at, rest) == (str(path), [])

    def test_because_the_file_has_gone(self, path):
        write(path)
        images = images_in(path)
        path.unlink()
        (lost,) = images
        with pytest.raises(UnreadableError, match="No such file or directory"):
            lost.read(MOST)

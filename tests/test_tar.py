"""Images in tar archives: which are found, what is refused, and that nothing else happens."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archives import (
    JPEG,
    MOST,
    NO_IMAGE,
    Opened,
    content_of,
    found_in,
    images_in,
    nothing_written,
)
from conftest import slow
from glass_edge.runtime.containers import packed
from glass_edge.runtime.finding.choosing import Reason
from glass_edge.runtime.finding.stored import HeldImage
from glass_edge.runtime.machine.errors import UnreadableError

from glass_edge import InputError

LONG = f"{'folder of a long name/' * 12}{'x' * 120}.jpg"  # more than ustar can hold
IMAGES = {
    "a.jpg": JPEG,
    "sub/b.png": b"b" * 70_000,
    "sub/empty.webp": b"",
    "sub/no-suffix": JPEG + b"c" * 20_000,
    "ünï.jpg": b"d" * 512,
}
SUFFIXES = {".tar": "", ".tgz": "gz", ".tar.gz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
needs_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar")
linux = pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")
both = pytest.mark.parametrize("near", [True, False])


def member(name: str, content: bytes = b"", **fields) -> bytes:
    """A member as bytes, whose header may claim anything."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + content + bytes(-len(content) % 512)


END = bytes(1024)


@pytest.fixture
def write(tmp_path):
    """Writes an archive of members that are bytes already."""

    def write(*members: bytes, name: str = "photos.tar") -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(members))
        return path

    return write


def archive_of(path: Path, images: dict[str, bytes], mode: str = "", kind: str = "pax") -> Path:
    with tarfile.open(path, f"w:{mode}", format=FORMATS[kind]) as archive:
        for name, content in images.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


class TestWhatIsRead:
    @both
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("kind", FORMATS)
    def test_all_that_was_put_in_comes_in_its_order(self, kind, suffix, near, tmp_path):
        images = IMAGES | ({LONG: b"long"} if kind != "ustar" else {})
        path = archive_of(tmp_path / f"photos{suffix}", images, SUFFIXES[suffix], kind)
        found = found_in(path, near)
        assert found.images == list(images.items())
        assert not found.skipped

    @needs_tar
    @pytest.mark.parametrize("kind", ["v7", "oldgnu", "gnu", "ustar", "posix"])
    def test_what_tar_writes(self, kind, tmp_path):
        folder = tmp_path / "photos"
        for name, content in IMAGES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        path = tmp_path / "photos.tar"
        subprocess.run(["tar", "-cf", path, f"--format={kind}", "-C", folder, "."], check=True)
        assert dict(found_in(path).images) == IMAGES

    @needs_tar
    @pytest.mark.parametrize("flag", ["z", "j", "J"])
    def test_what_tar_compresses(self, flag, tmp_path):
        (tmp_path / "a.jpg").write_bytes(JPEG)
        path = tmp_path / ("a" + {"z": ".TGZ", "j": ".tar.bz2", "J": ".tar.xz"}[flag])
        subprocess.run(["tar", f"-c{flag}f", path, "-C", tmp_path, "a.jpg"], check=True)
        assert found_in(path).images == [("a.jpg", JPEG)]

    @needs_tar
    @both
    @pytest.mark.parametrize("holes", [1, 3, 40])  # headers have room for four, or more follow
    @pytest.mark.parametrize("kind", ["gnu", "0.0", "0.1", "1.0"])
    def test_files_with_holes_are_read_with_them(self, kind, holes, near, tmp_path):
        photo = tmp_path / "photo"  # no suffix: its first bytes are looked at before
        with photo.open("wb") as file:
            file.write(JPEG)
            for i in range(holes):
                file.seek((i + 1) << 16)
                file.write(b"no hole" * 100)
            file.truncate(3 << 20)
        how = ["--format=gnu"] if kind == "gnu" else ["--format=posix", f"--sparse-version={kind}"]
        path = tmp_path / "photos.tar"
        subprocess.run(["tar", "-cSf", path, *how, "-C", tmp_path, "photo"], check=True)
        assert path.stat().st_size < 250_000
        assert found_in(path, near).images == [("photo", photo.read_bytes())]

    @both
    def test_duplicates_are_an_image_each(self, near, write):
        path = write(member("a.jpg", b"1"), member("a.jpg", b"22"), member("a.jpg", b"3"), END)
        assert found_in(path, near).images == [("a.jpg", b"1"), ("a.jpg", b"22"), ("a.jpg", b"3")]

    def test_what_is_no_image_is_told(self, write):
        others = {"a.txt": JPEG, "b": b"text", "c.nef": b"", ".d.jpg": b"", ".git/e.jpg": b""}
        path = write(*(member(name, content) for name, content in others.items()), END)
        found = found_in(path)
        assert found.images == [(str(path), NO_IMAGE)]
        reasons = (Reason.OTHER, Reason.OTHER, Reason.RAW, Reason.HIDDEN, Reason.HIDDEN_FOLDER)
        assert found.skipped == list(zip(others, reasons, strict=True))

    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    def test_an_empty_archive_holds_no_image(self, suffix, tmp_path):
        path = archive_of(tmp_path / f"empty{suffix}", {}, SUFFIXES[suffix])
        assert found_in(path).images == [(str(path), NO_IMAGE)]

    def test_states_are_those_of_the_archive(self, tmp_path):
        path = archive_of(tmp_path / "photos.tar", {"a.jpg": b"123"})
        os.utime(path, (0, 0))
        (image,) = images_in(path)
        assert image.file.bytes == 3
        assert image.file.modified.startswith("1970-01-01")


class TestNames:
    HOSTILE = ("/etc/passwd.jpg", "../../up.jpg", "a/../../b.jpg", "~/c.jpg", "C:\\d.jpg",
               "new\nline.jpg", "-rf.jpg")  # fmt: skip

    @both
    def test_are_only_text(self, near, write, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        path = write(*(member(name, JPEG) for name in self.HOSTILE), END)
        with nothing_written(tmp_path):
            assert found_in(path, near).images == [(name, JPEG) for name in self.HOSTILE]

    def test_of_tar_begin_with_a_dot(self, write):
        path = write(member("./a.jpg"), member("././b.jpg"), member(".//c.jpg"), END)
        assert found_in(path).names == ["a.jpg", "./b.jpg", "/c.jpg"]

    @pytest.mark.parametrize("kind", FORMATS)
    def test_need_not_be_utf_8(self, kind, tmp_path):
        name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
        path = archive_of(tmp_path / "photos.tar", {name: JPEG}, kind=kind)
        assert found_in(path).images == [("caf\\xe9.jpg", JPEG)]

    def test_are_the_same_where_python_takes_files_for_latin_1(self, tmp_path, monkeypatch):
        path = archive_of(tmp_path / "photos.tar", {"é.jpg": JPEG}, kind="gnu")
        monkeypatch.setattr(tarfile.TarFile, "encoding", "iso8859-1")
        assert found_in(path).names == ["é.jpg"]

    def test_are_the_same_in_any_locale(self, tmp_path):
        path = archive_of(tmp_path / "photos.tar", {"é.jpg": JPEG, "€.jpg": JPEG})
        code = f"import archives as a; print(ascii(a.found_in(a.Path({str(path)!r})).names))"
        done = subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", code],
            env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": ":".join(sys.path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert not done.stderr
        assert done.stdout == ascii(["é.jpg", "€.jpg"]) + "\n"


KINDS = {
    "link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "hard.jpg": {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"},
    "up.jpg": {"type": tarfile.SYMTYPE, "linkname": "../../up"},
    "pipe.jpg": {"type": tarfile.FIFOTYPE},
    "disk.jpg": {"type": tarfile.BLKTYPE, "devmajor": 8},
    "tty.jpg": {"type": tarfile.CHRTYPE, "devmajor": 5},
}


@both
def test_links_and_devices_are_told_and_folders_are_not(near, write, tmp_path):
    special = (member(name, **fields) for name, fields in KINDS.items())
    path = write(member("dir.jpg", type=tarfile.DIRTYPE), *special, member("a.jpg", JPEG), END)
    with nothing_written(tmp_path):
        found = found_in(path, near)
    assert found.skipped == [(name, Reason.SPECIAL) for name in KINDS]
    assert found.images == [("a.jpg", JPEG)]


class TestWhenItIsRead:
    @pytest.fixture
    def large(self, tmp_path) -> Path:
        images = {f"{i}.jpg": bytes([i]) * 1_000_000 for i in range(20)}
        return archive_of(tmp_path / "photos.tar", images)

    def test_what_is_not_asked_for_is_not(self, large):
        opened = Opened(large)
        *_, last = images_in(large, opened=opened)
        assert opened.read < 100_000
        assert last.read(MOST) == bytes([19]) * 1_000_000

    def test_and_again(self, large):
        image = next(images_in(large))
        assert image.read(MOST) == image.read(MOST) == bytes(1_000_000)

    def test_of_what_may_be_an_image_the_first_bytes_are_at_once(self, tmp_path):
        path = archive_of(tmp_path / "photos.tar", {"a": bytes(500_000), "b": JPEG * 20_000})
        opened = Opened(path)
        assert len(list(images_in(path, opened=opened))) == 1
        assert opened.read < 40_000

    def test_by_any_thread(self, large):
        images = list(images_in(large))
        random.Random(1).shuffle(images)
        with ThreadPoolExecutor(8) as pool:
            for image, content in zip(images, pool.map(content_of, images), strict=True):
                assert content == bytes([int(Path(image.path).stem)]) * 1_000_000

    def test_while_the_archive_is_searched(self, tmp_path):
        images = {f"{i}.jpg": bytes([i % 251]) * 5_000 for i in range(500)}
        path = archive_of(tmp_path / "photos.tar", images)
        with ThreadPoolExecutor(4) as pool:
            read = [pool.submit(content_of, image) for image in images_in(path)]
            assert [each.result() for each in read] == list(images.values())

    @pytest.mark.parametrize(("suffix", "near"), [(".tar", False), (".tar.gz", True)])
    def test_what_cannot_be_read_again_is_held(self, suffix, near, tmp_path):
        path = archive_of(tmp_path / f"photos{suffix}", IMAGES, SUFFIXES[suffix])
        images = list(images_in(path, near))
        path.unlink()
        assert all(isinstance(image, HeldImage) for image in images)
        assert [image.read(MOST) for image in images] == list(IMAGES.values())

    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    def test_images_above_the_limit_are_not(self, suffix, tmp_path):
        images = {"large.jpg": bytes(300_000), "a.jpg": JPEG}
        path = archive_of(tmp_path / f"photos{suffix}", images, SUFFIXES[suffix])
        opened = Opened(path)
        (_, refused), small = found_in(path, max_bytes=1000, opened=opened).images
        assert refused == "the file has 300000 bytes, more than the limit of 1000; scale it down."
        assert small == ("a.jpg", JPEG)
        assert opened.read < 30_000


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
class TestTheFileIsClosed:
    @pytest.fixture
    def opened(self, suffix, tmp_path) -> Opened:
        return Opened(archive_of(tmp_path / f"photos{suffix}", IMAGES, SUFFIXES[suffix]))

    def test_after_the_last_image(self, opened):
        images = list(images_in(opened._path, opened=opened))
        assert len(images) == len(IMAGES)
        assert images[1].read(MOST) == IMAGES["sub/b.png"]
        del images
        assert opened.all_closed

    def test_when_nobody_goes_on(self, opened):
        images = images_in(opened._path, opened=opened)
        image = next(images)
        images.close()
        assert image.read(MOST) == JPEG
        del image
        assert opened.all_closed

    def test_when_it_is_no_archive(self, opened):
        opened._path.write_bytes(b"no archive" * 1000)
        assert len(list(images_in(opened._path, opened=opened))) == 1
        assert opened.all_closed


class TestDamage:
    def test_ends_what_is_found_and_is_told(self, write):
        """tarfile would take it for the end."""
        good = [member(f"{i}.jpg", JPEG) for i in range(3)]
        found = found_in(write(*good, b"\1" * 512, member("lost.jpg", JPEG), END))
        assert found.names[:3] == ["0.jpg", "1.jpg", "2.jpg"]
        (path, sentence) = found.images[3]
        assert path.endswith("photos.tar")
        assert sentence == "the archive is truncated or damaged after 3 members: bad header."

    def test_no_end_may_mean_that_images_are_missing(self, write):
        found = found_in(write(member("a.jpg", JPEG), member("b.jpg", JPEG)))
        assert found.names[:2] == ["a.jpg", "b.jpg"]
        assert "truncated or damaged after 2 members: there is no end mark." in found.images[2][1]

    @both
    @pytest.mark.parametrize("kind", FORMATS)
    def test_wherever_an_archive_is_cut(self, kind, near, tmp_path):
        whole = archive_of(tmp_path / "whole.tar", IMAGES, kind=kind)
        content, path = whole.read_bytes(), tmp_path / "cut.tar"
        expected = list(IMAGES.items())
        ends = [i for i in range(0, len(content), 512) if content[i : i + 1024] == END]
        cuts = [*range(0, 2100, 100), *range(70_000, ends[-1] - 20_000, 700), ends[0] - 1]
        for cut in cuts:
            path.write_bytes(content[:cut])
            *images, (_, sentence) = found_in(path, near).images
            whole_ones = [image for image in images if isinstance(image[1], bytes)]
            assert whole_ones == expected[: len(whole_ones)]
            assert len(images) - len(whole_ones) <= 1
            assert "no tar archive" in sentence or "truncated or damaged after" in sentence

    @both
    def test_a_member_that_is_cut_is_told_of_the_archive(self, near, write):
        """Wherever it lies there is one sentence, and none of the member."""
        path = write(member("a.jpg", JPEG), member("b.jpg", JPEG + bytes(5000))[:-3000])
        (first, _), (name, sentence) = found_in(path, near).images
        assert (first, name) == ("a.jpg", str(path))
        assert "truncated or damaged after 1 member: unexpected end of data." in sentence

    @pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz"])
    def test_wherever_a_compressed_one_is_cut(self, suffix, tmp_path):
        """Behind the end mark, too: only the checksum that comes last tells that all is well."""
        images = {f"{i}.jpg": random.Random(i).randbytes(3000) for i in range(3)}
        whole = archive_of(tmp_path / f"whole{suffix}", images, SUFFIXES[suffix])
        content, path = whole.read_bytes(), tmp_path / f"cut{suffix}"
        for cut in [*range(0, len(content), 397), len(content) - 1]:
            path.write_bytes(content[:cut])
            *read, (_, sentence) = found_in(path).images
            assert read == list(images.items())[: len(read)]
            assert "no tar archive" in sentence or "truncated or damaged after" in sentence

    @both
    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    @pytest.mark.parametrize("kind", FORMATS)
    def test_never_ends_a_run(self, kind, suffix, near, tmp_path):
        whole = archive_of(tmp_path / f"whole{suffix}", IMAGES, SUFFIXES[suffix], kind)
        content, path = whole.read_bytes(), tmp_path / f"damaged{suffix}"
        chance = random.Random(1)
        for _ in range(30):
            damaged = bytearray(content)
            for _ in range(chance.randint(1, 30)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            for i in range(0, len(damaged), 512):  # headers above all
                if chance.random() < 0.02:
                    damaged[i + chance.randrange(512)] = chance.randrange(256)
            path.write_bytes(damaged)
            found_in(path, near)

    def test_what_gzip_finds_at_the_end_is_told(self, tmp_path):
        path = archive_of(tmp_path / "photos.tar.gz", {"a.jpg": JPEG}, "gz")
        content = bytearray(path.read_bytes())
        content[-8] ^= 1
        path.write_bytes(content)
        (_, read), (_, sentence) = found_in(path).images
        assert read == JPEG
        assert "after 1 member: CRC check failed" in sentence

    @pytest.mark.parametrize("content", [b"", b"PK\3\4" * 300, b"\1" * 5000])
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_what_is_no_archive_at_all(self, content, suffix, write):
        ((_, sentence),) = found_in(write(content, name=f"photos{suffix}")).images
        assert sentence.startswith("the file is no tar archive, or it is damaged where it begins: ")


class TestTheSystemFails:
    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    def test_while_it_reads(self, suffix, tmp_path):
        images = {f"{i}.jpg": random.Random(i).randbytes(300_000) for i in range(3)}
        path = archive_of(tmp_path / f"photos{suffix}", images, SUFFIXES[suffix])
        *_, last = images_in(path, opened=Opened(path, fails_at=700_000))
        with pytest.raises(UnreadableError, match="cannot be read: Input/output error"):
            last.read(MOST)

    def test_because_the_file_has_gone(self, tmp_path):
        path = archive_of(tmp_path / "photos.tar", IMAGES)
        images = images_in(path)
        path.unlink()
        (lost,) = images
        with pytest.raises(UnreadableError, match="No such file or directory"):
            lost.read(MOST)


def header(size: int, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return member("header", type=kind, size=size)


def pax(**records: object) -> bytes:
    """A header of records for the member that follows."""
    content = tarfile.TarInfo._create_pax_generic_header(
        {key.replace("_", "."): str(value) for key, value in records.items()},
        tarfile.XHDTYPE,
        "utf-8",
    )
    return bytes(content)


class TestHostileHeaders:
    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
    def test_that_claim_gigabytes_take_none(self, kind, suffix, write):
        content = member("a.jpg", JPEG) + header(1 << 32, kind) + bytes(1 << 20)
        if suffix == ".tar.gz":
            content = gzip.compress(content)
        path = write(content, name=f"photos{suffix}")
        tracemalloc.start()
        images = found_in(path).images
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [content for _, content in images] == [
            JPEG, "the archive is damaged: a header in it has more than 262144 bytes.",
        ]  # fmt: skip
        assert peak < 4_000_000

    def test_that_follow_each_other_without_end(self, write):
        one = header(0, tarfile.XHDTYPE)
        (_, sentence) = found_in(write(one * 100_000)).images[-1]
        assert "damaged" in sentence

    def test_that_count_for_all_members_do_not_add_up(self, write):
        def both(i: int) -> bytes:
            content = tarfile.TarInfo._create_pax_generic_header(
                {f"key{i}": "x" * 60_000}, tarfile.XGLTYPE, "utf-8"
            )
            return bytes(content) + member(f"{i}.jpg")

        images = found_in(write(*map(both, range(100)), END)).images
        assert len(images) < 7
        assert "more than 262144 bytes" in images[-1][1]

    @pytest.mark.parametrize("size", [-512, -1024, -(10**6), 10**25])
    @both
    def test_whose_size_leads_nowhere(self, near, size, write):
        """Backwards, and the same members would come again and again."""
        images = found_in(
            write(member("a.jpg", JPEG), member("b.jpg", size=size), END), near
        ).images
        assert images[0] == ("a.jpg", JPEG)
        assert len(images) == 2
        assert "damaged" in images[1][1]

    @pytest.mark.parametrize(
        "places",
        ["0,5,3,5", "-5,5", "0,-5", "10,5,0,5", "0,10,200,10", "x,y", "9" * 30 + ",1"],
    )
    def test_whose_map_of_holes_makes_no_sense(self, places, write):
        holes = pax(GNU_sparse_map=places, GNU_sparse_size=100, GNU_sparse_name="b.jpg")
        *_, (_, sentence) = found_in(write(holes, member("b", b"1234567890"), END)).images
        assert "damaged" in sentence

    def test_whose_holes_are_a_bomb(self, write):
        holes = pax(GNU_sparse_map="0,10", GNU_sparse_size=1 << 29, GNU_sparse_name="b.jpg")
        images = found_in(
            write(holes, member("b", b"1234567890"), member("c.jpg", JPEG), END)
        ).images
        assert images[0][1].startswith("the file is a bomb: it unpacks to 536870912 bytes")
        assert images[1] == ("c.jpg", JPEG)

    def test_whose_content_leads_backwards_behind_sound_holes(self, write):
        holes = pax(GNU_sparse_map="0,10", GNU_sparse_size=10, GNU_sparse_name="b.jpg")
        images = found_in(write(member("a.jpg", JPEG), holes, member("b", size=-1536), END)).images
        assert len(images) == 2
        assert "damaged after 1 member: sizes in a header make no sense" in images[1][1]

    @both
    def test_that_claim_an_image_of_a_gigabyte_take_none(self, near, write):
        path = write(member("a.jpg", size=1 << 30), bytes(1 << 20))
        tracemalloc.start()
        *_, (_, sentence) = found_in(path, near).images
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "truncated" in sentence or "no tar archive" in sentence
        assert peak < 8_000_000


class TestBombs:
    BOMB = "the archive is a bomb: it unpacks to more than 200 times its size."

    @staticmethod
    def bomb(pieces: int) -> bytes:
        """An archive of an image and gigabytes of nothing."""
        piece = gzip.compress(bytes(1 << 24))
        first = member("a.jpg", JPEG) + member("zeros.txt", size=pieces << 24)
        return gzip.compress(first) + piece * pieces + gzip.compress(END)

    @pytest.mark.parametrize("large", [1 << 24, slow(packed.LARGE_ARCHIVE)])
    def test_are_recognised_as_they_unpack(self, large, write, monkeypatch):
        monkeypatch.setattr(packed, "LARGE_ARCHIVE", large)
        path = write(self.bomb(2 * large >> 24), name="photos.tar.gz")
        assert found_in(path).images == [("a.jpg", JPEG), (str(path), self.BOMB)]

    def test_need_be_large(self, write):
        path = write(self.bomb(2), name="photos.tar.gz")
        assert found_in(path).images == [("a.jpg", JPEG)]

    def test_are_recognised_behind_the_end_too(self, write, monkeypatch):
        monkeypatch.setattr(packed, "LARGE_ARCHIVE", 1 << 24)
        path = write(gzip.compress(END), gzip.compress(bytes(1 << 25)), name="photos.tar.gz")
        assert found_in(path).images == [(str(path), self.BOMB)]


@linux
@pytest.mark.parametrize("members", [100_000, slow(1_000_000)])
def test_memory_does_not_grow_with_members(members, tmp_path):
    path = tmp_path / "photos.tar"
    with path.open("wb") as file:
        for _ in range(members // 10_000):
            file.write(member("a.jpg", JPEG) * 10_000)
        file.write(END)

    code = f"""if True:
        import archives, pathlib
        def peak():
            lines = pathlib.Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        images = archives.images_in(pathlib.Path({str(path)!r}))
        for _ in range(10_000):
            next(images)
        before = peak()
        print(sum(1 for _ in images), peak() - before)
    """
    env = {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=True)
    found, grown = map(int, done.stdout.split())
    assert found == members - 10_000
    assert grown < 4_000  # kilobytes


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads Zstandard")
def test_zstandard_says_what_it_needs(write):
    path = write(b"", name="photos.tar.zst")
    with pytest.raises(
        InputError, match=r"needs Python 3\.14 or newer; or unpack it first: zstd -d"
    ):
        found_in(path)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="this Python reads no Zstandard")
def test_zstandard_is_read(tmp_path):
    path = archive_of(tmp_path / "photos.tar.zst", IMAGES, "zst")
    assert found_in(path).images == list(IMAGES.items())

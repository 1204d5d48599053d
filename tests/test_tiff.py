"""Of a TIFF the page at full resolution is judged; a raw file's thumbnail never is."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from fuzz import images
from fuzz.harness import Child
from glass_edge.runtime.images.decode import decode
from PIL import Image, TiffImagePlugin
from tiffs import THUMBNAIL, Page, written

from glass_edge import ImageError

MOSAIC = {262: (32803,)}
LINEAR_RAW = {262: (34892,)}
DNG_VERSION = 50706


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> np.ndarray:
    return np.asarray(photograph.resize((160, 120)))


def sensor(picture: np.ndarray) -> np.ndarray:
    """One value of 14 bits for each pixel."""
    return picture[..., 1].astype(np.uint16) << 6


def refusal(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(content)
    return str(caught.value)


RAW = {
    "DNG": lambda p: written(
        Page(p[::4, ::4], {**THUMBNAIL, DNG_VERSION: (1, 4, 0, 0)}, [Page(sensor(p), MOSAIC)])
    ),
    "DNG, linear": lambda p: written(Page(p, {**LINEAR_RAW, DNG_VERSION: (1, 4, 0, 0)})),
    "NEF": lambda p: written(Page(p[::4, ::4], THUMBNAIL, [Page(p[::2, ::2], THUMBNAIL),
                                                          Page(sensor(p), MOSAIC)])),
    "ARW": lambda p: written(Page(p[::2, ::2], THUMBNAIL, [Page(sensor(p), MOSAIC)]),
                             Page(p[::8, ::8], THUMBNAIL)),
    "PEF": lambda p: written(Page(sensor(p), MOSAIC), Page(p[::4, ::4], THUMBNAIL)),
    "CR2": lambda p: written(Page(p[::4, ::4]), Page(sensor(p)))[:8] + b"CR\2\0" + bytes(600),
}  # fmt: skip


@pytest.mark.parametrize("kind", RAW)
def test_a_raw_file_is_refused_and_its_thumbnail_not_judged(kind, picture):
    assert "is not read; develop it first" in refusal(RAW[kind](picture))


def test_without_the_check_a_raw_files_thumbnail_would_be_the_picture(picture):
    with Image.open(io.BytesIO(RAW["NEF"](picture))) as image:
        assert image.size == (40, 30)


def test_the_page_at_full_resolution_is_read_behind_its_thumbnail(picture):
    thumbnail = Page(picture[::4, ::4], THUMBNAIL)
    assert np.array_equal(decode(written(thumbnail, Page(picture))), picture)
    half = Page(picture[::2, ::2])
    assert np.array_equal(decode(written(thumbnail, half, Page(picture))), picture)


def test_the_old_way_to_say_thumbnail_counts_too(picture):
    content = written(Page(picture[::4, ::4], {255: (2,)}), Page(picture))
    assert np.array_equal(decode(content), picture)


def test_of_several_full_pages_the_first_is_read_as_pillow_does(picture):
    content = written(Page(picture[::2, ::2]), Page(picture))
    assert np.array_equal(decode(content), picture[::2, ::2])


def test_a_thumbnail_alone_is_no_picture(picture):
    assert "holds only a thumbnail" in refusal(written(Page(picture, THUMBNAIL)))
    nested = written(Page(picture[::4, ::4], THUMBNAIL, [Page(picture)]))
    assert "holds only a thumbnail" in refusal(nested)


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (np.float32, "TIFF of 3 channels of floating-point 32-bit values is not read"),
        (np.float64, "TIFF of 3 channels of floating-point 64-bit values is not read"),
        (np.int32, "TIFF of 3 channels of signed 32-bit values is not read"),
    ],
)
def test_values_that_pillow_does_not_know_are_called_by_their_name(dtype, said, picture):
    assert refusal(written(Page(picture.astype(dtype)))) == f"{said}; convert it to 8 or 16 bits."


@pytest.mark.parametrize(
    ("number", "name"), [(50001, "WebP"), (50002, "JPEG XL"), (34712, "JPEG 2000"),
                         (4, "fax"), (6, "old-style JPEG"), (12345, r"unknown \(12345\)")]
)  # fmt: skip
def test_a_compression_that_is_not_read_is_called_by_its_name(number, name, picture, capfd):
    content = written(Page(picture, {259: (number,)}))
    with pytest.raises(ImageError, match=f"TIFF with {name} compression is not read; convert it"):
        decode(content)
    assert capfd.readouterr() == ("", "")


def test_strips_that_are_not_there_are_no_black_stripes(picture):
    """Pillow reads the strips that are listed, and leaves the others black."""
    content = written(Page(picture, {278: (10,)}))
    with Image.open(io.BytesIO(content)) as image:
        assert not np.asarray(image)[10:].any()
    assert "11 of its 12 strips are missing" in refusal(content)


def test_tiles_that_are_not_there_are_no_black_squares(picture):
    tiles = {322: (16,), 323: (16,), 324: (8,), 325: (768,)}
    content = written(Page(picture, tiles))
    assert "79 of its 80 tiles are missing" in refusal(content)


@pytest.mark.parametrize("tag", [254, 256, 258, 259, 262, 273, 277, 330])
@pytest.mark.parametrize("value", [0xFFFFFFFF, 0])
def test_absurd_entries_give_a_sentence_or_a_picture(tag, value, picture):
    content = written(Page(picture, {tag: (value,)}))
    try:
        assert decode(content).size
    except ImageError as error:
        assert str(error).endswith(".")  # noqa: PT017


def test_a_big_tiff_is_read(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "TIFF", big_tiff=True)
    assert buffer.getvalue()[:4] == b"II+\0"
    assert np.array_equal(decode(buffer.getvalue()), picture)


def test_jpeg_in_a_tiff_is_looked_at_strip_by_strip(picture):
    """libtiff warns where data are missing, fills in grey, and Pillow does not hear of it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "TIFF", compression="jpeg")
    content = bytearray(buffer.getvalue())
    with Image.open(io.BytesIO(content)) as image:
        start = image.tag_v2[TiffImagePlugin.STRIPOFFSETS][-1]
        size = image.tag_v2[TiffImagePlugin.STRIPBYTECOUNTS][-1]
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode(bytes(content)), expected)
    middle = start + size // 2
    content[middle : start + size] = b"\xff\xd9" + bytes(start + size - middle - 2)
    with Image.open(io.BytesIO(content)) as image:
        assert np.asarray(image.convert("RGB")).shape == expected.shape
    assert "premature end of data segment" in refusal(bytes(content))


def test_directories_without_end_are_not_followed(picture):
    """A thousand pages, of which none is at full resolution."""
    content = written(*[Page(picture[:1, :1], THUMBNAIL)] * 1000)
    assert "holds only a thumbnail" in refusal(content)


def test_a_directory_that_names_itself_ends(picture):
    content = bytearray(written(Page(picture, THUMBNAIL)))
    (start,) = struct.unpack_from("<I", content, 4)
    struct.pack_into("<I", content, len(content) - 4, start)
    assert "holds only a thumbnail" in refusal(bytes(content))


def test_entries_that_all_point_to_the_whole_file_are_not_copied(picture):
    """Pillow would copy what each points to: 4,000 times a file of 100 kB."""
    content = bytearray(written(Page(picture, {10_000 + index: (0,) for index in range(4_000)})))
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", content, entry)
        if tag >= 10_000:
            struct.pack_into("<HII", content, entry + 2, 7, len(content) - 8, 8)
    with Child(images.TARGET, seconds=5, memory=images.MEMORY) as child:
        result = child.run(bytes(content))
    assert result.outcome == "refused"
    assert "describe more than the file can hold" in result.what
    assert result.memory < 20e6


def test_absurdly_many_entries_are_refused(picture):
    content = written(Page(picture, {10_000 + index: (0,) for index in range(5_000)}))
    assert "more than 4096 entries" in refusal(content)


def test_thousands_of_sub_directories_that_are_none_take_no_time(picture):
    content = written(Page(picture, {330: tuple(range(30_000))}))
    with Child(images.TARGET, seconds=5, memory=images.MEMORY) as child:
        child.run(content)
        assert child.run(content).seconds < 1


@pytest.mark.parametrize("entries", [{273: (0,), 279: (0,)}, {273: (0,)}, {273: (4,)}])
def test_a_strip_that_was_left_out_is_not_read_from_the_files_beginning(entries, picture):
    """GDAL writes sparse files: offset 0 says that there is no such strip."""
    content = written(Page(picture, entries))
    with Image.open(io.BytesIO(content)) as image:
        assert image.convert("RGB").size == (160, 120)
    assert "1 of its 1 strips are missing" in refusal(content)


def test_directories_that_share_their_entries_take_no_memory(picture):
    """Each of 64 pages says that half of the file are its sub-directories."""
    shared = tuple(range(100_000))
    content = bytearray(written(*[Page(picture[:4, :4], {330: (0,)})] * 64))
    place = len(content)
    content += struct.pack(f"<{len(shared)}I", *shared)
    (start,) = struct.unpack_from("<I", content, 4)
    while start:
        (count,) = struct.unpack_from("<H", content, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from("<H", content, entry) == (330,):
                struct.pack_into("<II", content, entry + 4, len(shared), place)
        (start,) = struct.unpack_from("<I", content, start + 2 + 12 * count)
    with Child(images.TARGET, seconds=5, memory=images.MEMORY) as child:
        child.run(bytes(content))
        result = child.run(bytes(content))
    assert result.outcome == "read"
    assert result.memory < 20e6
    assert result.seconds < 1


def test_a_larger_picture_below_a_small_one_is_not_passed_over(picture):
    content = written(Page(picture[::4, ::4], below=[Page(picture)]))
    assert "holds a larger picture in a sub-directory, which is not read" in refusal(content)
    pyramid = written(Page(picture, below=[Page(picture[::2, ::2], THUMBNAIL)]))
    assert np.array_equal(decode(pyramid), picture)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_directories_beyond_any_memory_are_damage():
    """BigTIFF's offsets have 64 bits, of which Python indexes 63."""
    for offset in (1 << 62, (1 << 64) - 1):
        assert "truncated or damaged" in refusal(b"II+\0\x08\0\0\0" + struct.pack("<Q", offset))

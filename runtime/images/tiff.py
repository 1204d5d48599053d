"""TIFF: the page at full resolution, no raw files, and no missing data.

Cameras' raw files are TIFFs whose first page is a thumbnail. With some compressions libtiff at most
warns about missing data, and Pillow drops the warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from ..finding.signatures import CONVERT, DEVELOP
from ..machine.errors import ImageError
from .encoded import DecodeOptions, EncodedImage
from .jpeg import missing as missing_of_jpeg
from .pillow import open_with_pillow
from .tiff_directory import MOST_DIRECTORIES, Directory, Tag, directory_at, read_directories

_MOSAIC = (32803, 34892)  # photometric interpretations of sensor data: CFA and LinearRaw
_JPEG = 7
_HEADER = 8  # bytes, in which nothing else can lie
_READ = (1, 5, _JPEG, 8, 32773, 32946, 34925, 50000)
_UNREAD = {
    **dict.fromkeys((2, 3, 4), "fax"),
    6: "old-style JPEG",
    34712: "JPEG 2000",
    50001: "WebP",
    50002: "JPEG XL",
}
_SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point"}


def open_tiff(content: bytes, options: DecodeOptions) -> EncodedImage:
    """Read a TIFF's directories, and choose its first page at full resolution.

    Raises:
        ImageError: it is damaged, a raw file, or compressed in a way that is not read.
    """
    pages = read_directories(content)
    _refuse_raw(content, pages)
    if not pages or not _size(pages[0]):
        return open_with_pillow(content, options)
    frame = _full_resolution(content, pages)
    page = pages[frame]
    _refuse_compression(page)
    return open_with_pillow(
        content,
        options,
        frame=frame,
        check=lambda: _missing(content, page),
        unknown=_unknown_kind(page),
        high_bytes=page.number(Tag.BITS, 1) == 16 and page.number(Tag.SAMPLES, 1) > 1,
    )


def _refuse_raw(content: bytes, pages: Sequence[Directory]) -> None:
    """Refuse a file that holds what a sensor measured, beside previews of it."""
    for page in (*pages, *_nested(content, pages)):
        if Tag.DNG_VERSION in page or page.number(Tag.PHOTOMETRIC) in _MOSAIC:
            raise ImageError(f"a camera's raw file is not read; {DEVELOP}.")


def _nested(content: bytes, pages: Iterable[Directory]) -> Iterator[Directory]:
    """Yield the first sub-directories of pages, where they can be read."""
    starts = (int(start) for page in pages for start in page.numbers(Tag.SUB_DIRECTORIES))
    for start in islice(starts, MOST_DIRECTORIES):
        with suppress(ImageError):
            if found := directory_at(content, start):
                yield found


def _full_resolution(content: bytes, pages: Sequence[Directory]) -> int:
    """Return the first page's index or, if that is reduced, the largest one's that is not."""
    full = [index for index, page in enumerate(pages) if not _is_reduced(page)]
    found = 0 if 0 in full else max(full, key=lambda index: _size(pages[index]), default=None)
    if found is None:
        raise ImageError("the TIFF holds only a thumbnail where its pages are looked for.")
    below = [page for page in _nested(content, [pages[found]]) if not _is_reduced(page)]
    if any(_size(page) > _size(pages[found]) for page in below):
        raise ImageError(
            f"the TIFF holds a larger picture in a sub-directory, which is not read; {CONVERT}."
        )
    return found


def _is_reduced(page: Directory) -> bool:
    """Whether a page is a thumbnail, or a mask, of another one."""
    return page.number(Tag.SUBFILE) & 0b101 != 0 or page.number(Tag.OLD_SUBFILE) == 2


def _size(page: Directory) -> int:
    return page.number(Tag.WIDTH) * page.number(Tag.HEIGHT)


def _refuse_compression(page: Directory) -> None:
    kind = page.number(Tag.COMPRESSION, 1)
    if kind not in _READ:
        name = _UNREAD.get(kind, f"unknown ({kind})")
        raise ImageError(f"TIFF with {name} compression is not read; {CONVERT}.")


def _unknown_kind(page: Directory) -> str | None:
    numbers = _SAMPLE_FORMATS.get(page.number(Tag.SAMPLE_FORMAT, 1), "unusual")
    samples, bits = page.number(Tag.SAMPLES, 1), page.number(Tag.BITS, 1)
    if numbers == "unsigned" and bits in (1, 8, 16):
        return None
    return (
        f"TIFF of {samples} channel{'s' * (samples != 1)} of {numbers} {bits}-bit values is not "
        "read; convert it to 8 or 16 bits."
    )


def _missing(content: bytes, page: Directory) -> str | None:
    """Say which parts of a page are missing, where a decoder would fill them in."""
    tiled = Tag.TILES in page
    starts = page.numbers(Tag.TILES if tiled else Tag.STRIPS)
    sizes = page.numbers(Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES)
    what, expected = "tiles" if tiled else "strips", _parts(page, tiled=tiled)
    there = int((starts[:expected] >= _HEADER).sum())  # 0 says that one was left out
    if there < expected:
        return f"{expected - there} of its {expected} {what} are missing"
    if page.number(Tag.COMPRESSION) != _JPEG:
        return None
    tables = page.data(Tag.JPEG_TABLES)[:-2]  # without their end marker
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=False):
        jpeg = content[start : start + size]
        if problem := missing_of_jpeg(tables + jpeg[2 if tables else 0 :]):
            return problem
    return None


def _parts(page: Directory, *, tiled: bool) -> int:
    """Return of how many strips or tiles a page consists."""
    width, height = page.number(Tag.WIDTH), page.number(Tag.HEIGHT)
    planes = page.number(Tag.SAMPLES, 1) if page.number(Tag.PLANAR, 1) == 2 else 1
    across, down = width, page.number(Tag.ROWS_PER_STRIP, height)
    if tiled:
        across, down = page.number(Tag.TILE_WIDTH), page.number(Tag.TILE_HEIGHT)
    return planes * -(-width // max(across, 1)) * -(-height // max(down, 1))

"""What an image takes in memory is what the budget is charged for it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator

import pytest
from fuzz import images
from fuzz.harness import Child
from glass_edge.benchmarks.views.interlaced import interlaced_png
from glass_edge.runtime.images.decode import read_header
from glass_edge.runtime.images.encoded import DecodeOptions
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")


def saved(kind: str, mode: str = "RGB", **options: object) -> Callable[[Image.Image], bytes]:
    def make(picture: Image.Image) -> bytes:
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


def webp_with_alpha(picture: Image.Image) -> bytes:
    picture = picture.copy()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return saved("WEBP", "RGBA", method=0)(picture)


# How many times its decoded size an image takes at most.
KINDS = {
    "JPEG": (1.3, saved("JPEG")),
    "JPEG progressive": (3.3, saved("JPEG", progressive=True, subsampling=0)),
    "PNG": (3.0, saved("PNG", compress_level=1)),
    "WebP with alpha": (6.0, webp_with_alpha),
    "TIFF": (2.5, saved("TIFF")),
    "AVIF": (5.0, saved("AVIF", speed=10, subsampling="4:4:4")),
}
SLOW_KINDS = {
    "BMP": (2.5, saved("BMP")),
    "JPEG CMYK": (2.5, saved("JPEG", "CMYK")),
    "JPEG CMYK progressive": (4.5, saved("JPEG", "CMYK", progressive=True)),
    "JPEG 2000": (9.0, saved("JPEG2000")),
    "PNG interlaced": (3.0, interlaced_png),
    "PNG palette": (2.5, saved("PNG", "P")),
    "WebP": (3.0, saved("WEBP", method=0)),
    "GIF": (2.5, saved("GIF")),
}


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> Image.Image:
    """Twelve million pixels: what takes less than 32 MB the C library may keep when it is freed."""
    return photograph.resize((4000, 3000))


@pytest.fixture
def viewer() -> Iterator[Child]:
    with Child(images.VIEWS, seconds=images.SECONDS, memory=images.MEMORY) as child:
        yield child


@pytest.mark.parametrize(
    "kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW_KINDS)]
)
def test_an_image_takes_no_more_than_is_charged_for_it(kind, picture, viewer):
    most, make = (KINDS | SLOW_KINDS)[kind]
    content = make(picture)
    image = read_header(content)
    assert image.peak == pytest.approx(most)
    assert image.peak_bytes == pytest.approx(most * 36_000_000, abs=1)
    viewer.run(content)  # what a thread keeps is there from its first image on
    result = viewer.run(content)
    assert result.outcome == "read"
    assert result.memory < image.peak_bytes


def sequential_in_scans(content: bytes) -> bytes:
    """Say in the header of the first scan that it has one component of three."""
    scan = content.index(b"\xff\xda")
    assert content[scan + 2 : scan + 5] == b"\x00\x0c\x03"
    return content[:scan] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + content[scan + 14 :]


def test_a_jpeg_in_scans_is_charged_for_its_coefficients(photograph):
    content = saved("JPEG")(photograph.resize((64, 64)))
    assert read_header(content).peak == pytest.approx(1.3)
    in_scans = read_header(sequential_in_scans(content), DecodeOptions(allow_damaged=True))
    assert in_scans.peak == pytest.approx(3.3)


def test_a_thumbnail_in_scans_costs_nothing(photograph):
    """Cameras put a JPEG into the EXIF of another."""
    small = saved("JPEG", progressive=True)(photograph.resize((64, 64)))
    exif = Image.Exif()
    exif[0x010E] = small
    content = saved("JPEG", exif=exif.tobytes())(photograph.resize((320, 240)))
    assert small in content
    assert read_header(content).peak == pytest.approx(1.3)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_nothing_but_the_pixels_is_held_after_decoding(kind, picture):
    """The caller keeps the image that it looked at while it makes views."""
    with Child("fuzz.images:held", seconds=images.SECONDS, memory=images.MEMORY) as child:
        content = KINDS[kind][1](picture)
        child.run(content)
        held = int(child.run(content).what)
    assert held < 1.25 * 36_000_000

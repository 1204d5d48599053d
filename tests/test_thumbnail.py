"""Small pictures of images: the right size, upright, and like the image."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import encoded
from glass_edge.runtime.images.decode import read_header
from glass_edge.runtime.images.thumbnail import (
    THUMBNAIL_SIDE,
    as_webp,
    draft,
    quick_thumbnail,
    thumbnail_of,
)
from PIL import Image, ImageOps

from glass_edge import Detector, DetectorOptions

ORIENTATION = 0x0112
ALIKE = 10  # grey levels, on average: some pixels stand for all


def picture(webp: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(webp))
    assert image.format == "WEBP"
    return image.convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4000, 3000), (192, 144)),
        ((300, 900), (64, 192)),
        ((192, 192), (192, 192)),
        ((40, 30), (40, 30)),
        ((1, 1), (1, 1)),
        ((3000, 2), (192, 1)),
        ((1, 2000), (1, 192)),
    ],
)
def test_the_longest_side_is_at_most_192_and_nothing_is_enlarged(size, expected, photograph):
    rgb = np.asarray(photograph.resize(size))
    assert picture(thumbnail_of(rgb).content).size == expected


def test_it_looks_like_pillows_reduction(photograph):
    mine = picture(thumbnail_of(np.asarray(photograph)).content)
    theirs = photograph.resize(mine.size, Image.Resampling.BOX)
    assert difference(mine, theirs) < ALIKE
    assert difference(mine, ImageOps.mirror(theirs)) > 2 * ALIKE


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright_as_pillow_turns_images(orientation, photograph):
    stored = photograph.resize((400, 200))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = Image.open(io.BytesIO(encoded(stored, "PNG", exif=exif)))
    upright = ImageOps.exif_transpose(file).convert("RGB")
    mine = picture(thumbnail_of(np.asarray(stored), orientation).content)
    assert difference(mine, upright.resize(mine.size, Image.Resampling.BOX)) < ALIKE


@pytest.mark.parametrize("orientation", [1, 6, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_stretched_view_serves_as_well(dtype, orientation, photograph):
    stretched = np.asarray(photograph.resize((224, 224), Image.Resampling.BILINEAR), dtype)
    quick = quick_thumbnail(stretched, photograph.size, orientation)
    assert quick.orientation == orientation
    mine = picture(as_webp(quick).content)
    whole = picture(thumbnail_of(np.asarray(photograph), orientation).content)
    assert mine.size == whole.size
    assert difference(mine, whole) < ALIKE
    assert as_webp(as_webp(quick)) == as_webp(quick)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_draft_is_large_enough_for_it_and_like_the_image(kind, photograph):
    content = encoded(photograph.resize((2000, 1500)), kind, quality=90)
    image = read_header(content)
    rough = draft(content, image)
    assert max(rough.shape) >= 2 * THUMBNAIL_SIDE
    whole = picture(thumbnail_of(image.decode().rgb).content)
    assert difference(picture(thumbnail_of(rough).content), whole) < ALIKE


def test_a_large_jpeg_is_not_decoded_whole(photograph):
    content = encoded(photograph, "JPEG")
    assert max(draft(content, read_header(content)).shape) < max(photograph.size) / 4


def test_a_stream_gives_each_images_own_if_it_is_asked_for(vit_bundle, photographs):
    detector = Detector(vit_bundle, DetectorOptions(thumbnails=True))
    sources = [photographs[4], "missing.jpg", photographs[6]]
    with detector.stream(sources) as records:
        found = [(record.path, records.thumbnail) for record in records]
    assert found[1][1] is None
    for path, thumbnail in (found[0], found[2]):
        with Image.open(path) as image:
            mine = picture(as_webp(thumbnail).content)
            expected = image.convert("RGB").resize(mine.size, Image.Resampling.BOX)
        assert difference(mine, expected) < ALIKE
    with Detector(vit_bundle).stream(photographs[4]) as records:
        next(records)
        assert records.thumbnail is None

"""Grey of more than 8 bits: clipped as Pillow does, refused where nothing is left, or scaled."""

from __future__ import annotations

import io

import conftest
import cv2
import numpy as np
import pytest
from glass_edge.runtime.images.decode import decode
from glass_edge.runtime.images.encoded import DecodeOptions
from PIL import Image
from tiffs import Page, written

from glass_edge import ImageError

SCALED = DecodeOptions(sixteen_bit="scale")


@pytest.fixture(scope="module")
def grey(photograph: Image.Image) -> np.ndarray:
    return np.asarray(photograph.resize((160, 120)).convert("L"))


def encoded(values: np.ndarray, kind: str) -> bytes:
    return conftest.encoded(Image.fromarray(values), kind)


def sixteen(grey: np.ndarray) -> np.ndarray:
    return grey.astype(np.uint16) * 257


def twelve_bit_tiff(grey: np.ndarray) -> bytes:
    """Two values in three bytes."""
    values = grey.astype(np.uint16) * 16 + 8
    left, right = values[:, ::2], values[:, 1::2]
    packed = np.dstack([left >> 4, (left & 15) << 4 | right >> 8, right & 255]).astype(np.uint8)
    packed = packed.reshape(len(grey), -1)
    return written(Page(packed, {256: (grey.shape[1],), 258: (12,), 339: (1,)}))


WHITE = {
    "16-bit PNG": lambda g: encoded(sixteen(g), "PNG"),
    "16-bit TIFF": lambda g: encoded(sixteen(g), "TIFF"),
    "16-bit PGM": lambda g: encoded(sixteen(g), "PPM"),
    "16-bit JPEG 2000": lambda g: encoded(sixteen(g), "JPEG2000"),
    "32-bit TIFF": lambda g: encoded(g.astype(np.int32) << 16, "TIFF"),
}
BLACK = {"float TIFF, 0 to 1": lambda g: encoded(g.astype(np.float32) / 255, "TIFF")}


def bright(grey: np.ndarray) -> np.ndarray:
    """Without black, which clipping leaves as it is."""
    return np.maximum(grey, 1)


@pytest.mark.parametrize("name", [*WHITE, *BLACK])
def test_a_picture_of_which_clipping_leaves_nothing_is_refused(name, grey):
    content = (WHITE | BLACK)[name](bright(grey))
    with Image.open(io.BytesIO(content)) as image:
        flat = np.asarray(image.convert("RGB"))
    assert np.ptp(flat) <= 1
    became = "0 or 1" if name in BLACK else 255
    with pytest.raises(ImageError, match=rf"values become {became}; .*--sixteen-bit scale"):
        decode(content)


@pytest.mark.parametrize("name", ["16-bit PNG", "16-bit TIFF", "16-bit PGM", "16-bit JPEG 2000"])
def test_it_can_be_judged_scaled(name, grey):
    scaled = decode(WHITE[name](grey), SCALED)
    assert np.array_equal(scaled, np.dstack([grey] * 3))


def test_fractions_are_scaled_to_the_nearest_value(grey):
    scaled = decode(BLACK["float TIFF, 0 to 1"](grey), SCALED)
    assert np.array_equal(scaled[..., 0], grey)


def test_fewer_bits_than_sixteen_are_scaled_by_their_own_number(grey):
    assert np.array_equal(decode(twelve_bit_tiff(grey), SCALED)[..., 0], grey)
    with pytest.raises(ImageError, match="--sixteen-bit scale"):
        decode(twelve_bit_tiff(np.maximum(grey, 16)))


def test_what_is_in_the_range_of_8_bits_is_left_as_it_is(grey):
    content = encoded(grey.astype(np.float32), "TIFF")
    assert np.array_equal(decode(content)[..., 0], grey)
    assert np.array_equal(decode(content, SCALED)[..., 0], grey)


def test_numbers_without_a_known_scale_are_refused_when_they_should_be_scaled(grey):
    content = encoded(grey.astype(np.float32) * 40 - 1000, "TIFF")
    with pytest.raises(ImageError, match=r"values lie between -\d+ and 9200, and neither 0 to 1"):
        decode(content, SCALED)


def test_an_image_that_is_partly_clipped_is_judged_as_pillow_sees_it(grey):
    """The training saw it so."""
    content = encoded(grey.astype(np.uint16) * 2, "PNG")
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode(content), expected)
    assert expected.max() == 255


@pytest.mark.parametrize("value", [0, 255, 65535])
def test_an_image_of_one_value_is_flat_by_itself(value):
    content = encoded(np.full((48, 64), value, np.uint16), "PNG")
    assert set(decode(content).ravel()) == {min(value, 255)}


@pytest.mark.parametrize(("share", "refused"), [(0.9985, False), (0.9995, True)])
def test_a_thousandth_of_the_pixels_is_still_a_picture(share, refused):
    values = np.arange(40_000, dtype=np.uint16).reshape(200, 200) + 300
    values.ravel()[int(values.size * share) :] = 7
    content = encoded(values, "PNG")
    if refused:
        with pytest.raises(ImageError, match=r"99\.95% of its values become 255"):
            decode(content)
    else:
        assert decode(content).min() == 7


def test_a_big_endian_tiff_is_treated_alike(grey):
    page = written(Page(sixteen(grey)))
    assert np.array_equal(decode(page, SCALED)[..., 0], grey)
    big = Image.frombytes("I;16B", (160, 120), sixteen(grey).astype(">u2").tobytes())
    buffer = io.BytesIO()
    big.save(buffer, "TIFF")
    assert np.array_equal(decode(buffer.getvalue(), SCALED)[..., 0], grey)


def test_colour_of_16_bits_keeps_its_high_byte_either_way(photograph):
    picture = np.asarray(photograph.resize((64, 48)))
    content = written(Page(picture.astype(np.uint16) * 257))
    assert np.array_equal(decode(content), picture)
    assert np.array_equal(decode(content, SCALED), picture)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("options", [DecodeOptions(), SCALED])
def test_a_value_that_is_no_number_is_an_error(value, options, grey):
    values = grey.astype(np.float32)
    values[0, 0] = value
    with pytest.raises(ImageError, match="infinite or no numbers"):
        decode(encoded(values, "TIFF"), options)


def test_scaling_that_leaves_nothing_is_an_error_too(grey):
    content = encoded(grey.astype(np.uint16), "PNG")
    assert decode(content).any()
    with pytest.raises(ImageError, match=r"scaled to 8 bits, .* become 0 or 1; convert it"):
        decode(content, SCALED)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colour_of_16_bits_that_uses_only_the_low_byte_is_an_error(kind, photograph):
    dark = np.asarray(photograph.resize((64, 48))).astype(np.uint16)
    content = cv2.imencode(f".{kind.lower()}", dark)[1].tobytes()
    with pytest.raises(ImageError, match="only the high byte of each value is kept"):
        decode(content)

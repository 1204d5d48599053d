"""Squares lie where the detectors' own code puts them, and show what it shows."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from conftest import DATA, golden_picture, slow
from glass_edge.runtime.machine.errors import ImageError
from glass_edge.runtime.views.places import Centre, Cover, Five, Guided, Stratified, Ten, Tiles
from glass_edge.runtime.views.spec import StreamViews
from glass_edge.runtime.views.streams import count_views, write_views
from glass_edge.runtime.views.windows import Window, Windows, cut_windows
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as TF

GOLDEN = json.loads((DATA / "places.json").read_text())
KINDS = {"spai": Tiles(), "hida": Cover(), "bfree": Five(snap=14)}
QUICK = 1_000_000  # pixels


def stream(places, size: int) -> StreamViews:
    return StreamViews(size=size, dtype="uint8", places=places)


def views_of(rgb: np.ndarray, views: StreamViews) -> np.ndarray:
    """All views of an image, written over what was there before."""
    height, width = rgb.shape[:2]
    out = np.full((count_views(height, width, views), views.size, views.size, 3), 77, np.uint8)
    write_views(out, rgb, views)
    return out


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


# --- where the published code puts them -----------------------------------------------------


def cases(part: str) -> list[dict]:
    assert len(GOLDEN[part]["cases"]) == 215
    return GOLDEN[part]["cases"]


def test_tiles_lie_as_in_spai():
    for case in cases("spai"):
        windows = Tiles().windows(case["height"], case["width"], 224)
        above, _, before, _ = case["pad"]
        padded = [[top + above, left + before, 224, 224] for top, left, _ in windows.at]
        assert padded == case["places"], case


def test_squares_that_cover_lie_as_in_hida_net():
    for case in cases("hida"):
        windows = Cover().windows(case["height"], case["width"], 224)
        assert [list(place) for place in windows.placements] == case["places"], case


def test_five_on_a_grid_lie_as_in_b_free():
    for case in cases("bfree"):
        size = case["height"], case["width"], 504
        if case["places"] is None:
            with pytest.raises(ImageError, match="smaller than the grid of 14x14"):
                Five(snap=14).windows(*size)
        else:
            windows = Five(snap=14).windows(*size)
            assert [list(place) for place in windows.placements] == case["places"], case
            assert [windows.height, windows.width] == case["period"], case


def pictures() -> list[tuple[int, int, int, str]]:
    """Size, seed and hash of the golden pictures; large ones are slow."""
    made = [
        (case["height"], case["width"], case["picture_seed"], case["picture_sha256"])
        for case in cases("hida")
        if "picture_seed" in case
    ]
    return [one if one[0] * one[1] <= QUICK else slow(*one) for one in made]


@pytest.mark.parametrize(("height", "width", "seed", "sha256"), pictures())
def test_golden_views(height, width, seed, sha256):
    picture = golden_picture(height, width, seed, sha256)
    for part, places in KINDS.items():
        (case,) = (
            case for case in cases(part) if (case["height"], case["width"]) == (height, width)
        )
        if case["places"] is not None:
            views = views_of(picture, stream(places, GOLDEN[part]["size"]))
            assert len(views) == len(case["places"])
            assert hashlib.sha256(views.tobytes()).hexdigest() == case["views_sha256"], part


# --- as torchvision crops -------------------------------------------------------------------

sides = st.integers(1, 600)
sizes = st.sampled_from([1, 2, 31, 32, 224])


@settings(max_examples=60)
@given(sides, sides, sizes)
def test_centre_as_torchvision_crops(height, width, size):
    rgb = noise(height, width)
    (view,) = views_of(rgb, stream(Centre(), size))
    assert np.array_equal(view, np.asarray(TF.center_crop(Image.fromarray(rgb), [size, size])))


@settings(max_examples=60)
@given(sides, sides, sizes)
def test_centre_rounded_down_as_albumentations_pads_and_crops(height, width, size):
    rgb = noise(height, width)
    (view,) = views_of(rgb, stream(Centre(rounding="floor"), size))
    missing = [max(size - side, 0) for side in (height, width)]
    padded = np.pad(rgb, [(n // 2, n - n // 2) for n in missing] + [(0, 0)])
    top, left = ((side - size) // 2 for side in padded.shape[:2])
    assert np.array_equal(view, padded[top : top + size, left : left + size])


@settings(max_examples=60)
@given(sides, sides, st.sampled_from([1, 2, 31, 32]))
def test_five_and_ten_as_torchvision_crops(height, width, size):
    rgb = noise(height, width)
    for places, crop in ((Five(), TF.five_crop), (Ten(), TF.ten_crop)):
        if min(height, width) < size:
            with pytest.raises(ImageError):
                count_views(height, width, stream(places, size))
        else:
            theirs = [np.asarray(view) for view in crop(Image.fromarray(rgb), [size, size])]
            assert np.array_equal(views_of(rgb, stream(places, size)), theirs)


# --- what sticks out ------------------------------------------------------------------------

MODES = {"zeros": "constant", "reflect": "reflect", "wrap": "wrap"}
few = st.integers(1, 20)


@given(few, few, st.data(), st.booleans(), st.sampled_from(list(MODES)))
def test_any_window_as_numpy_pads(height, width, data, mirrored, pad):
    rgb = noise(height, width)
    top, left = (data.draw(st.integers(-8, side - 1)) for side in (height, width))
    windows = Windows((Window(top, left, mirrored),), 9, height, width, pad)
    view = np.full((9, 9, 3), 77, np.uint8)
    # What lies beyond the part that is shown changes nothing.
    larger = np.pad(rgb, [(0, 2), (0, 3), (0, 0)], constant_values=255)
    cut_windows(view[None], larger, windows)
    padded = np.pad(rgb, [(8, 9), (8, 9), (0, 0)], mode=MODES[pad])
    square = padded[8 + top : 17 + top, 8 + left : 17 + left]
    assert np.array_equal(view, square[:, ::-1] if mirrored else square)


# --- how many, and which --------------------------------------------------------------------


large = st.integers(448, 3000)


@given(large, large, st.sampled_from([Tiles, Cover]), st.integers(1, 60))
def test_of_too_many_squares_some_are_taken_evenly(height, width, kind, most):
    everything = kind().windows(height, width, 224).at
    some = kind(most=most).windows(height, width, 224).at
    count = min(len(everything), most)
    assert [everything.index(window) for window in some] == [
        i * len(everything) // count for i in range(count)
    ]


def test_a_large_image_has_no_more_views_than_allowed():
    for kind in (Tiles, Cover):
        assert count_views(20000, 20000, stream(kind(), 224)) == 1024
        assert count_views(20000, 20000, stream(kind(most=64), 224)) == 64


def test_five_tiles_instead_of_too_few():
    assert count_views(448, 671, stream(Tiles(), 224)) == 4
    assert count_views(447, 895, stream(Tiles(), 224)) == 5
    assert count_views(447, 895, stream(Tiles(at_least=2), 224)) == 3


def test_placements_are_the_parts_of_the_image():
    rgb = noise(100, 700)
    out = np.empty((5, 224, 224, 3), np.uint8)
    places = write_views(out, rgb, stream(Tiles(), 224))
    assert places == ((0, 0, 100, 224), (0, 476, 100, 224), *places[:2], (0, 238, 100, 224))
    for view, (top, left, height, width) in zip(out, places, strict=True):
        part = rgb[top : top + height, left : left + width]
        assert np.array_equal(view[62:162, :width], part)


def test_images_that_a_detector_has_no_views_of():
    with pytest.raises(ImageError, match=r"100x300 pixels is smaller than its 5 views of 224x224"):
        count_views(300, 100, stream(Five(), 224))
    with pytest.raises(ImageError, match=r"223x224 pixels is smaller than its 10 views of 224x224"):
        count_views(224, 223, stream(Ten(), 224))
    with pytest.raises(ImageError, match=r"700x13 pixels is smaller than the grid of 14x14"):
        count_views(13, 700, stream(Five(snap=14), 504))


def test_views_that_need_more_than_pixels():
    drawn, guided = Stratified(count=7, max_grid=8), Guided(by="global")
    for places, count in ((drawn, 7), (guided, 6)):
        assert count_views(50, 50, stream(places, 32)) == count
        with pytest.raises(TypeError, match="more than pixels"):
            write_views(np.empty((count, 32, 32, 3)), noise(50, 50), stream(places, 32))

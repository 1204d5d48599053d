"""Images are resized to the pixels that the detectors' own transforms give, bit for bit."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import PIL
import pytest
import torch
from conftest import DATA, golden_picture, slow
from glass_edge.runtime.machine.errors import ImageError
from glass_edge.runtime.views.places import Centre, Five, Ten
from glass_edge.runtime.views.resample import resample
from glass_edge.runtime.views.resizing import resized, resized_size
from glass_edge.runtime.views.spec import Resize, StreamViews
from glass_edge.runtime.views.streams import count_views, write_views
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

GOLDEN = json.loads((DATA / "resize.json").read_text())
PILLOW = tuple(int(part) for part in PIL.__version__.split(".")[:2])


def short_side(rule: str, side: int, size: int) -> StreamViews:
    return StreamViews(size, "uint8", Resize(rule, "short-side", side), Centre())


def stretched(rule: str, side: int, dtype: str = "uint8") -> StreamViews:
    return StreamViews(side, dtype, Resize(rule, "stretch", side))


KINDS = {
    "short440_bilinear_centre384": short_side("pillow-bilinear", 440, 384),
    "short256_bilinear_centre224": short_side("pillow-bilinear", 256, 224),
    "short224_bilinear_centre224": short_side("pillow-bilinear", 224, 224),
    "short224_bicubic_centre224": short_side("pillow-bicubic", 224, 224),
    "stretch256_bilinear": stretched("pillow-bilinear", 256),
    "centre224": StreamViews(224, "uint8", places=Centre()),
    "five224": StreamViews(224, "uint8", places=Five()),
    "ten224": StreamViews(224, "uint8", places=Ten()),
}


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def views_of(rgb: np.ndarray, views: StreamViews) -> np.ndarray:
    count = count_views(*rgb.shape[:2], views)
    out = np.full((count, views.size, views.size, 3), 77, views.dtype)
    write_views(out, rgb, views)
    return out


def quick(case: dict) -> bool:
    height, width = case["height"], case["width"]
    return height * width <= 3_000_000 and max(height, width) < 100 * min(height, width)


def expected(case: dict, kind: str) -> set[str | None]:
    """What the installed Pillow may give: the hashes of the versions closest to it."""
    older = case.get("older_pillow", {}).get(kind, {})
    newest = case["sha256"][kind]
    if PILLOW >= (13, 0):
        return {newest}
    if PILLOW <= (12, 0):
        return {older.get("12.0.0", newest)}
    return {older.get("12.3.0", newest), older.get("12.0.0", newest)}


@pytest.mark.parametrize("case", [c if quick(c) else slow(c) for c in GOLDEN["cases"]])
def test_golden_views(case):
    height, width = case["height"], case["width"]
    picture = golden_picture(height, width, case["picture_seed"], case["picture_sha256"])
    assert case["sha256"].keys() == KINDS.keys()
    for kind, views in KINDS.items():
        if case["sha256"][kind] is None:
            with pytest.raises(ImageError):
                count_views(height, width, views)
        else:
            digest = hashlib.sha256(views_of(picture, views).tobytes()).hexdigest()
            assert digest in expected(case, kind), kind


def test_golden_cases_are_all_there():
    assert len(GOLDEN["cases"]) == 28
    assert sum(len(case.get("older_pillow", {})) for case in GOLDEN["cases"]) == 18


sides = st.integers(1, 600)
rules = st.sampled_from(["pillow-bilinear", "pillow-bicubic"])
MODES = {
    "pillow-bilinear": InterpolationMode.BILINEAR,
    "pillow-bicubic": InterpolationMode.BICUBIC,
}


@settings(max_examples=80)
@given(sides, sides, rules, st.integers(1, 64))
def test_any_size_as_torchvision_resizes(height, width, rule, side):
    rgb = noise(height, width)
    image = Image.fromarray(rgb)
    short = TF.resize(image, [side], MODES[rule])
    assert np.array_equal(resized(rgb, Resize(rule, "short-side", side)), np.asarray(short))
    square = TF.resize(image, [side, side], MODES[rule])
    assert np.array_equal(resized(rgb, Resize(rule, "stretch", side)), np.asarray(square))


@given(st.integers(1, 20000), st.integers(1, 20000), st.integers(1, 896))
def test_the_longer_side_is_as_long_as_torchvision_makes_it(height, width, side):
    theirs = TF.resize(torch.empty(3, height, width, device="meta"), [side]).shape[1:]
    if theirs.numel() <= 200_000_000:
        assert resized_size(height, width, Resize("pillow-bilinear", "short-side", side)) == theirs


def test_an_image_of_the_right_size_is_left_alone():
    rgb = noise(224, 300)
    assert resized(rgb, Resize("pillow-bicubic", "short-side", 224)) is rgb
    assert resized(rgb[:, :224], Resize("pillow-bicubic", "stretch", 224)).base is rgb


def test_a_part_of_an_image_is_resized_like_a_copy():
    part = noise(300, 400)[10:200, 20:300]
    resize = Resize("pillow-bilinear", "stretch", 64)
    assert np.array_equal(resized(part, resize), resized(part.copy(), resize))


@pytest.mark.parametrize(("height", "width"), [(1, 20000), (20000, 1)])
def test_a_line_of_pixels_must_not_exhaust_memory(height, width):
    views = short_side("pillow-bilinear", 224, 224)
    sentence = rf"{width}x{height} pixels, resized until its shorter side has 224, would have more"
    with pytest.raises(ImageError, match=sentence):
        count_views(height, width, views)
    with pytest.raises(ImageError, match=sentence):
        write_views(np.empty((1, 224, 224, 3), np.uint8), noise(height, width), views)
    assert count_views(height, width, stretched("pillow-bilinear", 224)) == 1


def test_places_lie_in_the_resized_image():
    rgb = noise(100, 150)
    views = StreamViews(32, "uint8", Resize("pillow-bicubic", "short-side", 64), Five())
    out = np.empty((5, 32, 32, 3), np.uint8)
    assert write_views(out, rgb, views) == (), "they are no places of the image"
    image = TF.resize(Image.fromarray(rgb), [64], InterpolationMode.BICUBIC)
    assert np.array_equal(out, [np.asarray(view) for view in TF.five_crop(image, [32, 32])])


def test_the_float_rule_is_that_of_the_global_view():
    rgb = noise(300, 200)
    (view,) = views_of(rgb, stretched("torch-float-antialias", 64, "float32"))
    assert np.array_equal(view, resample(rgb, 64))

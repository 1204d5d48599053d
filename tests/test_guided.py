"""Six views lie where a map peaks, as Fusing and GLFF place them, stretched as torch does it."""

from __future__ import annotations

import json

import numpy as np
import torch
from conftest import DATA
from glass_edge.runtime.views.guided import aligned_stretch, guided_views, guided_windows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

CASES = json.loads((DATA / "guided.json").read_text())["cases"]
SIDES = [224] * 3 + [112] * 3


def score_maps(seed: int, signed: bool) -> list[np.ndarray]:
    """The sums of averages over a golden case's map."""
    cells = np.random.default_rng(seed).standard_normal((8, 7, 7)).astype(np.float32)
    features = torch.from_numpy(cells if signed else np.maximum(cells, 0))
    return [F.avg_pool2d(features, k, 1).sum(0).numpy() for k in (3, 2)]


def test_all_golden_cases():
    assert len(CASES) == 260
    for case in CASES:
        scores = score_maps(case["map_seed"], case["signed"])
        places = guided_windows(case["height"], case["width"], scores)
        boxes = [[p.top, p.left, s, p.height, p.width] for p, s in zip(places, SIDES, strict=True)]
        assert boxes == case["boxes"], case


def test_score_maps_are_left_as_they_are():
    scores = score_maps(1, True)
    guided_windows(500, 500, scores)
    for score, before in zip(scores, score_maps(1, True), strict=True):
        assert np.array_equal(score, before)


def test_the_first_of_equal_scores_wins():
    """A peak takes all neighbours of equal scores with it, and then zeros tie."""
    flat = [np.ones((n, n), np.float32) for n in (5, 6)]
    places = guided_windows(1400, 1400, flat)
    # The centre of cell 0 is at 3 of 14 parts of the side, or at 2 of 14.
    assert [(p.top, p.left) for p in places] == [(188, 188)] * 3 + [(144, 144)] * 3


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def interpolated(rgb: np.ndarray, size: int) -> np.ndarray:
    pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()
    view = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=True)
    return view[0].permute(1, 2, 0).numpy()


@settings(max_examples=60)
@given(st.integers(1, 224), st.integers(1, 224), st.sampled_from([1, 2, 31, 224]))
def test_any_size_as_torch_interpolates(height, width, size):
    rgb = noise(height, width)
    view = aligned_stretch(rgb, size)
    assert view.dtype == np.float32
    assert view.shape == (size, size, 3)
    assert np.abs(view - interpolated(rgb, size)).max() <= 1e-3  # grey levels


def test_corners_stay_where_they_are():
    rgb = noise(112, 112)
    view = aligned_stretch(rgb, 224)
    assert np.abs(view[::223, ::223] - rgb[::111, ::111]).max() <= 1e-3


def test_views_are_the_squares_stretched():
    rgb = noise(150, 700)
    places = guided_windows(150, 700, score_maps(3, False))
    views = np.empty((6, 224, 224, 3), np.float32)
    guided_views(views, rgb, places)
    for view, (top, left, height, width) in zip(views, places, strict=True):
        part = rgb[top : top + height, left : left + width]
        assert np.abs(view - interpolated(part, 224)).max() <= 1e-3


def test_squares_of_the_right_size_are_only_converted():
    rgb = noise(500, 600)
    places = guided_windows(500, 600, score_maps(4, False))
    views = np.empty((6, 224, 224, 3), np.float32)
    guided_views(views, rgb, places)
    for view, (top, left, _, _) in zip(views[:3], places[:3], strict=True):
        assert np.array_equal(view, rgb[top : top + 224, left : left + 224])

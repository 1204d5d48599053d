"""Crops that are needed later are those of the image, though its pixels are gone."""

from __future__ import annotations

import numpy as np
import pytest
from glass_edge.export.paper import glass_views
from glass_edge.runtime.views.batch import Sampling, ViewBatch
from glass_edge.runtime.views.later import LaterCrops

SPEC = glass_views(224, 4)
SMALL, LARGE, NARROW = (300, 400), (1500, 2000), (100, 3000)


def pixels(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("size", [SMALL, LARGE, NARROW])
@pytest.mark.parametrize("portions", [(7,), (1, 2, 4), (3, 3, 1)])
def test_they_are_those_that_are_cut_at_once(size, portions):
    at_once = ViewBatch(1, SPEC, 8)
    at_once.fill(0, pixels(size), Sampling(SPEC, most_crops=8))
    rgb, batch = pixels(size), ViewBatch(1, SPEC, 1)
    info = batch.fill(0, rgb, Sampling(SPEC, most_crops=8, at_once=1))
    rgb[:] = 0  # decoders use their buffers again
    later = [info.later.take(count) for count in portions]
    assert np.array_equal(
        np.concatenate([batch.views["local"][0], *later]), at_once.views["local"][0]
    )
    assert len(info.later) == 0


@pytest.mark.parametrize(("size", "kept"), [(SMALL, "pixels"), (LARGE, "crops")])
def test_the_smaller_is_kept(size, kept):
    rgb = pixels(size)
    places = Sampling(SPEC, most_crops=16).draw(rgb)[0].placements
    later = LaterCrops(rgb, places, 224)
    held = {"pixels": 0 if later._rgb is None else later._rgb.nbytes, "crops": later._crops.nbytes}
    assert held[kept] == min(rgb.nbytes, 16 * 224 * 224 * 3)
    assert sum(held.values()) == held[kept]


def test_an_image_with_one_place_has_none():
    info = ViewBatch(1, SPEC, 1).fill(
        0, pixels((224, 224)), Sampling(SPEC, most_crops=8, at_once=1)
    )
    assert info.later is None

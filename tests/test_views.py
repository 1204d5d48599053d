"""Views hold the pixels that the specification says, for any image."""

from __future__ import annotations

import numpy as np
import reference
import torch
from glass_edge.export.paper import glass_views
from glass_edge.runtime.views.batch import Sampling, ViewBatch
from hypothesis import given, settings
from hypothesis import strategies as st

sides = st.one_of(st.integers(1, 700), st.sampled_from([223, 224, 225, 448]))


@settings(max_examples=60)
@given(sides, sides, st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_crops_are_the_specifications_crops(height, width, count, seed):
    draw = np.random.default_rng(seed)
    rgb = draw.integers(0, 256, (height, width, 3), np.uint8)
    spec = glass_views(224, count)
    batch = ViewBatch(1, spec)
    batch.views["local"][:] = 99  # what an earlier image left behind
    batch.fill(0, rgb, Sampling(spec, seed, fixed=True))
    _, expected = reference.views(rgb, count, seed)
    pixels = (
        torch.from_numpy(batch.views["local"][0]).permute(0, 3, 1, 2).to(torch.float32).div(255)
    )
    assert torch.equal((pixels - reference.MEAN) / reference.STD, expected)


def test_crops_are_copied_once_and_the_image_is_left_alone():
    rgb = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    rgb.flags.writeable = False
    spec = glass_views(224, 4)
    batch = ViewBatch(1, spec)
    room = batch.views["local"]
    info = batch.fill(0, rgb, Sampling(spec, 7, fixed=True))
    assert batch.views["local"] is room
    assert not np.shares_memory(batch.views["local"], rgb)
    assert (info.width, info.height, [draw.seed for draw in info.draws]) == (800, 600, [7])

"""Crops lie where the reference puts them, bit for bit, without torch."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import reference
import torch
from conftest import DATA
from glass_edge.runtime.views.placement import (
    ReferenceGenerator,
    array_content,
    image_seed,
    place_crops,
)
from hypothesis import given
from hypothesis import strategies as st

GOLDEN = json.loads((DATA / "sampler.json").read_text())
CASES = GOLDEN["cases"]


def place(height: int, width: int, count: int, generator: ReferenceGenerator):
    return place_crops(
        height,
        width,
        num_crops=count,
        crop_size=GOLDEN["crop_size"],
        max_grid=GOLDEN["max_grid"],
        generator=generator,
    )


def test_all_golden_cases():
    assert len(CASES) == 320
    for case in CASES:
        generator = ReferenceGenerator(case["seed"])
        places = place(case["height"], case["width"], case["num_crops"], generator)
        assert [[p.top, p.left] for p in places] == case["top_left"], case
        assert [[p.height, p.width] for p in places] == case["valid_hw"], case
        assert generator.below(65536) == case["next_u32"], case


sides = st.one_of(st.integers(1, 3000), st.sampled_from([223, 224, 225, 448, 1792, 20000]))


@given(sides, sides, st.integers(1, 70), st.integers(0, 2**63 - 1))
def test_any_size_and_seed_as_torch_draws(height, width, count, seed):
    ours, theirs = ReferenceGenerator(seed), torch.Generator().manual_seed(seed)
    places = place(height, width, count, ours)
    assert [[p.top, p.left] for p in places] == reference.corners(height, width, count, theirs)
    following = int(torch.randint(0, 65536, (1,), generator=theirs))
    assert ours.below(65536) == following, "as many numbers drawn"


@given(sides, sides, st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_crops_hold_only_image_pixels(height, width, count, seed):
    for p in place(height, width, count, ReferenceGenerator(seed)):
        assert 0 <= p.top <= p.top + p.height <= height
        assert 0 <= p.left <= p.left + p.width <= width
        assert (p.height, p.width) == (min(height, 224), min(width, 224))


def test_crops_of_a_large_image_lie_in_cells_of_their_own():
    places = place(4000, 6000, 64, ReferenceGenerator(1))
    assert len({(p.top // 500, p.left // 750) for p in places}) == 64


def test_the_seed_rule_is_stable():
    def rule(*parts: bytes) -> int:
        return int.from_bytes(hashlib.sha256(b"".join(parts)).digest()[:4], "little")

    seven, end = (7).to_bytes(8, "little"), 65536
    short, long = b"an image file", bytes(range(256)) * 1000
    length = [len(content).to_bytes(8, "little") for content in (short, long)]
    assert image_seed(7, short) == rule(seven, length[0], short) == 2495742888
    assert image_seed(7, long) == rule(seven, length[1], long[:end], long[-end:]) == 824520784
    whole = long[: 2 * end]
    assert image_seed(7, whole) == rule(seven, (2 * end).to_bytes(8, "little"), whole)


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**63 - 1])
def test_every_64_bit_run_seed_serves(seed):
    assert 0 <= image_seed(seed, b"x") < 2**32


def test_other_seed_or_content_gives_other_crops():
    seeds = {image_seed(run, content) for run in (0, 1) for content in (b"a", b"b")}
    assert len(seeds) == 4


def test_an_arrays_content_is_its_pixels_row_by_row():
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert bytes(array_content(rgb)) == rgb.tobytes()

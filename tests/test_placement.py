"""Crops lie where the reference puts them, bit for bit, without torch."""

from __future__ import annotations

import hashlib
import hmac
import json

import numpy as np
import pytest
import reference
import torch
from conftest import DATA
from glass_edge.runtime.views.placement import (
    ReferenceGenerator,
    crop_sequence,
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


def sequence(height: int, width: int, most: int, seed: int):
    return crop_sequence(
        height,
        width,
        most=most,
        crop_size=GOLDEN["crop_size"],
        max_grid=GOLDEN["max_grid"],
        generator=ReferenceGenerator(seed),
    )


def cells(height: int, width: int) -> int:
    return min(min(height, width) // 224, 8) ** 2


@given(sides, sides, st.integers(1, 64), st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_a_shorter_sequence_is_the_beginning_of_a_longer_one(height, width, some, more, seed):
    few, many = sorted((some, more))
    assert sequence(height, width, few, seed) == sequence(height, width, many, seed)[:few]


@given(sides, sides, st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_a_sequence_begins_with_the_crops_of_a_fixed_number(height, width, count, seed):
    if 0 < cells(height, width) < count:
        return  # the reference samples freely then, without the grid
    fixed = place(height, width, count, ReferenceGenerator(seed))
    if len(set(fixed)) == count:
        assert sequence(height, width, 64, seed)[:count] == fixed


@given(sides, sides, st.integers(0, 2**32 - 1))
def test_no_place_comes_twice_in_a_sequence(height, width, seed):
    found = sequence(height, width, 64, seed)
    assert len(set(found)) == len(found)


def test_each_round_of_a_sequence_has_a_crop_in_every_cell():
    found = sequence(3 * 250, 3 * 300, 27, 1)
    for start in (0, 9, 18):
        assert len({(p.top // 250, p.left // 300) for p in found[start : start + 9]}) == 9


@pytest.mark.parametrize(
    ("height", "width", "places"),
    [(224, 224, 1), (100, 100, 1), (100, 230, 7), (225, 225, 4), (448, 448, 4), (450, 449, 8)],
)
def test_a_sequence_ends_when_every_place_was_seen(height, width, places):
    for seed in range(5):
        assert len(sequence(height, width, 64, seed)) == places


def rule(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest()[:4], "little")


def eight_bytes(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)


def gradient(height: int, width: int) -> np.ndarray:
    return (np.arange(height * width * 3) % 251).astype(np.uint8).reshape(height, width, 3)


def test_the_seed_rule_is_stable():
    tall, flat = gradient(320, 5), gradient(3, 7)
    rows = b"".join(tall[row].tobytes() for row in range(10, 320, 20))
    assert image_seed(7, tall) == rule(eight_bytes(7, 320, 5), rows) == 1114824450
    rows = b"".join(flat[row].tobytes() for row in [0] * 5 + [1] * 6 + [2] * 5)
    assert image_seed(-7, flat) == rule(eight_bytes(-7, 3, 7), rows) == 3381956611


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**63 - 1])
def test_every_64_bit_run_seed_serves(seed):
    assert 0 <= image_seed(seed, gradient(1, 1)) < 2**32


def test_another_run_picture_or_size_gives_other_crops():
    pictures = (gradient(20, 30), gradient(30, 20), 255 - gradient(20, 30))
    seeds = {image_seed(run, picture) for run in (0, 1) for picture in pictures}
    assert len(seeds) == 6


def test_rows_of_a_larger_array_count_as_their_own():
    rgb = gradient(40, 30)
    assert image_seed(0, rgb[:, 5:20]) == image_seed(0, rgb[:, 5:20].copy())


def test_a_secret_key_gives_seeds_that_only_its_holder_can_tell():
    rgb = gradient(16, 4)
    message = eight_bytes(0, 16, 4) + rgb.tobytes()
    keyed = hmac.digest(b"a secret", message, "sha256")
    assert image_seed(0, rgb, b"a secret") == int.from_bytes(keyed[:4], "little")
    assert len({image_seed(0, rgb, key) for key in (b"", b"a secret", b"another")}) == 3

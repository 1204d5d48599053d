"""The noise of a detector's own draws, and what an approximation adds to it."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from glass_edge.calibration.errors import AccuracyError
from glass_edge.calibration.judging.comparison import compare_bundles, fake_scores
from glass_edge.calibration.judging.gate import check_comparison, loss_note
from glass_edge.calibration.judging.yardstick import (
    ERROR_GOOD,
    LEAST,
    SHIFT_GOOD,
    DrawNoise,
    deviation,
    draw_noise,
)
from glass_edge.runtime.bundle.comparison import Comparison, Yardstick
from glass_edge.runtime.engines.base import class_margins
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from glass_edge import Bundle, Detector, DetectorOptions

approx = partial(pytest.approx, rel=1e-2, abs=1e-3)

IMAGES, DRAWS = 4000, 8
SPREAD, NOISE = 3.0, 0.4

some_margins = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.floats(-30, 30).map(lambda value: round(value, 2)),
)


def simulated(seed: int = 0) -> np.ndarray:
    """Margins of images whose means spread, and whose draws have a known noise."""
    rng = np.random.default_rng(seed)
    means = rng.normal(0.0, SPREAD, (IMAGES, 1))
    return means + rng.normal(0.0, NOISE, (IMAGES, DRAWS))


def many(rng: np.random.Generator) -> np.ndarray:
    """More of them, whose means are spread evenly around the threshold."""
    means = rng.uniform(-2.0, 2.0, (200_000, 1))
    return means + rng.normal(0.0, NOISE, (200_000, 4))


def pairs_that_differ(found: np.ndarray) -> float:
    """The definition: of all pairs of draws of an image, those with two verdicts."""
    verdicts = found >= 0
    count = found.shape[1]
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    return float(np.mean([np.mean(verdicts[:, i] != verdicts[:, j]) for i, j in pairs]))


class TestDrawNoise:
    def test_it_is_the_noise_that_the_draws_were_made_with(self):
        found = draw_noise(simulated())
        assert found.unit == "draws"
        assert found.size == pytest.approx(NOISE, rel=0.02)

    def test_it_is_no_larger_for_images_that_differ_more(self):
        offsets = np.linspace(-50, 50, IMAGES)[:, np.newaxis]
        one, other = draw_noise(simulated()), draw_noise(simulated() + offsets)
        assert one.size == pytest.approx(other.size)

    def test_few_draws_do_not_make_it_look_smaller(self):
        found = draw_noise(simulated()[:, :2])
        assert found.size == pytest.approx(NOISE, rel=0.03)

    def test_images_that_have_one_placement_only_have_no_variance(self):
        found = simulated()
        found[: IMAGES // 2] = found[: IMAGES // 2, :1]
        assert draw_noise(found).size == pytest.approx(NOISE / math.sqrt(2), rel=0.03)

    @given(some_margins.filter(lambda found: found.shape[1] > 1))
    def test_its_flips_are_the_pairs_of_draws_with_two_verdicts(self, found):
        assert draw_noise(found).flips == pytest.approx(pairs_that_differ(found))

    def test_noise_in_one_image_of_many_counts_by_its_square(self):
        assert draw_noise(np.array([[1.0, 3.0], [5.0, 5.0]])).size == pytest.approx(1.0)

    @pytest.mark.parametrize("draws", [1, 3])
    def test_the_spread_over_images_takes_its_place_without_draws(self, draws):
        means = np.array([[-2.0], [0.5], [3.0]])
        found = draw_noise(np.repeat(means, draws, axis=1))
        assert found == DrawNoise(pytest.approx(np.std(means, ddof=1)), "images", 0.0)

    def test_sums_in_another_order_are_no_noise(self):
        """An engine's batches differ between draws, and so do the last digits of equal views."""
        rng = np.random.default_rng(0)
        means = np.array([[-20.0], [5.0], [9.0]])
        found = draw_noise(means * (1 + rng.normal(0, 1e-6, (3, 8))))
        assert found.unit == "images"
        assert found.size == pytest.approx(np.std(means, ddof=1), rel=1e-3)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 5)])
    def test_there_may_be_none_at_all(self, shape):
        assert draw_noise(np.full(shape, 1.5)) == DrawNoise(0.0, "images", 0.0)


class TestDeviation:
    @given(some_margins, st.floats(0.1, 10), st.randoms(use_true_random=False))
    def test_it_is_its_definition(self, reference, size, random):
        changes = np.array([random.uniform(-3, 3) for _ in reference.flat]).reshape(reference.shape)
        candidate = reference + changes
        found = deviation(reference, candidate, DrawNoise(size, "draws", 0.0))
        pairs = list(zip(reference.flat, candidate.flat, strict=True))
        squares, sums = sum((b - a) ** 2 for a, b in pairs), sum(b - a for a, b in pairs)
        assert found.error == pytest.approx(math.sqrt(squares / len(pairs)) / size)
        assert found.shift == pytest.approx(sums / len(pairs) / size, abs=1e-9)
        assert found.flips == sum((a < 0) != (b < 0) for a, b in pairs)
        assert found.judgements == len(pairs)
        assert abs(found.shift) <= found.error + 1e-9

    @pytest.mark.parametrize(
        ("error", "shift", "good"),
        [(0.2, 0.05, True), (0.3, 0.0, False), (0.2, 0.15, False), (0.2, -0.15, False)],
    )
    def test_good_is_small_beside_the_draws_in_size_and_in_mean(self, error, shift, good):
        reference, rng = simulated(), np.random.default_rng(1)
        scatter = math.sqrt(error**2 - shift**2)
        changes = NOISE * (shift + rng.normal(0, scatter, reference.shape))
        found = deviation(reference, reference + changes, draw_noise(reference))
        assert found.error == pytest.approx(error, rel=0.05)
        assert found.shift == pytest.approx(shift, abs=0.02)
        assert found.good == good

    @pytest.mark.parametrize("candidate", [[[np.nan, 1.0]], [[np.inf, 1.0]]])
    def test_what_overflows_is_not_good(self, candidate):
        reference = np.array([[0.5, 1.0]])
        assert not deviation(reference, np.array(candidate), draw_noise(reference)).good

    @pytest.mark.parametrize("change", [0.0, 0.1])
    def test_without_any_noise_nothing_is_good(self, change):
        reference = np.ones((3, 2))
        assert not deviation(reference, reference + change, draw_noise(reference)).good


class TestWhatItMeans:
    """What docs/precision.md derives, by simulation."""

    @pytest.mark.parametrize("error", [0.1, ERROR_GOOD, 0.5, 1.0])
    def test_the_noise_of_a_verdict_grows_by_the_root_of_one_and_the_errors_square(self, error):
        reference, rng = simulated(), np.random.default_rng(2)
        candidate = reference + rng.normal(0, error * NOISE, reference.shape)
        grown = draw_noise(candidate).size / draw_noise(reference).size - 1
        found = Yardstick(NOISE, "draws", 0.1, error, 0.0)
        assert grown == pytest.approx(found.added, abs=0.02)
        assert found.added == pytest.approx(math.sqrt(1 + error**2) - 1)

    @pytest.mark.parametrize("error", [0.1, ERROR_GOOD, 0.5])
    @pytest.mark.parametrize("seed", range(3))
    def test_flips_are_those_between_two_draws_times_the_error_over_root_two(self, error, seed):
        rng = np.random.default_rng(seed)
        reference = many(rng)
        candidate = reference + rng.normal(0, error * NOISE, reference.shape)
        noise = draw_noise(reference)
        found = deviation(reference, candidate, noise)
        share = found.flips / found.judgements
        assert share / noise.flips == pytest.approx(error / math.sqrt(2), rel=0.05)

    @pytest.mark.parametrize("shift", [SHIFT_GOOD, 0.3])
    def test_a_shift_flips_more_than_an_error_of_its_size(self, shift):
        rng = np.random.default_rng(0)
        reference = many(rng)
        noise = draw_noise(reference)
        found = deviation(reference, reference + shift * NOISE, noise)
        share = found.flips / found.judgements
        assert share / noise.flips == pytest.approx(shift * math.sqrt(math.pi) / 2, rel=0.05)


def compared(error: float, shift: float = 0.0, unit: str = "draws", **more) -> Comparison:
    figures = {"precision": "int8", "flips": 3, "judgements": 208} | more
    return Comparison(
        engine="openvino 2026.1 cpu",
        images=13,
        mean_change=0.02,
        largest_change=0.1,
        speed=2.5,
        yardstick=Yardstick(0.4, unit, 0.043, error, shift),
        **figures,
    )


class TestGate:
    @pytest.mark.parametrize("error", [0.0, 0.2, 0.26, 0.5])
    def test_up_to_half_of_the_noise_is_let_through(self, error):
        check_comparison(compared(error, flips=200))

    @pytest.mark.parametrize("error", [0.51, 30.0, math.nan])
    def test_more_is_refused_with_every_figure(self, error):
        with pytest.raises(AccuracyError) as refused:
            check_comparison(compared(error, -0.08))
        said = str(refused.value)
        assert f"the margin's error is {error:.2f} of the draws' noise (0.5 allowed)" in said
        assert "its shift -0.08; 3 of 208 flip (1.4%)" in said
        assert "4.3% differ between two draws of an image" in said
        assert said.endswith("Nothing was written; --accept-loss writes the bundle anyway.")

    def test_where_nothing_varies_nothing_can_be_judged(self):
        comparison = compared(0.0)
        assert loss_note(msgspec.structs.replace(comparison, yardstick=None)) is None
        with pytest.raises(AccuracyError, match="give more images, and larger ones"):
            check_comparison(msgspec.structs.replace(comparison, yardstick=None))

    @pytest.mark.parametrize(
        ("figures", "note"),
        [
            (
                {"error": 0.34},
                "INT8's error is 0.34 of the draws' noise, above the 0.25 that cannot matter: keep "
                "more layers with --int8-keep or give more images",
            ),
            (
                {"error": 0.2, "shift": -0.15, "precision": "bf16"},
                "BF16's shift is 0.15 of the draws' noise, above the 0.1 that cannot matter: give "
                "more images",
            ),
            (
                {"error": 0.3, "unit": "images", "precision": "fp16"},
                "FP16's error is 0.30 of the margin's spread over images, above the 0.25 that "
                "cannot matter: give more images",
            ),
            ({"error": 0.25, "shift": 0.1}, None),
        ],
    )
    def test_what_may_matter_is_noted(self, figures, note):
        assert loss_note(compared(**figures)) == note


@pytest.fixture(scope="module")
def images(calibration_images) -> list[Path]:
    return sorted(calibration_images.iterdir())[:3]


@pytest.fixture(scope="module")
def bundles(make_precision) -> list[Bundle]:
    return [make_precision("vit", precision) for precision in ("fp32", "int8")]


@pytest.fixture(scope="module")
def found(bundles, images) -> Comparison:
    return compare_bundles(*bundles, images, judgements=20)


class TestComparison:
    def test_each_image_has_a_draw_more_than_it_takes_to_reach_the_judgements(self, found):
        """The noise is told by a draw's distance from its image's mean: one less for each image."""
        assert (found.images, found.judgements) == (3, 24)

    def test_the_figures_are_those_of_runs_with_these_seeds(self, found, bundles, images):
        logits = [logits_of_runs(bundle, images, range(8)) for bundle in bundles]
        manifest = bundles[0].manifest
        reference, candidate = (class_margins(each, manifest) for each in logits)
        noise = draw_noise(reference)
        expected = deviation(reference, candidate, noise)
        changes = np.abs(np.subtract(*(fake_scores(each, manifest) for each in logits)))
        assert (found.flips, found.yardstick.flips) == (expected.flips, noise.flips)
        assert (found.yardstick.unit, found.yardstick.noise) == ("draws", approx(noise.size))
        assert found.yardstick.error == approx(expected.error)
        assert found.yardstick.shift == approx(expected.shift)
        assert found.mean_change == approx(changes.mean())
        assert found.largest_change == approx(changes.max())

    def test_a_bundle_has_no_error_against_itself(self, bundles, images):
        found = compare_bundles(bundles[0], bundles[0], images[:1], judgements=20)
        assert (found.images, found.judgements, found.flips) == (1, 21, 0)
        assert found.yardstick.error == found.yardstick.shift == found.mean_change == 0
        check_comparison(found)

    def test_an_image_that_cannot_be_read_is_left_out(self, bundles, images):
        shown = [b"none", images[0], b"none"]
        found = compare_bundles(bundles[0], bundles[0], shown, judgements=6)
        assert (found.images, found.judgements) == (1, 3)

    def test_one_view_of_one_image_is_nothing_to_judge_by(self, bundles):
        pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
        found = compare_bundles(*bundles, [pixels], judgements=1)
        assert found.yardstick is None
        with pytest.raises(AccuracyError, match="cannot be judged"):
            check_comparison(found)


def logits_of_runs(bundle: Bundle, images: list[Path], seeds: range) -> np.ndarray:
    """Judge images as users do, once with each seed: logits ``(images, seeds, 2)``."""
    detectors = (Detector(bundle, DetectorOptions(seed=seed)) for seed in seeds)
    runs = [[list(v.logits.values()) for v in each.detect(images)] for each in detectors]
    return np.array(runs, np.float32).swapaxes(0, 1)


def test_a_noise_too_small_to_matter_is_counted_as_the_least_that_does():
    """As of a network with random weights, whose margins hardly vary."""
    margins = np.random.default_rng(0).normal(0.0, 0.001, (10, 8))
    noise = draw_noise(margins)
    assert (noise.size, noise.unit) == (LEAST, "least")
    moved = deviation(margins, margins + 0.25 * LEAST, noise)
    assert moved.error == pytest.approx(0.25)
    probability = 1 / (1 + np.exp(-0.25 * LEAST))
    assert probability - 0.5 <= 0.0025

"""Weights rounded together: outputs keep their values better than if each is rounded alone."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import Int8Parts, slow_but
from glass_edge.calibration.int8.fitting import FittedWeight, fit
from glass_edge.calibration.int8.grid import SIGNED_STEPS, UNSIGNED_STEPS, Grid
from glass_edge.calibration.int8.layers import ATTENTION, RESIDUAL_ADD
from glass_edge.calibration.int8.products import Product, Unfolding
from glass_edge.calibration.int8.rounding import (
    MOST_ROWS,
    Moments,
    output_error,
    round_to_nearest,
    round_together,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import BACKBONES
from onnx import numpy_helper
from torch.nn import functional

EVERYTHING = 10**9
GRID = Grid(6.0, unsigned=False)


def correlated(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Inputs that go together, as neighbouring pixels do."""
    random = np.random.default_rng(seed)
    own, common = random.normal(size=shape), random.normal(size=(*shape[:-1], 1))
    return (own + 2 * common + 1).astype(np.float32)


def moments_of(rows: np.ndarray, grid: Grid = GRID) -> Moments:
    moments = Moments(rows.shape[0], rows.shape[2], grid)
    for part in np.array_split(rows, 3, axis=1):
        moments.add(part)
    return moments


def read(rows: np.ndarray, grid: Grid = GRID) -> np.ndarray:
    """What PyTorch makes of rows in INT8 with zero-point 0."""
    lowest, highest = (0, UNSIGNED_STEPS) if grid.unsigned else (-SIGNED_STEPS, SIGNED_STEPS)
    scale = grid.limit / highest
    return torch.fake_quantize_per_tensor_affine(
        torch.from_numpy(rows), scale, 0, lowest, highest
    ).numpy()


class TestMoments:
    def test_may_be_read_by_several_threads_at_once(self):
        """Products that read the same input share its moments, and are rounded side by side."""
        rows = correlated((1, 2000, 300), 1)
        expected = moments_of(rows).covariance()
        moments, together = moments_of(rows), threading.Barrier(4)

        def covariance(_: int) -> np.ndarray:
            together.wait()
            return moments.covariance()

        with ThreadPoolExecutor(4) as pool:
            assert all(np.array_equal(each, expected) for each in pool.map(covariance, range(4)))

    @pytest.mark.parametrize("unsigned", [False, True])
    def test_are_numpys_of_the_rounded_rows(self, unsigned):
        """Negative values of an unsigned grid are clipped at 0."""
        rows, grid = correlated((2, 60, 5), 1), Grid(6.0, unsigned)
        moments = moments_of(rows, grid)
        for group in range(2):
            seen = read(rows, grid)[group]
            assert moments.mean()[group] == pytest.approx(seen.mean(0), abs=1e-5)
            assert moments.lost()[group] == pytest.approx((rows[group] - seen).mean(0), abs=1e-5)
            expected = np.cov(seen, rowvar=False, bias=True)
            assert moments.covariance()[group] == pytest.approx(expected, abs=1e-3)
            assert moments.second()[group] == pytest.approx(seen.T @ seen / 60, abs=1e-3)

    def test_inputs_that_are_always_zero_have_none(self):
        moments = moments_of(np.zeros((1, 8, 3), np.float32), Grid(0.0, unsigned=False))
        assert not moments.second().any()

    @pytest.mark.parametrize("seed", slow_but([0], range(4)))
    @pytest.mark.parametrize("varying", [0, 4, 8])
    def test_many_equal_rows_leave_a_covariance(self, varying, seed):
        """As of flat or padded crops: of 16,400 rows less than a two-thousandth varies."""
        random = np.random.default_rng(seed)
        rows = np.tile(random.normal(size=300).astype(np.float32), (1, 16_400, 1))
        rows[:, random.choice(16_400, varying, replace=False)] = random.normal(size=(varying, 300))
        grid = Grid(2.6, unsigned=False)
        moments = Moments(1, 300, grid)
        for part in np.array_split(rows, 40, axis=1):
            moments.add(part)
        covariance = moments.covariance()
        seen = read(rows, grid)[0].astype(np.float64)
        assert covariance[0] == pytest.approx(np.cov(seen, rowvar=False, bias=True), abs=1e-9)
        assert np.linalg.eigvalsh(covariance).min() > -1e-15
        weights = random.normal(size=(1, 8, 300))
        assert np.isfinite(round_together(weights, covariance).values()).all()
        assert np.isfinite(round_together(weights, moments.second()).values()).all()

    def test_more_rows_than_sums_can_hold_are_left_out(self):
        """The largest steps, so that one row more would overflow."""
        moments = Moments(1, 2, Grid(1.0, unsigned=True))
        for _ in range(-(-MOST_ROWS // 10_000) + 1):
            moments.add(np.ones((1, 10_000, 2), np.float32))
        assert moments.second() == pytest.approx(np.ones((1, 2, 2)))
        assert moments.mean() == pytest.approx(np.ones((1, 2)))
        assert not moments.covariance().any()


class TestRounding:
    @settings(max_examples=30)
    @given(
        seed=st.integers(0, 10**6),
        groups=st.integers(1, 3),
        outputs=st.integers(1, 4),
        inputs=st.integers(1, 200),
    )
    def test_errs_never_more_than_rounding_each_weight(self, seed, groups, outputs, inputs):
        weights = np.random.default_rng(seed).normal(size=(groups, outputs, inputs))
        covariance = moments_of(correlated((groups, 50, inputs), seed)).covariance()
        rounded, nearest = round_together(weights, covariance), round_to_nearest(weights)
        ours = output_error(weights - rounded.values(), covariance)
        theirs = output_error(weights - nearest.values(), covariance)
        assert (ours <= theirs).all()
        assert (rounded.scales == nearest.scales).all()
        assert (rounded.steps == np.rint(rounded.steps)).all()
        assert np.abs(rounded.steps).max() <= SIGNED_STEPS

    def test_comes_close_to_the_best_of_all_roundings(self):
        """Brute force: each weight may go down or up, 2^9 ways for each output."""
        weights = np.random.default_rng(3).normal(size=(1, 200, 9))
        covariance = moments_of(correlated((1, 400, 9), 3)).covariance()
        scales = round_to_nearest(weights).scales[:, :, None]
        low = np.floor(weights / scales)
        ways = [low + np.array(way) for way in itertools.product((0, 1), repeat=9)]
        errors = [output_error(weights - way * scales, covariance) for way in ways]
        best = np.min(errors, axis=0).mean()
        ours = output_error(weights - round_together(weights, covariance).values(), covariance)
        nearest = output_error(weights - round_to_nearest(weights).values(), covariance)
        assert ours.mean() < best + 0.3 * (nearest.mean() - best)

    def test_inputs_that_do_not_go_together_leave_the_nearest(self):
        weights = np.random.default_rng(4).normal(size=(2, 5, 20))
        variances = np.random.default_rng(5).uniform(0.5, 2.0, (2, 20))
        covariance = variances[:, :, None] * np.eye(20)
        ours, nearest = round_together(weights, covariance), round_to_nearest(weights)
        assert (ours.steps == nearest.steps).all()

    def test_moments_that_no_inputs_have_leave_the_nearest(self):
        weights = np.random.default_rng(6).normal(size=(1, 5, 2))
        rounded = round_together(weights, np.array([[[1.0, 2.0], [2.0, 1.0]]]))
        assert (rounded.steps == round_to_nearest(weights).steps).all()

    def test_zeros_stay_zeros(self):
        rounded = round_together(np.zeros((2, 3, 4)), np.zeros((2, 4, 4)))
        assert not rounded.values().any()
        assert (rounded.scales > 0).all()


def convolution(**attributes) -> tuple[Unfolding, dict]:
    defaults = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    values = defaults | attributes
    top, left, bottom, right = values["pads"]
    options = {
        "stride": values["strides"],
        "dilation": values["dilations"],
        "groups": values["groups"],
    }
    return Unfolding(**values), options | {"around": (left, right, top, bottom)}


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel": (3, 3)},
        {"kernel": (3, 5), "strides": (2, 1), "pads": (1, 2, 0, 3)},
        {"kernel": (3, 3), "dilations": (2, 3), "pads": (2, 2, 2, 2)},
        {"kernel": (5, 5), "groups": 6, "strides": (2, 2), "pads": (1, 1, 2, 2)},
        {"kernel": (1, 1), "groups": 2},
    ],
)
def test_rows_times_matrices_are_torchs_convolution(attributes):
    unfolding, options = convolution(**attributes)
    random = np.random.default_rng(6)
    groups, around = unfolding.groups, options.pop("around")
    weight = random.normal(size=(12, 6 // groups, *unfolding.kernel)).astype(np.float32)
    values = random.normal(size=(2, 6, 17, 19)).astype(np.float32)
    padded = functional.pad(torch.from_numpy(values), around)
    expected = functional.conv2d(padded, torch.from_numpy(weight), **options).numpy()
    product = Product("conv", "x", unfolding, weight, 0, None, "")
    rows = unfolding.rows(values, EVERYTHING, random)
    outputs = rows @ product.matrices().transpose(0, 2, 1)
    # Positions come in any order, the same in both views: compare them sorted.
    ours = outputs.reshape(groups, 2, -1, 12 // groups).transpose(1, 0, 3, 2).reshape(2, 12, -1)
    theirs = expected.reshape(2, 12, -1)
    assert np.sort(ours) == pytest.approx(np.sort(theirs), abs=1e-4)
    assert (product.folded(product.matrices()) == weight).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_times_matrices_are_numpys_product(axis):
    random = np.random.default_rng(7)
    weight = random.normal(size=(8, 5) if axis == 1 else (5, 8)).astype(np.float32)
    product = Product("matmul", "x", Unfolding(), weight, axis, None, "")
    values = random.normal(size=(2, 7, 8)).astype(np.float32)
    rows = Unfolding().rows(values, EVERYTHING, random)
    expected = values @ (weight if axis == 1 else weight.T)
    outputs = (rows @ product.matrices().transpose(0, 2, 1)).reshape(2, 7, 5)
    assert np.sort(outputs, axis=1) == pytest.approx(np.sort(expected, axis=1), abs=1e-5)
    assert (product.folded(product.matrices()) == weight).all()


def test_only_so_many_positions_are_taken():
    unfolding, _ = convolution(kernel=(3, 3))
    values = np.zeros((4, 3, 30, 30), np.float32)
    assert unfolding.rows(values, 50, np.random.default_rng(0)).shape == (1, 200, 27)


def test_the_bias_takes_up_the_mean_error():
    random = np.random.default_rng(8)
    weight = random.normal(size=(6, 4)).astype(np.float32)
    rows = np.abs(correlated((1, 500, 4), 8))
    product = Product("gemm", "x", Unfolding(), weight, 0, np.ones(6, np.float32), "gemm")
    # A range that cuts some inputs: what is lost of them has a mean, too.
    grid = Grid(3.0, unsigned=False)
    fitted = fit(product, moments_of(rows, grid))
    assert fitted.bias is not None
    expected = rows[0] @ weight.T + 1
    assert expected.mean(0) == pytest.approx(
        (read(rows, grid)[0] @ fitted.values.T + fitted.bias).mean(0), abs=1e-3
    )


@pytest.fixture(scope="module", params=("vit", "convnext", "timm"))
def made(request, int8_parts) -> dict[str, Int8Parts]:
    """What INT8 makes each backbone of."""
    return {role: int8_parts(request.param, role) for role in BACKBONES}


class TestBackbones:
    def test_every_product_is_fitted_and_its_bias_with_it(self, made):
        for parts in made.values():
            others = (RESIDUAL_ADD, ATTENTION)
            named = {layer.node for layer in parts.layers if layer.kind not in others}
            assert parts.fitted.keys() == named
            graph = parts.model.graph
            constants = {tensor.name for tensor in graph.initializer}
            adds = [node for node in graph.node if node.op_type == "Add"]
            added = {add.input[0] for add in adds if add.input[-1] in constants}
            for node in graph.node:
                biased = node.op_type == "Conv" or len(node.input) > 2 or node.output[0] in added
                if node.name in named and biased:
                    assert parts.fitted[node.name].bias is not None

    def test_convolutions_without_a_bias_get_one(self, made):
        """OpenVINO computes a residual sum of such a quantised one wrongly."""
        for parts in made.values():
            graph = parts.quantised().graph
            stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
            for node in graph.node:
                if node.name in parts.fitted and node.op_type == "Conv":
                    assert stored[node.input[2]].any()

    def test_the_quantiser_stores_the_fitted_weights_as_they_are(self, made):
        for parts in made.values():
            graph = parts.quantised().graph
            stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
            makers = {node.output[0]: node for node in graph.node}
            nodes = {node.name: node for node in graph.node}
            for name, weight in parts.fitted.items():
                maker = makers[nodes[name].input[1]]
                steps, scales, zero_point = (stored[name] for name in maker.input)
                assert steps.dtype == np.int8
                assert not zero_point.any()
                assert (scales == weight.scales).all()
                assert (self.dequantised(steps, weight) == weight.values).all()
                if weight.bias is not None:
                    assert (stored[nodes[weight.bias_reader].input[-1]] == weight.bias).all()

    def dequantised(self, steps: np.ndarray, weight: FittedWeight) -> np.ndarray:
        shape = [-1 if axis == weight.axis else 1 for axis in range(steps.ndim)]
        return steps * weight.scales.reshape(shape)

    def test_layers_that_stay_in_fp32_keep_their_weights(self, made):
        parts = made["local"]
        kept = next(layer.node for layer in parts.layers if layer.node in parts.fitted)
        chosen = [layer for layer in parts.layers if layer.node != kept]
        before = {t.name: t.raw_data for t in parts.model.graph.initializer}
        graph = parts.quantised(chosen).graph
        after = {t.name: t.raw_data for t in graph.initializer}
        node = next(node for node in graph.node if node.name == kept)
        names = [name for name in node.input if name in before]
        assert names
        assert all(after[name] == before[name] for name in names)

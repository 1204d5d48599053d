"""Channels of linear bottlenecks get one range, and the network computes what it did."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import slow
from glass_edge.calibration.int8.channels import find_linear, with_equal_channels
from glass_edge.calibration.int8.observe import Observer
from glass_edge.calibration.photographs import reference_views
from glass_edge.runtime.engines.base import Array, Float32
from glass_edge.runtime.views.batch import Pixels
from onnx import ModelProto, numpy_helper

from glass_edge import Bundle

HEADER = """
    <ir_version: 10, opset_import: ["" : 20]>
    small (float[batch, 3, 6, 6] pixels) => (float[batch, 4, 6, 6] features)
"""
BOTTLENECK = """
    stem = Conv(pixels, w_stem, b)
    bent = Relu(stem)
    narrow = Conv(bent, w_a, b)
    wide = Conv(narrow, w_b, b)
    active = Relu(wide)
    features = Conv(active, w_c)
"""
RESIDUAL = """
    stem = Conv(pixels, w_stem, b)
    active = Relu(stem)
    first = Conv(active, w_a, b)
    wide = Conv(first, w_b, b)
    bent = Relu(wide)
    second = Conv(bent, w_c)
    sum = Add(first, second)
    last = Conv(sum, w_a)
    features = Relu(last)
"""
READ_BY_ANOTHER = """
    narrow = Conv(pixels, w_stem, b)
    bent = Sigmoid(narrow)
    wide = Conv(narrow, w_a)
    features = Mul(bent, wide)
"""
ACROSS_AN_ACTIVATION = """
    narrow = Conv(pixels, w_stem, b)
    bent = Relu(narrow)
    features = Conv(bent, w_a)
"""
DEPTHWISE_READER = """
    narrow = Conv(pixels, w_stem, b)
    features = Conv<group = 4>(narrow, w_depth)
"""


def small(body: str) -> ModelProto:
    """Make a graph of 1x1 convolutions whose channels differ by orders of magnitude."""
    model = onnx.parser.parse_model(f"{HEADER} {{ {body} }}")
    random = np.random.default_rng(0)
    sizes = np.array([100.0, 1.0, 10.0, 0.1], np.float32).reshape(4, 1, 1, 1)
    weights = {f"w_{name}": random.normal(size=(4, 4, 1, 1)) * sizes for name in "abc"}
    weights["w_stem"] = random.normal(size=(4, 3, 1, 1)) * sizes
    weights["w_depth"] = random.normal(size=(4, 1, 1, 1))
    weights["b"] = random.normal(size=4)
    for name, values in weights.items():
        tensor = numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    for node in model.graph.node:
        node.name = f"make_{node.output[0]}"
    return onnx.shape_inference.infer_shapes(model)


def views(seed: int) -> Float32:
    return np.random.default_rng(seed).normal(size=(2, 3, 6, 6)).astype(np.float32)


VIEWS = [views(1), views(2)]


def values(model: ModelProto, tensor: str, shown: Array) -> Float32:
    return Observer(model, [tensor]).run(shown)[tensor]


def ranges(model: ModelProto, *tensors: str) -> Float32:
    """The largest magnitude of each channel over all views, in any of the tensors."""
    found = [np.abs(values(model, name, v)).max(axis=(0, 2, 3)) for name in tensors for v in VIEWS]
    return np.max(found, axis=0)


def check_same(model: ModelProto, scaled: ModelProto, output: str, shown: Array) -> None:
    expected = values(model, output, shown)
    size = float(np.abs(expected).max())
    assert values(scaled, output, shown) == pytest.approx(expected, abs=1e-5 * size)


@pytest.mark.parametrize(
    ("body", "tensors"),
    [(BOTTLENECK, ["narrow"]), (RESIDUAL, ["first", "sum"])],
    ids=["bottleneck", "residual"],
)
def test_what_only_convolutions_make_and_read_has_equal_ranges(body, tensors):
    model = small(body)
    scaled = with_equal_channels(model, VIEWS)
    before, after = (ranges(each, *tensors) for each in (model, scaled))
    assert before.max() > 10 * before.min()
    assert after == pytest.approx(np.full(4, after[0]), rel=1e-3)
    check_same(model, scaled, "features", views(3))


@pytest.mark.parametrize(
    "body",
    [READ_BY_ANOTHER, ACROSS_AN_ACTIVATION, DEPTHWISE_READER],
    ids=["read by another", "across an activation", "read by a depthwise one"],
)
def test_other_graphs_are_left_alone(body):
    model = small(body)
    assert with_equal_channels(model, VIEWS) is model


def test_a_channel_that_is_always_zero_does_no_harm():
    model = small(BOTTLENECK)
    for tensor in model.graph.initializer:
        if tensor.name in ("w_a", "b"):
            silenced = numpy_helper.to_array(tensor).copy()
            silenced[2] = 0.0
            tensor.CopyFrom(numpy_helper.from_array(silenced, tensor.name))
    check_same(model, with_equal_channels(model, VIEWS), "features", views(3))


DIGEST = """
import hashlib
from test_channels import RESIDUAL, VIEWS, small, with_equal_channels

scaled = with_equal_channels(small(RESIDUAL), VIEWS)
print(hashlib.sha256(scaled.SerializeToString(deterministic=True)).hexdigest())
"""


@pytest.mark.slow
def test_the_graph_is_the_same_in_every_process():
    """Else measured ranges would not be found again, and no bundle could be made twice."""
    found = [
        subprocess.run(
            [sys.executable, "-c", DIGEST], cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in "123456"
    ]  # fmt: skip
    assert len(set(found)) == 1


@pytest.fixture(scope="module")
def crops(vit_bundle: Bundle) -> Pixels:
    return reference_views(vit_bundle.manifest.views, 2)["local"][:, 0]


@pytest.mark.parametrize(
    ("family", "some"),
    [
        ("vit", False),
        slow("timm", True),
        slow("resnet", False),
    ],
)
def test_of_real_backbones_only_linear_bottlenecks_are_scaled(family, some, export_family, crops):
    model = onnx.load(export_family(family).graph_path("local"))
    assert bool(list(find_linear(model.graph))) == some
    scaled = with_equal_channels(model, [crops[:1]])
    assert (scaled is not model) == some
    check_same(model, scaled, model.graph.output[0].name, crops)

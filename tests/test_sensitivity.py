"""One pass gives the features of every network that has a single layer in INT8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from conftest import FAMILIES, Int8Parts, slow_but
from glass_edge.calibration.errors import CalibrationError
from glass_edge.calibration.int8.fitting import fit
from glass_edge.calibration.int8.grid import Grid
from glass_edge.calibration.int8.layers import find_layers, form_of
from glass_edge.calibration.int8.products import find_products
from glass_edge.calibration.int8.rounding import Moments
from glass_edge.calibration.int8.sensitivity import layer_features
from glass_edge.calibration.judging.graphs import open_graph
from glass_edge.calibration.photographs import reference_views
from glass_edge.runtime.bundle.manifest import Backbone
from glass_edge.runtime.engines.base import Array, Float32
from glass_edge.runtime.views.batch import Pixels

from glass_edge import Bundle

ROUNDING = 0.05  # of a layer's effect: another order of sums takes a value to INT8's next step


@pytest.fixture(scope="module")
def crops(vit_bundle: Bundle) -> Pixels:
    """Crops of photographs."""
    return reference_views(vit_bundle.manifest.views, 2)["local"][:, 0]


@pytest.fixture(scope="module", params=slow_but(["vit", "resnet"], FAMILIES))
def parts(request, int8_parts) -> Int8Parts:
    return int8_parts(request.param, "local")


def in_one_pass(parts: Int8Parts, view: Array) -> Float32:
    return layer_features(parts.model, parts.layers, parts.grids, parts.fitted).of(view)


def some_of_each_kind(parts: Int8Parts) -> list[int]:
    """Number layers from all over the graph: compiling a graph for each takes long."""
    kinds: dict[str, list[int]] = {}
    for number, layer in enumerate(parts.layers):
        kinds.setdefault(layer.kind, []).append(number)
    return [
        numbers[place]
        for numbers in kinds.values()
        for place in {0, len(numbers) // 2, len(numbers) - 1}
    ]


def test_each_row_is_what_a_graph_with_one_layer_in_int8_gives(parts, crops):
    view = crops[:1]
    found = in_one_pass(parts, view)
    (clean,) = open_graph(parts.model)(view)
    assert found.shape == (1 + len(parts.layers), len(clean))
    assert found[0] == pytest.approx(clean, rel=1e-4, abs=1e-5 * float(np.abs(clean).max()))
    for number in some_of_each_kind(parts):
        (expected,) = open_graph(parts.quantised([parts.layers[number]]))(view)
        effect = np.linalg.norm(expected - clean)
        assert np.linalg.norm(found[1 + number] - expected) <= ROUNDING * effect


BACKBONE = Backbone("small", "small", False, False, False)


def small(body: str, end: str) -> Int8Parts:
    """Make a graph whose body makes ``middle`` of ``stem``, and whose end ``features`` of ``last``.

    Of these, all but the features are ``(batch, 6, 8)``.
    """
    text = f"""
    <ir_version: 10, opset_import: ["" : 20]>
    small (float[batch, 6, 4] pixels) => (float[batch, 8] features) {{
        stem = MatMul(pixels, weights_0)
        {body}
        last = MatMul(middle, weights_2)
        {end}
    }}
    """
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    constants = {f"weights_{n}": random.normal(size=(8, 8)).astype(np.float32) for n in range(3)}
    constants["weights_0"] = constants["weights_0"][:4]
    constants["weights_3"] = random.normal(size=(4, 4)).astype(np.float32)
    constants |= {"one": np.array([1]), "windows": np.array([-1, 3, 8])}
    constants |= {"in_heads": np.array([6, -1, 4]), "out_of_heads": np.array([6, -1, 8])}
    constants |= {"one_row": np.array([1, -1, 8]), "minus_whole": np.array([1, -6, -8])}
    constants |= {"whole": np.array([-1, 6, 8]), "one_view": np.array([1, 48])}
    for name, values in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for node in model.graph.node:
        node.name = f"make_{node.output[0]}"
    model = onnx.shape_inference.infer_shapes(model)
    layers = find_layers(model.graph, BACKBONE, form_of("fp32"))
    grids = {name: Grid(4.0, unsigned=False) for layer in layers for name in layer.inputs}
    products = find_products(model.graph, layers)
    moments = {p.node: Moments(1, p.matrices().shape[2], grids[p.source]) for p in products}
    for product in products:
        width = product.matrices().shape[2]
        moments[product.node].add(random.normal(size=(1, 100, width)).astype(np.float32))
    fitted = {product.node: fit(product, moments[product.node]) for product in products}
    return Int8Parts(model, layers, grids, fitted)


VIEW = np.random.default_rng(1).normal(size=(1, 6, 4)).astype(np.float32)
IN_WINDOWS = """
    parted = Reshape(stem, windows)
    product = MatMul(parted, weights_1)
    active = Relu(product)
    sum = Add(active, parted)
    second = MatMul(sum, weights_1)
    middle = Reshape(second, whole)
"""
TURNED_BETWEEN = """
    product = MatMul(stem, weights_1)
    turned = Transpose<perm = [1, 0, 2]>(product)
    active = Relu(turned)
    middle = Transpose<perm = [1, 0, 2]>(active)
"""
TURNED = """
    turned = Transpose<perm = [1, 0, 2]>(stem)
    product = MatMul(turned, weights_1)
    middle = Transpose<perm = [1, 0, 2]>(product)
"""
HEADS_OF_TURNED = """
    turned = Transpose<perm = [1, 0, 2]>(stem)
    heads = Reshape(turned, in_heads)
    apart = Transpose<perm = [1, 0, 2]>(heads)
    product = MatMul(apart, weights_3)
    together = Transpose<perm = [1, 0, 2]>(product)
    whole_again = Reshape(together, out_of_heads)
    second = MatMul(whole_again, weights_1)
    middle = Transpose<perm = [1, 0, 2]>(second)
"""
IN_ONE_ROW = """
    flat = Reshape(stem, one_row)
    product = MatMul(flat, weights_1)
    middle = Reshape(product, whole)
"""
OF_UNKNOWN_SHAPE = """
    shape = Neg(minus_whole)
    reshaped = Reshape(stem, shape)
    product = MatMul(reshaped, weights_1)
    middle = Reshape(product, whole)
"""
PLAIN = """
    middle = MatMul(stem, weights_1)
"""
MEANS = """
    features = ReduceMean<keepdims = 0>(last, one)
"""
ONE_VIEW_AT_THE_END = """
    flat = Reshape(last, one_view)
    back = Reshape(flat, whole)
    features = ReduceMean<keepdims = 0>(back, one)
"""
MIXED_AT_THE_END = """
    turned = Transpose<perm = [1, 0, 2]>(last)
    features = ReduceMean<keepdims = 0>(turned, one)
"""


@pytest.mark.parametrize(
    "body",
    [IN_WINDOWS, TURNED_BETWEEN, TURNED, HEADS_OF_TURNED, IN_ONE_ROW],
    ids=["windows", "turned between", "turned", "heads", "one row"],
)
def test_rows_stay_apart_wherever_the_batch_lies(body):
    parts = small(body, MEANS)
    found = in_one_pass(parts, VIEW)
    for number, layer in enumerate(parts.layers):
        (expected,) = open_graph(parts.quantised([layer]))(VIEW)
        assert found[1 + number] == pytest.approx(expected, abs=1e-5)
        assert found[1 + number] != pytest.approx(found[0], abs=1e-3)


@pytest.mark.parametrize(
    ("body", "end", "why"),
    [
        (OF_UNKNOWN_SHAPE, MEANS, "the batch is not an axis of product"),
        (PLAIN, ONE_VIEW_AT_THE_END, "it does not take a batch of any size"),
        (PLAIN, MIXED_AT_THE_END, "it mixes the views of a batch"),
    ],
    ids=["no axis", "one view", "mixed"],
)
def test_a_graph_that_carries_no_rows_is_refused_in_a_sentence(body, end, why):
    with pytest.raises(CalibrationError) as raised:
        in_one_pass(small(body, end), VIEW)
    assert str(raised.value) == (
        f"which layers of the graph to keep cannot be measured, because {why}: quantise all of "
        "them with --int8-budget 0."
    )

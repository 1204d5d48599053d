"""What is never negative: told from operators, and true of photographs."""

from __future__ import annotations

import onnx
import pytest
from conftest import FAMILIES
from glass_edge.calibration.floats.mixed import float_tensors
from glass_edge.calibration.int8.observe import Observer
from glass_edge.calibration.int8.signs import never_negative
from glass_edge.calibration.photographs import reference_views
from networks import BACKBONES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("role", BACKBONES)
def test_what_is_named_is_never_negative_on_photographs(role, family, export_family):
    bundle = export_family(family)
    path = bundle.graph_path(role)
    model = onnx.load(path)
    found = never_negative(model.graph)
    views = reference_views(bundle.manifest.views)[role]
    pixels = views if role == "global" else views[:, 0]
    seen = Observer(path, float_tensors(model)).run(pixels)
    assert found <= seen.keys()
    assert all((seen[name] >= 0).all() for name in found)
    sure = ("Relu", "Softmax", "HardSigmoid")
    assert found >= {
        name for node in model.graph.node if node.op_type in sure for name in node.output
    }


def test_pools_and_new_shapes_of_what_is_never_negative_are_not_either(export_family):
    graph = onnx.load(export_family("resnet").graph_path("local")).graph
    found = never_negative(graph)
    pooled = [node for node in graph.node if node.op_type in ("MaxPool", "ReduceMean")]
    assert pooled
    assert found >= {name for node in pooled for name in node.output}


def named(body: str) -> set[str]:
    """Return which tensors of a small graph are never negative."""
    graph = onnx.parser.parse_graph(
        f"""
        small (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y)
        <float zero = {{0}}, float half = {{0.5}}, float below = {{-1}}, float six = {{6}},
         float[3] mixed = {{0, -0.5, 1}}, float[3] none = {{0, 0, 0}}>
        {{
            {body}
        }}
        """
    )
    return set(never_negative(graph))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Clip(x, zero, six)", {"y"}),
        ("y = Clip(x, half, six)", {"y"}),
        ("y = Clip(x, none)", {"y"}),
        ("y = Clip(x, below, six)", set()),
        ("y = Clip(x, mixed, six)", set()),
        ("y = Clip(x, , six)", set()),
        ("y = Clip(x)", set()),
        ("low = Neg(six)\n y = Clip(x, low, six)", set()),
        ("a = Relu(x)\n y = Clip(a, below, six)", {"a"}),
        ("a = Relu(x)\n b = MaxPool<kernel_shape = [2, 2]>(a)\n y = Mul(b, x)", {"a", "b"}),
        ("a = Relu(x)\n b = Neg(a)\n y = MaxPool<kernel_shape = [2, 2]>(b)", {"a"}),
        ("a = MaxPool<kernel_shape = [2, 2]>(x)\n y = Relu(a)", {"y"}),
        ("a = LeakyRelu(x)\n b = HardSwish(x)\n y = Gelu(x)", set()),
    ],
)
def test_of_small_graphs(body, expected):
    assert named(body) == expected

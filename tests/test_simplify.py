"""Backbones rewritten for engines compute what the originals compute."""

from __future__ import annotations

import onnx
import pytest
import timm
import torch
from glass_edge.export.families.convnext import ConvNextBlock
from glass_edge.export.simplify import simplified
from networks import SMALL
from torch import nn

TIMM = {
    "linear layers": ("convnext_atto", {"conv_mlp": False}),
    "convolutions as layers": ("convnext_atto", {}),
    "no scale": ("convnext_atto", {"conv_mlp": False, "ls_init_value": None}),
    "the second ConvNeXt": ("convnextv2_atto", {"conv_mlp": False}),
}


def with_scales(model: nn.Module) -> nn.Module:
    """Give the scales of blocks, which start at next to nothing, what training gives them."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith(("layer_scale", "gamma", "grn.weight")):
            nn.init.uniform_(parameter, 0.2, 1.0)
    return model.eval()


def blocks(model: nn.Module) -> int:
    return sum(isinstance(module, ConvNextBlock) for module in model.modules())


@torch.inference_mode()
def assert_same(model: nn.Module) -> None:
    pixels = torch.rand(2, 3, 224, 224)
    torch.testing.assert_close(simplified(model)(pixels), model(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["vit", "convnext", "resnet"])
def test_torchvisions_backbones(family):
    assert_same(with_scales(SMALL[family][0]()))


@pytest.mark.parametrize(("name", "options"), TIMM.values(), ids=TIMM)
def test_timms_convnext(name, options):
    assert_same(with_scales(timm.create_model(name, num_classes=0, **options)))


def test_blocks_of_the_first_convnext_are_rewritten_and_no_others():
    plain = timm.create_model("convnext_atto", num_classes=0, conv_mlp=False)
    second = timm.create_model("convnextv2_atto", num_classes=0, conv_mlp=False)
    assert blocks(simplified(SMALL["convnext"][0]())) == 5
    assert blocks(simplified(plain)) == 12
    assert blocks(simplified(second)) == 0


def test_a_vits_last_block_computes_its_first_token_only(export_family):
    """The others are read as keys and values, and by nothing after that."""
    graph = onnx.load(export_family("vit").graph_path("local")).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in graph.value_info
    }
    weights = {tensor.name for tensor in graph.initializer}
    products = [
        shapes[node.output[0]][1]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in weights
    ]
    tokens = 1 + 7 * 7
    before = [tokens] * 6  # query, key, value, output and two of the perceptron
    assert products == [*before, 1, tokens, tokens, 1, 1, 1]


def test_a_convnext_normalises_and_multiplies_rows_of_pixels(export_family):
    """In three dimensions; engines have no kernels, or fuse nothing, for four."""
    graph = onnx.load(export_family("convnext").graph_path("local")).graph
    shapes = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    wanted = [node for node in graph.node if node.op_type in ("LayerNormalization", "MatMul")]
    assert {shapes[node.input[0]] for node in wanted} == {3}
    scalings = [node for node in graph.node if node.op_type == "Mul"]
    assert len(scalings) == 1, "all but that of the pixels are part of the products' weights"

"""What PyTorch's exporter can and cannot do with a backbone, and what the user is told of it."""

from __future__ import annotations

import onnx
import pytest
import timm
import torch
import torchvision
from conftest import call
from glass_edge.calibration.errors import GraphError
from glass_edge.export import graphs
from glass_edge.export.exporter import export_bundle
from glass_edge.export.graphs import PixelFront, export_graph, make_graphs
from glass_edge.export.model import Glass
from glass_edge.export.options import ExportOptions
from glass_edge.export.paper import NORMALISATION, glass_views
from glass_edge.export.simplify import simplified
from glass_edge.runtime.bundle.streams import stream_tensors
from networks import detector_of, random_glass
from timm.models import register_model
from torch import nn


@register_model
def hiera_of_four_blocks(pretrained=False, **options) -> nn.Module:
    """timm's, of which more blocks would take longer and show no more."""
    small = {"embed_dim": 16, "stages": (1, 1, 1, 1)}
    return timm.create_model("hiera_tiny_224", pretrained, **small, **options)


def fused(model: nn.Module) -> set[bool]:
    return {part.fused_attn for part in model.modules() if hasattr(part, "fused_attn")}


class TestTimmsFusedAttention:
    @pytest.mark.slow
    def test_of_five_dimensions_is_exported(self, tmp_path):
        """Parity compares with the untouched model, whose attention is fused."""
        torch.manual_seed(0)
        one, other = (timm.create_model("hiera_of_four_blocks", num_classes=0) for _ in range(2))
        assert fused(one) == {True}
        torch.save(Glass(one, other, one.num_features).state_dict(), tmp_path / "gl.pt")
        options = ExportOptions(backbone="timm/hiera_of_four_blocks", crops=1)
        bundle = export_bundle(tmp_path / "gl.pt", tmp_path / "gl.glass", options)
        assert bundle.manifest.parity.logit_error < 1e-5

    def test_is_taken_apart_in_the_copy_that_is_traced(self):
        model = timm.create_model("test_vit", num_classes=0).eval()
        copy = simplified(model)
        assert (fused(model), fused(copy)) == ({True}, {False})
        pixels = torch.rand(2, 3, 160, 160)
        with torch.inference_mode():
            torch.testing.assert_close(copy(pixels), model(pixels), rtol=1e-4, atol=1e-5)

    @pytest.mark.slow
    def test_would_leave_shape_arithmetic_behind(self):
        model = timm.create_model("test_vit", num_classes=0)
        nodes = []
        for backbone in (model, simplified(model)):
            front = PixelFront(backbone, NORMALISATION).eval()
            tensors = stream_tensors("local", glass_views(160, 1).streams, 64)
            graph = export_graph(front, *tensors, "local").graph
            nodes.append(sum(node.op_type in ("Shape", "Slice", "Concat") for node in graph.node))
        assert nodes[1] < nodes[0] / 2


class Pairs(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        five = maps[:, None]
        return nn.functional.scaled_dot_product_attention(five, five, five).mean(dim=(1, 3, 4))


class Eigenvalues(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(maps[:, 0, :3, :3]).real


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        (Pairs, r"only 4D query, key, and value.*at aten\.scaled_dot_product_attention\.default"),
        (Eigenvalues, r"No ONNX function found for .*aten\.linalg_eig"),
    ],
)
def test_the_exporters_own_reason_is_told_in_a_line(backbone, reason):
    tensors = stream_tensors("global", glass_views(32, 1).streams, 3)
    with pytest.raises(
        GraphError, match=rf"the global graph cannot be exported: {reason}"
    ) as found:
        export_graph(PixelFront(backbone(), NORMALISATION).eval(), *tensors, "global")
    sentence = str(found.value)
    assert "\n" not in sentence
    assert "\x1b" not in sentence
    assert "Next steps" not in sentence


class TestABackboneLargerThanAGraphCanBe:
    def test_is_refused_before_anything_is_exported(self, monkeypatch):
        def export(*_: object) -> onnx.ModelProto:
            raise AssertionError("it was exported")

        monkeypatch.setattr(graphs, "export_graph", export)
        with torch.device("meta"):
            backbone = torchvision.models.vit_h_14()
        backbone.heads = nn.Identity()
        model = Glass(backbone, backbone, 1280)
        sentence = r"global has 2\.35 GiB of weights in FP32.*ends at 1\.98 GiB"
        with pytest.raises(GraphError, match=sentence):
            make_graphs(detector_of(model), glass_views(518, 1).streams, NORMALISATION)

    def test_is_a_sentence_to_the_user(self, tmp_path, monkeypatch):
        monkeypatch.setattr(graphs, "LARGEST_GRAPH", 1 << 20)
        torch.save(random_glass("resnet").state_dict(), tmp_path / "gl.pt")
        done = call("glass-export", tmp_path, "gl.pt")
        assert done.returncode == 1
        assert "a detector with a smaller network is needed" in " ".join(done.stderr.split())
        assert [path.name for path in tmp_path.iterdir()] == ["gl.pt"]

    @pytest.mark.parametrize("name", ["vit_l_16", "convnext_large", "wide_resnet101_2"])
    def test_is_none_of_torchvisions_other_largest(self, name):
        with torch.device("meta"):
            model = getattr(torchvision.models, name)()
        assert sum(4 * each.numel() for each in model.state_dict().values()) < graphs.LARGEST_GRAPH

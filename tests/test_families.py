"""Backbone families: told apart, described for engines and INT8, and added in one file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import onnx
import pytest
import timm
import torch
import torchvision
from conftest import FAMILIES, ROOT, slow, slow_but
from glass_edge.calibration.int8.layers import RESIDUAL_ADD, find_layers, form_of
from glass_edge.export import families as room
from glass_edge.export.exporter import ExportOptions, export_bundle
from glass_edge.export.families import registry
from glass_edge.export.families.registry import families, recipe_from_name, recipe_from_weights
from glass_edge.export.loading import load_model
from glass_edge.export.model import Glass
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.openvino import fixed_rows
from networks import BACKBONES, TIMM_CONVNEXT, timm_convnext

from glass_edge import Bundle, Detector, DetectorOptions

TIMM_CONVNEXTS = [name for name in timm.list_models() if "convnext" in name]


@pytest.fixture(scope="session")
def timm_convnext_bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("timm-convnext")
    torch.save(timm_convnext().state_dict(), folder / "gl_timm.pt")
    options = ExportOptions(backbone=f"timm/{TIMM_CONVNEXT}")
    return export_bundle(folder / "gl_timm.pt", folder / "timm.glass", options)


@pytest.fixture(params=[*FAMILIES, slow(TIMM_CONVNEXT)])
def bundle(request, export_family) -> Bundle:
    if request.param == TIMM_CONVNEXT:
        return request.getfixturevalue("timm_convnext_bundle")
    return export_family(request.param)


class TestWhatEnginesAndInt8MustKnow:
    def test_int8_leaves_residual_sums_alone_where_layers_normalise(self, bundle):
        for role in BACKBONES:
            graph = onnx.load(bundle.graph_path(role)).graph
            normalised = any(node.op_type == "LayerNormalization" for node in graph.node)
            assert bundle.manifest.backbone.quantise_residuals != normalised
            found = find_layers(graph, bundle.manifest.backbone, form_of("fp32"))
            assert not normalised or RESIDUAL_ADD not in [layer.kind for layer in found]
            products = [n for n in graph.node if n.op_type in ("Conv", "MatMul", "Gemm")]
            assert 0 < len(found) <= len(products) + sum(n.op_type == "Add" for n in graph.node)

    def test_a_convnext_is_compiled_for_full_batches_and_no_other(self, bundle):
        rows = fixed_rows(bundle, EngineOptions("cpu", 1, batch_size=8, images=2))
        convnext = "convnext" in bundle.manifest.backbone.name.casefold()
        assert rows == ({"global": 2, "local": 8} if convnext else {})
        assert fixed_rows(bundle, EngineOptions("cpu", 1, batch_size=8)) == {}

    @pytest.mark.parametrize("name", slow_but(["convnext_tiny", "convnextv2_atto"], TIMM_CONVNEXTS))
    def test_timms_convnexts_are_described_like_torchvisions(self, name):
        with torch.device("meta"):
            weights = torchvision.models.convnext_tiny().state_dict()
        theirs, ours = recipe_from_name(f"timm/{name}", {}), recipe_from_weights(weights)
        assert theirs.fixed_batch == ours.fixed_batch
        assert theirs.quantise_residuals == ours.quantise_residuals


@pytest.mark.parametrize("name", ["vit_b_32", "convnext_tiny", "resnet18", "resnext50_32x4d"])
def test_no_two_families_are_told_by_the_same_keys(name):
    with torch.device("meta"):
        weights = getattr(torchvision.models, name)().state_dict()
    told = [
        family.name
        for family in families().values()
        if family.keys and all(key in weights for key in family.keys)
    ]
    assert told == [recipe_from_weights(weights).family]


@pytest.fixture
def family_of_the_walk(tmp_path, monkeypatch):
    """The one file that CONTRIBUTING.md shows, put where families are."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## Add a backbone family\n.*?```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mobilenet.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    registry.families.cache_clear()
    yield "mobilenet"
    registry.families.cache_clear()
    sys.modules.pop("glass_edge.export.families.mobilenet", None)


@pytest.fixture
def mobilenets(tmp_path) -> tuple[Path, Glass]:
    """A checkpoint of that family, and its model."""
    torch.manual_seed(0)
    one, other = (torchvision.models.mobilenet_v3_small() for _ in range(2))
    one.classifier = other.classifier = torch.nn.Identity()
    model = Glass(one, other, 576).eval()
    torch.save(model.state_dict(), tmp_path / "gl_mobilenet.pt")
    return tmp_path / "gl_mobilenet.pt", model


@torch.inference_mode()
def test_adding_a_family_takes_one_file(family_of_the_walk, mobilenets):
    path, model = mobilenets
    loaded = load_model(path)
    assert loaded.recipe.family == family_of_the_walk
    views = torch.rand(1, 3, 224, 224)
    for found, expected in zip(
        loaded.model(views, views[:, None]), model(views, views[:, None]), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.slow
def test_a_family_that_was_added_judges(family_of_the_walk, mobilenets, photographs, tmp_path):
    path, _ = mobilenets
    bundle = export_bundle(path, tmp_path / "mobilenet.glass", ExportOptions())
    manifest, views = bundle.manifest, bundle.manifest.views
    assert manifest.backbone.family == family_of_the_walk
    assert {stream.width for stream in manifest.streams.values()} == {576}
    assert (views.num_crops, views.crop_size) == (6, 224)
    (verdict,) = Detector(bundle, DetectorOptions(engine="onnxruntime")).detect(photographs[2:3])
    assert 0.0 < verdict.score < 1.0

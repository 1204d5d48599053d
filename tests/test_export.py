"""The gate, and how a bundle appears: whole or not at all."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from glass_edge.calibration.photographs import reference_views
from glass_edge.export import parity
from glass_edge.export.errors import CheckpointError, ParityError
from glass_edge.export.exporter import ExportOptions, export_bundle
from glass_edge.export.parity import TOLERANCE, measure_parity
from networks import detector_of, random_glass

from glass_edge import Bundle, InputError


def test_the_gates_figures_are_in_the_manifest(vit_bundle):
    found = vit_bundle.manifest.parity
    assert found is not None
    assert found.batch_sizes == (1, 2, 32)
    assert found.images == 3
    assert 0 < found.logit_error <= TOLERANCE


def test_the_gate_looks_at_real_photographs(vit_bundle):
    views = reference_views(vit_bundle.manifest.views)
    assert views["local"].std() > 30
    assert len({crop.tobytes() for crop in views["local"].reshape(-1, 224 * 224 * 3)}) > 20


@pytest.mark.parametrize(
    "key",
    ["global_model.encoder.ln.bias", "local_model.encoder.ln.bias", "attention.0.weight",
     "classifier.2.weight"],
)  # fmt: skip
def test_the_gate_refuses_graphs_that_differ(key, vit_bundle):
    model = random_glass("vit")
    with torch.no_grad():
        model.state_dict()[key].mul_(-1.5)
    with pytest.raises(ParityError, match=r"do not agree with PyTorch: logits differ by \d"):
        measure_parity(detector_of(model), vit_bundle)


def test_the_gate_measures_large_logits_by_their_size(tmp_path):
    """Their last digits are worth more than the tolerance."""
    model = random_glass("vit")
    with torch.no_grad():
        model.classifier[-1].weight *= 5000
    torch.save(model.state_dict(), tmp_path / "gl_vit.pt")
    bundle = export_bundle(tmp_path / "gl_vit.pt", tmp_path / "vit.glass", ExportOptions())
    assert np.abs(bundle.manifest.reference.logits).max() > 1000
    assert 0 < bundle.manifest.parity.logit_error < 1e-5


def test_the_gate_refuses_large_logits_that_are_wrong(vit_bundle, tmp_path):
    model = random_glass("vit")
    with torch.no_grad():
        model.classifier[-1].weight *= 5000
    with pytest.raises(ParityError, match="as a share of the largest value or of 1"):
        measure_parity(detector_of(model), vit_bundle)


def test_the_gate_refuses_wrong_rows_in_a_batch(vit_bundle, monkeypatch):
    """Engines have been seen to get the first row right and others wrong."""
    from glass_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine

    run = OnnxRuntimeEngine.run

    def spoiled(self, role, inputs):
        outputs = run(self, role, inputs)
        if role == "local" and len(inputs[0]) == 32:
            outputs[0] = outputs[0].copy()
            outputs[0][31] = outputs[0][30]
        return outputs

    monkeypatch.setattr(OnnxRuntimeEngine, "run", spoiled)
    with pytest.raises(ParityError, match="equal rows"):
        measure_parity(detector_of(random_glass("vit")), vit_bundle)


def test_a_failed_gate_writes_nothing(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "TOLERANCE", 1e-12)
    with pytest.raises(ParityError):
        export_bundle(checkpoints["vit"], tmp_path / "vit.glass", ExportOptions())
    assert not list(tmp_path.iterdir())


def test_a_bad_checkpoint_writes_nothing(tmp_path):
    with pytest.raises(CheckpointError):
        export_bundle(tmp_path / "nothing.pt", tmp_path / "vit.glass", ExportOptions())
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_replaced_only_by_force(checkpoints, copied_bundle):
    before = Bundle.open(copied_bundle).digest
    with pytest.raises(InputError, match="--force"):
        export_bundle(checkpoints["vit"], copied_bundle, ExportOptions())
    options = ExportOptions(crops=3, force=True)
    assert export_bundle(checkpoints["vit"], copied_bundle, options).digest != before
    assert Bundle.open(copied_bundle).manifest.views.num_crops == 3
    assert [path.name for path in copied_bundle.parent.iterdir()] == ["copied.glass"]


def test_force_never_replaces_what_is_no_bundle(checkpoints, tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "precious.jpg").touch()
    with pytest.raises(InputError, match="not a bundle"):
        export_bundle(checkpoints["vit"], tmp_path / "photographs", ExportOptions(force=True))
    assert (tmp_path / "photographs" / "precious.jpg").exists()


def test_classes_and_their_order_are_the_users(fake_second_bundle):
    manifest = fake_second_bundle.manifest
    assert manifest.classes == ("photograph", "generated")
    assert manifest.fake_index == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"crops": 0}, "at least 1"),
        ({"classes": ("a", "a")}, "two different"),
        ({"classes": ("a", "b"), "fake_class": "generated"}, "not among the classes a,b"),
        ({"classes": ("a", "b")}, "'fake' is not among the classes a,b"),
    ],
)
def test_senseless_options(options, sentence):
    with pytest.raises(InputError, match=sentence):
        ExportOptions(**options)


def test_a_fake_class_that_the_detector_has_not_writes_nothing(checkpoints, tmp_path):
    options = ExportOptions(fake_class="generated")
    with pytest.raises(InputError, match="'generated' is not among the classes fake,real"):
        export_bundle(checkpoints["vit"], tmp_path / "vit.glass", options)
    assert not list(tmp_path.iterdir())


def test_another_of_the_detectors_classes_may_be_the_fake_one(checkpoints, tmp_path):
    """By whoever knows that this checkpoint was trained the other way round."""
    options = ExportOptions(fake_class="real", crops=1)
    bundle = export_bundle(checkpoints["vit"], tmp_path / "vit.glass", options)
    manifest = bundle.manifest
    assert (manifest.classes, manifest.fake_class) == (("fake", "real"), "real")
    assert manifest.detector.classes_source == "the user's"


def test_the_manifest_says_which_detector_it_is_and_who_says_how_it_is_used(
    vit_bundle, fake_second_bundle
):
    found = vit_bundle.manifest.detector
    assert (found.family, found.title, found.preset) == ("glass", "GLASS", "paper")
    assert found.preset_source == "arXiv 2601.00141"
    assert found.classes_source == "the paper's"
    assert fake_second_bundle.manifest.detector.classes_source == "the user's"


def test_the_manifest_names_what_it_was_made_of(checkpoints, vit_bundle):
    import hashlib

    manifest = vit_bundle.manifest
    digest = hashlib.sha256(checkpoints["vit"].read_bytes()).hexdigest()
    assert (manifest.checkpoint.file, manifest.checkpoint.sha256) == ("gl_vit.pt", digest)
    assert manifest.versions["torch"] == torch.__version__.split("+")[0]
    content = msgspec.json.decode((vit_bundle.path / "glass.json").read_bytes())
    assert next(iter(content)) == "schema"
    assert np.isclose(content["normalisation"]["mean"][0], 0.485)


@pytest.fixture
def onnxruntime_gpu(tmp_path, monkeypatch) -> str:
    """This environment as it is where onnxruntime-gpu brought ONNX Runtime; return its version."""
    installed = distribution("onnxruntime")
    packages = Path(str(installed.locate_file("")))
    described = f"onnxruntime-{installed.version}.dist-info"
    place = tmp_path / "site-packages"
    place.mkdir()
    for path in packages.iterdir():
        if path.name != described:
            (place / path.name).symlink_to(path)
    renamed = place / described.replace("onnxruntime", "onnxruntime_gpu")
    shutil.copytree(packages / described, renamed)
    metadata = (renamed / "METADATA").read_text(encoding="utf-8")
    metadata = metadata.replace("Name: onnxruntime\n", "Name: onnxruntime-gpu\n", 1)
    (renamed / "METADATA").write_text(metadata, encoding="utf-8")
    instead = [str(place) if Path(path) == packages else path for path in sys.path]
    monkeypatch.setattr(sys, "path", instead)
    return installed.version


def test_onnx_runtime_may_have_come_as_onnxruntime_gpu(onnxruntime_gpu, checkpoints, tmp_path):
    with pytest.raises(PackageNotFoundError):
        version("onnxruntime")
    bundle = export_bundle(checkpoints["vit"], tmp_path / "vit.glass", ExportOptions())
    assert bundle.manifest.versions["onnxruntime-gpu"] == onnxruntime_gpu
    assert "onnxruntime" not in bundle.manifest.versions

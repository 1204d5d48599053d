"""An engine that computes other numbers than the export saw judges nobody's images."""

from __future__ import annotations

import io
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT, call, refusal, slow_but
from glass_edge.calibration.photographs import reference_views
from glass_edge.runtime.bundle.bundle import sha256_of
from glass_edge.runtime.bundle.reference import stored_views
from glass_edge.runtime.engines.base import Engine, EngineOptions
from glass_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.engines.selftest import TOLERANCES, self_test
from networks import random_glass
from PIL import Image
from test_bundle import change, graph_of

from glass_edge import Bundle, BundleError, Detector, DetectorOptions, EngineError

ENGINES = ("onnxruntime", "openvino")
families = pytest.mark.parametrize("family", slow_but(["vit"], ["vit", "resnet"]))
run = partial(call, "glass-run", ROOT)


@pytest.fixture
def marks(tmp_path, monkeypatch) -> Path:
    """An empty cache, and in it the folder of the marks."""
    monkeypatch.setenv("GLASS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "selftests"


def network(bundle: Bundle, engine: str = "onnxruntime") -> Engine:
    return open_engine(bundle, engine, EngineOptions("cpu", 2))


def test_the_views_are_those_of_photographs_in_whole_grey_levels(vit_bundle):
    stored = stored_views(vit_bundle)
    views = reference_views(vit_bundle.manifest.views)
    assert list(stored) == ["global", "local"]
    assert np.array_equal(stored["global"], np.rint(views["global"][:2]))
    assert stored["global"].dtype == np.float32
    crops = stored["local"]
    assert np.array_equal(crops, views["local"][:2, :4])
    assert crops.shape == (2, 4, 224, 224, 3)
    assert crops.dtype == np.uint8
    assert crops.std() > 30


def test_the_logits_of_an_fp32_bundle_are_pytorchs(vit_bundle):
    """Recomputed here from the stored views with the model and nothing of ours."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    views = [
        ((torch.from_numpy(array).float() / 255 - mean) / std).movedim(-1, -3)
        for array in stored_views(vit_bundle).values()
    ]
    with torch.inference_mode():
        expected, _ = random_glass("vit")(*views)
    reference = vit_bundle.manifest.reference
    assert np.allclose(reference.logits, expected, atol=1e-5)
    assert reference.source == f"PyTorch {torch.__version__.partition('+')[0]}"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@families
def test_every_engine_passes(engine, precision, family, make_precision):
    bundle = make_precision(family, precision)
    passed = self_test(bundle, network(bundle, engine))
    assert passed.engine.startswith(engine)
    assert passed.images == 16  # of which four crops each are more than a batch of 16
    assert passed.error <= passed.tolerance == TOLERANCES[precision]
    expected_by = "PyTorch" if precision == "fp32" else "onnxruntime"
    assert passed.source.startswith(expected_by)


@families
def test_bf16_is_expected_as_a_simulation_gives_it(family, make_precision):
    bundle = make_precision(family, "bf16")
    assert bundle.manifest.reference.source.startswith("onnxruntime")
    assert self_test(bundle, network(bundle, "openvino")).error <= TOLERANCES["bf16"]


def spoiled(monkeypatch, spoil) -> None:
    """Let ONNX Runtime's crop features come out otherwise."""
    run = OnnxRuntimeEngine.run

    def wrong(self, role, inputs):
        outputs = [array.copy() for array in run(self, role, inputs)]
        if role == "local":
            spoil(outputs[0])
        return outputs

    monkeypatch.setattr(OnnxRuntimeEngine, "run", wrong)


def swap_rows(features):
    """What an engine with wrong rows at batch > 1 does."""
    features[:] = np.roll(features, 3, axis=0)


def lose_the_last(features):
    if len(features) > 4:
        features[-1] = 0


def lose_a_number(features):
    features[0, 0] = np.nan


def overflow(features):
    features[0, 0] = np.inf


def drift(features):
    features *= 1.05


@pytest.mark.parametrize("spoil", [swap_rows, lose_the_last, lose_a_number, overflow, drift])
def test_wrong_numbers_are_refused(spoil, vit_bundle, marks, monkeypatch):
    spoiled(monkeypatch, spoil)
    sentence = (
        "not finite" if spoil in (lose_a_number, overflow) else r"differs by \S+ from PyTorch"
    )
    with pytest.raises(
        EngineError, match=f"the self-test failed: onnxruntime .* gives .*{sentence}"
    ):
        Detector(vit_bundle, DetectorOptions(engine="onnxruntime"))
    assert not list(marks.iterdir())


@pytest.mark.parametrize("rows", [0, 1])
def test_logits_of_other_images_are_refused(rows, vit_bundle, marks, monkeypatch):
    run = OnnxRuntimeEngine.run

    def wrong(self, role, inputs):
        outputs = run(self, role, inputs)
        return [np.resize(array, (rows, *array.shape[1:])) for array in outputs]

    monkeypatch.setattr(OnnxRuntimeEngine, "run", wrong)
    with pytest.raises(EngineError, match=r"self-test failed: onnxruntime .* gives .* shape"):
        Detector(vit_bundle, DetectorOptions(engine="onnxruntime"))


def test_a_machine_is_tested_once_for_each_bundle_and_engine(vit_bundle, shared_bundle, marks):
    Detector(vit_bundle, DetectorOptions(engine="onnxruntime"))
    (first,) = marks.iterdir()
    assert json.loads(first.read_bytes())["error"] <= TOLERANCES["fp32"]
    written = first.stat().st_mtime_ns
    Detector(vit_bundle, DetectorOptions(engine="onnxruntime"))
    assert [path.stat().st_mtime_ns for path in marks.iterdir()] == [written]
    Detector(vit_bundle, DetectorOptions(engine="openvino"))
    Detector(shared_bundle, DetectorOptions(engine="onnxruntime"))
    assert len(list(marks.iterdir())) == 3


@pytest.mark.parametrize("part", ["processor_name", "driver_version"])
def test_another_processor_or_driver_is_tested_anew(part, vit_bundle, marks, monkeypatch):
    Detector(vit_bundle, DetectorOptions(engine="onnxruntime"))
    monkeypatch.setattr(f"glass_edge.runtime.engines.selftest.{part}", lambda: "another")
    Detector(vit_bundle, DetectorOptions(engine="onnxruntime"))
    assert len(list(marks.iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which not even root may write")
def test_without_a_cache_every_start_is_tested(vit_bundle, monkeypatch):
    monkeypatch.setenv("GLASS_CACHE", "/proc/glass")
    Detector(vit_bundle, DetectorOptions(engine="onnxruntime"))
    spoiled(monkeypatch, drift)
    with pytest.raises(EngineError, match="self-test failed"):
        Detector(vit_bundle, DetectorOptions(engine="onnxruntime"))


@pytest.mark.parametrize("batch_size", [16, 12])
def test_the_batch_that_serves_is_tested(batch_size, vit_bundle, marks, monkeypatch):
    """Engines have been seen to get the first rows of a large batch right, and others wrong."""
    compute = OnnxRuntimeEngine.compute

    def wrong(self, role, inputs):
        outputs = [array.copy() for array in compute(self, role, inputs)]
        if role == "local" and len(inputs[0]) == batch_size:
            outputs[0][8:] = outputs[0][:1]
        return outputs

    monkeypatch.setattr(OnnxRuntimeEngine, "compute", wrong)
    with pytest.raises(EngineError, match=r"the self-test failed: onnxruntime .* differs by"):
        Detector(vit_bundle, DetectorOptions(engine="onnxruntime", batch_size=batch_size, crops=4))


def test_another_batch_is_tested_anew(vit_bundle, marks):
    for batch_size in (16, 16, 8):
        Detector(vit_bundle, DetectorOptions(engine="onnxruntime", batch_size=batch_size))
    assert len(list(marks.iterdir())) == 2


def replace_picture(bundle: Path, picture: Image.Image | bytes) -> None:
    buffer = io.BytesIO()
    if isinstance(picture, bytes):
        buffer.write(picture)
    else:
        picture.save(buffer, "PNG")
    (bundle / "reference.png").write_bytes(buffer.getvalue())
    sha256 = sha256_of(bundle / "reference.png")
    change(bundle, lambda m: m["reference"].update(sha256=sha256))


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (b"", "reference.png cannot be read: the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 99, "reference.png cannot be read"),
        (Image.new("RGB", (224, 224)), r"the views of 2 images need \(448, 1120, 3\)"),
        (Image.new("RGB", (5000, 5000)), "more than the limit"),
    ],
)
def test_a_picture_that_is_none_of_ours(picture, sentence, copied_bundle, marks):
    replace_picture(copied_bundle, picture)
    with pytest.raises(BundleError, match=sentence):
        Detector(copied_bundle)


def test_the_command_prints_the_figures_and_needs_no_images(vit_bundle):
    done = run("--self-test", "--bundle", vit_bundle.path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("self-test passed: ")
    assert "from PyTorch" in done.stdout
    assert "0.001 allowed" in done.stdout


def test_the_command_tests_first_and_then_judges(vit_bundle, photographs):
    done = run(photographs[0], "--self-test", "--bundle", vit_bundle.path, "-o", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "ok"
    assert done.stderr.startswith("self-test passed: ")


def test_a_failed_test_is_one_sentence_and_exit_code_2(copied_bundle, marks):
    change(copied_bundle, lambda m: m["reference"].update(logits=[[5.0, 5.0], [5.0, 5.0]]))
    assert "the self-test failed" in refusal(run("--self-test", "--bundle", copied_bundle))


def test_graphs_with_other_weights_are_refused(copied_bundle, marks):
    """Hashes made to fit do not help graphs that compute something else."""
    path = copied_bundle / "aggregator.onnx"
    model = onnx.load(path)
    (bias,) = (tensor for tensor in model.graph.initializer if list(tensor.dims) == [2])
    bias.raw_data = (onnx.numpy_helper.to_array(bias) + np.float32([0.3, 0])).tobytes()
    onnx.save(model, path)
    sha256 = sha256_of(path)
    change(copied_bundle, lambda m: graph_of(m, "aggregator").update(sha256=sha256))
    with pytest.raises(EngineError, match="self-test failed"):
        Detector(copied_bundle, DetectorOptions(engine="onnxruntime"))


def test_a_copied_bundle_is_not_tested_again(vit_bundle, tmp_path, marks):
    Detector(vit_bundle)
    copied = shutil.copytree(vit_bundle.path, tmp_path / "elsewhere.glass")
    Detector(copied)
    assert len(list(marks.iterdir())) == 1

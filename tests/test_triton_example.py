"""The example for Triton's Python backend: its verdicts are the detector's."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import ROOT
from google.protobuf import json_format, text_format

from glass_edge import Detector, Failure, Verdict

tritonclient = pytest.importorskip("tritonclient")
fake_triton = pytest.importorskip("fake_triton")

MODEL = ROOT / "examples" / "triton" / "glass"


def load(path: Path):
    """Return a module from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def config():
    """The model's configuration, by Triton's own schema. Its package needs gRPC, the file not."""
    (folder,) = tritonclient.__path__
    schema = load(Path(folder) / "grpc" / "model_config_pb2.py")
    return text_format.Parse((MODEL / "config.pbtxt").read_text(), schema.ModelConfig())


@pytest.fixture(scope="module")
def model(config, vit_bundle):
    """The model as Triton starts it, with a bundle of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", fake_triton)
        started = load(MODEL / "1" / "model.py").TritonPythonModel()
    settings = json.loads(json_format.MessageToJson(config, preserving_proto_field_name=True))
    settings["parameters"]["bundle"]["string_value"] = str(vit_bundle.path)
    started.initialize({"model_config": json.dumps(settings)})
    return started


def request(*images: bytes):
    values = np.array(images, np.object_).reshape(-1, 1)
    return fake_triton.InferenceRequest([fake_triton.Tensor("IMAGE", values)])


def outputs(response) -> dict[str, np.ndarray]:
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def verdicts(values: dict[str, np.ndarray]) -> list[Verdict]:
    return [msgspec.json.decode(text, type=Verdict) for text in values["RECORD"].ravel()]


def test_requests_of_a_batch_get_the_detectors_verdicts(model, vit_bundle, photographs):
    files = [path.read_bytes() for path in photographs[2:7]]
    answers = model.execute([request(*files[:2]), request(files[2]), request(*files[3:])])
    expected = Detector(vit_bundle).detect(files)
    for answer, its_own in zip(answers, (expected[:2], expected[2:3], expected[3:]), strict=True):
        values = outputs(answer)
        assert verdicts(values) == its_own
        assert values["SCORE"].tolist() == [[pytest.approx(each.score)] for each in its_own]


def test_a_damaged_image_fails_neither_its_request_nor_the_batch(model, photographs):
    good = photographs[2].read_bytes()
    damaged, other = map(outputs, model.execute([request(b"no image", good), request(good)]))
    assert [math.isnan(score) for score in damaged["SCORE"].ravel()] == [True, False]
    failure = msgspec.json.decode(damaged["RECORD"][0, 0], type=Failure)
    assert "not an image" in failure.error.message
    assert damaged["SCORE"][1] == other["SCORE"][0]
    assert verdicts(other)[0].score == pytest.approx(float(other["SCORE"][0, 0]))


def test_the_configuration_names_the_models_tensors(config, model, photographs):
    (answer,) = model.execute([request(photographs[2].read_bytes())])
    types = {"FP32": "TYPE_FP32", "BYTES": "TYPE_STRING"}
    made = [
        (each.name(), types[each.dtype()], list(each.as_numpy().shape[1:]))
        for each in answer.output_tensors()
    ]
    name_of = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    said = [(each.name, name_of[each.data_type].name, list(each.dims)) for each in config.output]
    assert made == said
    (image,) = config.input
    assert (image.name, name_of[image.data_type].name, list(image.dims)) == (
        "IMAGE", "TYPE_STRING", [1],
    )  # fmt: skip


def test_the_configuration_lets_requests_share_a_batch(config):
    assert config.name == MODEL.name
    assert config.backend == "python"
    assert config.max_batch_size > 1  # without which Triton refuses dynamic batching
    assert config.HasField("dynamic_batching")
    assert [group.count for group in config.instance_group] == [1]


def test_the_readme_says_that_it_has_not_run():
    text = (MODEL.parent / "README.md").read_text()
    assert "**It has not run on Triton.**" in text
    assert Path(__file__).name in text

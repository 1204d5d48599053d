"""Engines by name, and what it takes to add one."""

from __future__ import annotations

import re
import sys

import pytest
from conftest import ROOT
from glass_edge.runtime import engines as room
from glass_edge.runtime.engines import registry
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.registry import engine_names, engines, open_engine, runnable_engines

from glass_edge import Detector, DetectorOptions, EngineError


@pytest.fixture
def engine_of_the_walk(tmp_path, monkeypatch):
    """The one file that CONTRIBUTING.md shows, put where engines are."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## Add an engine\n.*?```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "reference.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    registry.engines.cache_clear()
    yield "reference"
    registry.engines.cache_clear()
    sys.modules.pop("glass_edge.runtime.engines.reference", None)


def test_adding_an_engine_takes_one_file(engine_of_the_walk, vit_bundle, photographs):
    assert engine_of_the_walk in engine_names()
    assert engine_of_the_walk in runnable_engines()
    options = {"crops": 2, "batch_size": 2}
    added = Detector(vit_bundle, DetectorOptions(engine=engine_of_the_walk, **options))
    known = Detector(vit_bundle, DetectorOptions(engine="onnxruntime", **options))
    assert re.fullmatch(r"reference \S+ cpu", added.engine)
    for found, expected in zip(
        added.detect(photographs[:4]), known.detect(photographs[:4]), strict=True
    ):
        assert found.engine == added.engine
        assert found.score == pytest.approx(expected.score, abs=1e-5)
        assert [crop.top for crop in found.crops] == [crop.top for crop in expected.crops]


def test_the_engines_there_are():
    assert engine_names() == ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")
    for name, record in engines().items():
        assert record.name == name
        assert set(record.devices) <= {"cpu", "cuda"}


def test_every_engine_has_an_extra_that_installs_it():
    from importlib.metadata import metadata

    extras = set(metadata("glass-edge").get_all("Provides-Extra"))
    assert {record.extra for record in engines().values()} <= extras


@pytest.mark.parametrize(
    ("name", "device", "sentence"),
    [
        ("openvin", "auto", "there is no engine 'openvin': choose auto or onnxruntime, openvino,"),
        ("auto", "gpu", "there is no device 'gpu': choose auto or cpu, cuda"),
        ("openvino", "cuda", "the openvino engine runs on the cpu, not on cuda"),
        ("tensorrt-rtx", "cpu", "the tensorrt-rtx engine runs on an NVIDIA GPU, not on the cpu"),
    ],
)
def test_a_name_or_device_that_cannot_be_is_one_sentence(name, device, sentence, vit_bundle):
    with pytest.raises(EngineError, match=re.escape(sentence)):
        open_engine(vit_bundle, name, EngineOptions(device))

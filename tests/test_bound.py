"""ONNX Runtime with bound buffers, as on a GPU, on the CPU device; and what it says of failures."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.bound import BoundGraphs
from glass_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine, _check_provider
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.machine.errors import EngineError
from networks import ROLES

MOST = 4


class Watched:
    """A session that remembers the batch sizes that it was given."""

    def __init__(self, session):
        self.session, self.sizes = session, []

    def run_with_iobinding(self, binding):
        self.session.run_with_iobinding(binding)
        self.sizes.append(binding.get_outputs()[0].shape()[0])

    def __getattr__(self, name):
        return getattr(self.session, name)


@pytest.fixture(scope="module")
def network(vit_bundle):
    return open_engine(vit_bundle, "onnxruntime", EngineOptions("cpu", batch_size=MOST))


@pytest.fixture
def sessions(vit_bundle):
    paths = {role: str(vit_bundle.graph_path(role)) for role in ROLES}
    return {
        role: Watched(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
        for role, path in paths.items()
    }


@pytest.fixture
def bound(sessions, vit_bundle):
    return BoundGraphs(sessions, vit_bundle.manifest, "cpu", MOST)


def views(images, crops, draws=1):
    generator = np.random.default_rng(images * crops)
    overviews = generator.uniform(0, 255, (images, 224, 224, 3)).astype(np.float32)
    shape = (images, draws, crops, 224, 224, 3)
    return {"global": overviews, "local": generator.integers(0, 256, shape, dtype=np.uint8)}


@pytest.mark.parametrize(("images", "crops"), [(1, 1), (3, 7), (9, 2), (4, 1)])
def test_features_that_are_there_give_what_their_views_give(bound, network, images, crops):
    given = views(images, crops)
    expected = network.judge_draws(given)
    local = network.features("local", given["local"].reshape(-1, 224, 224, 3))
    features = {
        "global": network.features("global", given["global"]),
        "local": local.reshape(images, crops, -1),
    }
    for engine in (bound, network):
        found = engine.aggregate(features)
        assert found.logits == pytest.approx(expected.logits[:, 0], abs=1e-5)
        assert found.attention == pytest.approx(expected.attention[:, 0], abs=1e-5)


def test_buffers_are_shared_by_images_with_ever_other_numbers_of_views(bound):
    """As tiles are; a detector may have a thousand of an image."""
    generator = np.random.default_rng(0)
    width = bound._streams["local"].width
    for count in [*range(1, 40), 200]:
        features = {
            "global": generator.normal(size=(1, width)).astype(np.float32),
            "local": generator.normal(size=(1, count, width)).astype(np.float32),
        }
        bound.aggregate(features)
    names = [name for name, _ in bound._values]
    assert len(names) == len(set(names))
    assert len(bound._hosts) == len({name for name, _ in bound._hosts})


def test_any_number_of_images_draws_and_crops_gives_what_sessions_alone_give(bound, network):
    answers = []
    sizes = ((1, 1, 1), (3, 7, 1), (9, 2, 1), (3, 2, 3), (2, 3, 4), (6, 1, 2), (4, 1, 1), (3, 7, 1))
    for size in sizes:
        found = bound.judge(views(*size))
        logits, attention = found.logits, found.attention
        expected = network.judge_draws(views(*size))
        assert logits == pytest.approx(expected.logits, abs=1e-5)
        assert attention == pytest.approx(expected.attention, abs=1e-6)
        answers.append(logits)
    assert (answers[1] == answers[-1]).all()  # each is the caller's own


def test_every_graph_sees_the_fixed_batch_sizes_only(sessions, bound):
    """So that memory grows no more once each was seen."""
    for images in range(1, 8):
        bound.judge(views(images, 1))
    assert {role: set(session.sizes) for role, session in sessions.items()} == {
        role: {1, 2, 4} for role in ROLES
    }


@pytest.mark.parametrize(
    "said",
    [
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9",
        "CUDA failure 2: out of memory ; GPU=0",
        "std::bad_alloc",
    ],
)
def test_full_memory_comes_with_advice(said, sessions, bound, vit_bundle, monkeypatch):
    def fail(*_):
        raise RuntimeError(said)

    monkeypatch.setattr(sessions["local"], "run_with_iobinding", fail)
    with pytest.raises(EngineError) as raised:
        bound.judge(views(1, 1))
    advice = "Use a smaller --batch-size, or close what else uses the memory."
    assert str(raised.value) == f"ONNX Runtime failed in the local graph: {said}. {advice}"
    engine = OnnxRuntimeEngine(vit_bundle, EngineOptions("cpu"))
    monkeypatch.setattr(engine._sessions["local"], "run", fail)
    with pytest.raises(EngineError, match=f"failed in the local graph: {said}. {advice}"):
        engine.run("local", [np.zeros((1, 224, 224, 3), np.uint8)])


def test_no_room_for_buffers_is_one_sentence(bound, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", fail)
    with pytest.raises(EngineError, match=r"has no room for .*: CUDA error: out of memory\. Use a"):
        bound.judge(views(1, 1))


def test_other_failures_come_as_they_are(bound):
    with pytest.raises(EngineError, match="failed in the global graph") as raised:
        bound.judge(
            {
                "global": np.zeros((1, 99, 224, 3), np.float32),
                "local": np.zeros((1, 1, 1, 224, 224, 3), np.uint8),
            }
        )
    assert "--batch-size" not in str(raised.value)


def test_falling_back_to_the_cpu_is_refused(sessions):
    with pytest.raises(EngineError, match=r"CUDAExecutionProvider was asked for and could not be"):
        _check_provider(sessions["global"].session, "CUDAExecutionProvider")

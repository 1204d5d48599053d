"""Running plans: batches, lanes and streams, on a GPU that is made up (see fake_tensorrt)."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from pathlib import Path

import fake_tensorrt
import msgspec
import numpy as np
import pytest
from fake_tensorrt import FakeCuda
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.openvino import OpenVinoEngine
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.engines.tensorrt.api import Library
from glass_edge.runtime.engines.tensorrt.check import EngineCheck, blotches
from glass_edge.runtime.engines.tensorrt.device import Device
from glass_edge.runtime.engines.tensorrt.plan import (
    Batches,
    BuildOptions,
    Built,
    PlanRecord,
    plan_key,
)
from glass_edge.runtime.engines.tensorrt.store import StoredPlan
from glass_edge.runtime.machine.errors import EngineError
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ROLES

LIBRARY = Library("tensorrt", "10.3.0", fake_tensorrt)
MOST = 8
RTX_ALONE = ("CudaGraphStrategy",)
STUBS = Path(sys.prefix) / "stubs" / "tensorrt_bindings" / "tensorrt.pyi"


@pytest.fixture(scope="module")
def plans(vit_bundle, tmp_path_factory):
    """Plans that name their graphs, so that ONNX Runtime can run them."""
    folder = tmp_path_factory.mktemp("plans")
    found = {}
    for role in ROLES:
        path = folder / f"{role}.plan"
        path.write_bytes(f"{vit_bundle.graph_path(role)}\n{MOST}".encode())
        key = plan_key(
            vit_bundle, role, LIBRARY, "Fake GPU (sm_87)", BuildOptions(Batches(1, 4, MOST))
        )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        built = Built(1.0, (), (), {}, ())
        found[role] = StoredPlan(path, PlanRecord(key, "x", digest, 1, "now", built))
    return found


def views(images, crops, seed=0, draws=1):
    generator = np.random.default_rng(seed)
    overviews = generator.uniform(0, 255, (images, 224, 224, 3)).astype(np.float32)
    shape = (images, draws, crops, 224, 224, 3)
    return {"global": overviews, "local": generator.integers(0, 256, shape, dtype=np.uint8)}


@pytest.fixture(scope="module")
def network(vit_bundle):
    return open_engine(vit_bundle, "onnxruntime", EngineOptions("cpu", batch_size=MOST))


@pytest.mark.parametrize("graphs", [True, False], ids=["cuda-graphs", "no-cuda-graphs"])
class TestJudging:
    @settings(max_examples=8)
    @given(
        sizes=st.lists(
            st.tuples(st.integers(1, 11), st.integers(1, 5), st.integers(1, 3)),
            min_size=1,
            max_size=3,
        )
    )
    def test_any_number_of_images_draws_and_crops_gives_what_onnx_runtime_gives(
        self, graphs, sizes, vit_bundle, plans, network
    ):
        device = Device(vit_bundle, LIBRARY, FakeCuda(graphs=graphs), plans, MOST)
        for index, (images, crops, draws) in enumerate(sizes):
            given_views = views(images, crops, index, draws)
            expected = network.judge_draws(given_views)
            found = device.judge(given_views)
            assert found.logits == pytest.approx(expected.logits, abs=1e-5)
            assert found.attention == pytest.approx(expected.attention, abs=1e-6)

    def test_answers_are_the_callers_own(self, graphs, vit_bundle, plans):
        device = Device(vit_bundle, LIBRARY, FakeCuda(graphs=graphs), plans, MOST)
        first = device.judge(views(3, 2, 1)).logits
        kept = first.copy()
        device.judge(views(3, 2, 2))
        assert (first == kept).all()

    def test_nothing_is_allocated_the_second_time(self, graphs, vit_bundle, plans):
        cuda = FakeCuda(graphs=graphs)
        device = Device(vit_bundle, LIBRARY, cuda, plans, MOST)
        device.judge(views(5, 4))
        allocated, captured = cuda.allocations, cuda.captures
        device.judge(views(5, 4, 1))
        assert (cuda.allocations, cuda.captures) == (allocated, captured)
        assert (cuda.launches > 0) == graphs

    def test_each_graph_runs_alone(self, graphs, vit_bundle, plans, network):
        device = Device(vit_bundle, LIBRARY, FakeCuda(graphs=graphs), plans, MOST)
        given = views(3, 4)
        crops = given["local"][:, 0]
        (global_features,) = device.run("global", [given["global"]])
        (flat,) = device.run("local", [crops.reshape(12, 224, 224, 3)])
        assert flat == pytest.approx(network.features("local", crops.reshape(12, 224, 224, 3)))
        logits, _ = device.run("aggregator", [global_features, flat.reshape(3, 4, -1)])
        assert logits == pytest.approx(network.judge({**given, "local": crops}).logits, abs=1e-5)


class TestTheEngineCheck:
    def test_a_true_engine_passes(self, vit_bundle, plans):
        device = Device(vit_bundle, LIBRARY, FakeCuda(), plans, MOST)
        for role in ROLES:
            check = EngineCheck(vit_bundle).check(role, device.run, Batches(1, 4, MOST), "here")
            assert check.batches == (1, 4, MOST)
            assert check.error <= 1e-5
            assert check.duplicates <= 1e-5

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda values: values * 1.01, "a difference from the graph of"),
            (lambda values: np.where(values == values.max(), np.nan, values), "not finite"),
            (lambda values: np.roll(values, 1, axis=0), "a difference from the graph of"),
        ],
        ids=["wrong", "not-finite", "rows-exchanged"],
    )
    def test_one_that_computes_something_else_is_refused(self, spoil, words, vit_bundle, plans):
        device = Device(vit_bundle, LIBRARY, FakeCuda(), plans, MOST)

        def run(role, inputs):
            return [spoil(values) for values in device.run(role, inputs)]

        with pytest.raises(EngineError, match=words):
            EngineCheck(vit_bundle).check("local", run, Batches(1, 4, MOST), "here")

    def test_bf16_is_compared_with_openvino(self, make_precision):
        """Here the engine that is checked is another one of the same graphs, rounding alike."""
        bundle = make_precision("vit", "bf16")
        run = OpenVinoEngine(bundle, EngineOptions("cpu", 2)).run
        check = EngineCheck(bundle).check("local", run, Batches(1, 2, MOST), "here")
        assert check.error <= check.tolerance

    def test_its_views_look_like_pictures(self):
        pictures = blotches(2, 224)
        assert pictures.shape == (2, 224, 224, 3)
        assert (pictures.min(), pictures.max()) >= (0.0, 200.0)
        assert pictures.std() > 30
        assert np.abs(pictures[0] - pictures[1]).mean() > 10


class TestWhatIsRefused:
    def test_a_batch_larger_than_the_plans(self, vit_bundle, plans):
        device = Device(vit_bundle, LIBRARY, FakeCuda(), plans, 2 * MOST)
        with pytest.raises(EngineError, match="was not built for pixels of shape"):
            device.judge(views(1, 2 * MOST))

    def test_a_plan_of_which_a_byte_changed(self, vit_bundle, plans, tmp_path):
        changed = tmp_path / "global.plan"
        changed.write_bytes(plans["global"].path.read_bytes() + b" ")
        spoiled = plans | {"global": StoredPlan(changed, plans["global"].record)}
        with pytest.raises(EngineError, match="is not what was built"):
            Device(vit_bundle, LIBRARY, FakeCuda(), spoiled, MOST)

    def test_a_plan_that_the_library_cannot_load(self, vit_bundle, plans, tmp_path):
        path = tmp_path / "global.plan"
        path.write_bytes(b"/nowhere\n8")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        record = msgspec.structs.replace(plans["global"].record, sha256=digest)
        with pytest.raises(EngineError, match=r"cannot load global\.plan: it gives no reason"):
            Device(
                vit_bundle, LIBRARY, FakeCuda(), plans | {"global": StoredPlan(path, record)}, MOST
            )


def test_the_made_up_library_has_no_name_that_the_real_one_lacks():
    """Every public class and method here is in TensorRT's stubs, with the same parameters."""
    stubs = {
        node.name: node
        for node in ast.parse(STUBS.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    for name, made_up in inspect.getmembers(fake_tensorrt, inspect.isclass):
        if made_up.__module__ != fake_tensorrt.__name__ or name in ("FakeCuda", *RTX_ALONE):
            continue
        real = [node for node in stubs[name].body if isinstance(node, ast.FunctionDef)]
        signatures: dict[str, list[list[str]]] = {}
        for node in real:
            names = [argument.arg for argument in node.args.args]
            signatures.setdefault(node.name, []).append(names)
        for method, function in inspect.getmembers(made_up, inspect.isfunction):
            if not method.startswith("_"):
                assert list(inspect.signature(function).parameters) in signatures[method], method


def test_nor_has_the_made_up_tensorrt_rtx():
    rtx = pytest.importorskip("tensorrt_rtx")
    for name in RTX_ALONE:
        for member in getattr(fake_tensorrt, name):
            assert hasattr(getattr(rtx, name), member.name)
    made_up = vars(fake_tensorrt.IRuntimeConfig)
    for name in ("cuda_graph_strategy", "set_execution_context_allocation_strategy"):
        assert name in made_up
        assert hasattr(rtx.IRuntimeConfig, name)
    assert hasattr(rtx.ICudaEngine, "create_runtime_config")

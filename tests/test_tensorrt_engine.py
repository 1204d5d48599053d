"""The engine as glass-run opens it: plans found, built, checked and kept, on a made-up GPU."""

from __future__ import annotations

import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_tensorrt
import msgspec
import numpy as np
import pytest
from conftest import ROOT, call
from fake_tensorrt import FakeCuda, complain
from glass_edge.runtime.commands import build as build_cli
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.engines.tensorrt import engine, store
from glass_edge.runtime.engines.tensorrt.api import LIBRARY_NAMES, Library
from glass_edge.runtime.engines.tensorrt.plan import Check
from glass_edge.runtime.machine.errors import EngineError, OutputError
from networks import ROLES

GPU = "Fake GPU (sm_87)"


class Place:
    """A machine with a made-up TensorRT: opens engines of a bundle and remembers what was built."""

    def __init__(self, bundle, folder, patch):
        self.bundle, self.folder, self.patch = bundle, folder, patch
        self.built, self.cuda = [], FakeCuda(strict=True)
        patch.setattr(store, "build_plan", self.build)
        for module in (engine, build_cli):
            patch.setattr(
                module, "find_library", lambda name: Library(name, "10.3.0", fake_tensorrt)
            )
            patch.setattr(module, "open_cuda", lambda: self.cuda)

    def build(self, graph, key, *rest):
        self.built.append(key.role)
        return fake_tensorrt.build_plan(graph, key, *rest)

    def open(self, batch_size=8, name="tensorrt", **cuda):
        self.cuda = FakeCuda(strict=True, **cuda)
        options = EngineOptions("cuda", batch_size=batch_size, folder=self.folder)
        return open_engine(self.bundle, name, options)

    def store(self):
        return store.PlanStore(self.bundle, self.folder)

    def plan(self, role):
        (path,) = self.folder.glob(f"*/{role}-*.plan")
        return path

    def record(self, role):
        content = self.plan(role).with_suffix(".json").read_bytes()
        return msgspec.json.decode(content, type=store.PlanRecord)

    def stored(self, role):
        return self.store().find(self.record(role).key)


@pytest.fixture
def place(vit_bundle, tmp_path, monkeypatch):
    return Place(vit_bundle, tmp_path / "engines", monkeypatch)


def views(images, crops):
    generator = np.random.default_rng(images * crops)
    overviews = generator.uniform(0, 255, (images, 224, 224, 3)).astype(np.float32)
    crops = generator.integers(0, 256, (images, crops, 224, 224, 3), dtype=np.uint8)
    return {"global": overviews, "local": crops}


@pytest.mark.parametrize("name", LIBRARY_NAMES)
def test_it_judges_as_onnx_runtime_does_from_any_thread(name, place, vit_bundle):
    network = place.open(name=name)
    reference = open_engine(vit_bundle, "onnxruntime", EngineOptions("cpu"))
    assert network.description == f"{name} 10.3.0 {GPU}"
    with ThreadPoolExecutor(2) as pool:
        for given in (views(3, 4), views(1, 2), views(3, 4)):
            found = pool.submit(network.judge, given).result()
            expected = reference.judge(given)
            assert found.logits == pytest.approx(expected.logits, abs=1e-5)
            assert found.attention == pytest.approx(expected.attention, abs=1e-6)
    # TensorRT-RTX keeps CUDA graphs itself.
    assert (place.cuda.launches > 0) == (name == "tensorrt")


def test_int8_for_cpus_is_refused_before_anything_is_built(make_precision, tmp_path, monkeypatch):
    place = Place(make_precision("vit", "int8"), tmp_path / "engines", monkeypatch)
    with pytest.raises(EngineError, match="glass-quantize --precision int8 --int8-rest fp16"):
        place.open()
    assert place.built == []
    assert not place.folder.exists()


class TestPlans:
    def test_are_built_once_for_all_batches_up_to_the_usual_most(self, place, caplog):
        place.open(batch_size=4)
        assert place.built == list(ROLES)
        assert "building the global engine: there was none" in caplog.text
        place.open(batch_size=16)
        place.open(batch_size=64)
        assert place.built == list(ROLES)
        place.open(batch_size=65)
        assert place.built == [*ROLES, *ROLES]

    def test_a_damaged_or_missing_one_is_built_again(self, place, caplog):
        place.open()
        place.plan("local").write_bytes(b"other bytes")
        place.plan("global").unlink()
        caplog.clear()
        place.open()
        assert place.built[3:] == ["global", "local"]
        assert "building the global engine: its file was damaged" in caplog.text

    def test_an_older_one_serves_where_the_newest_is_damaged(self, place):
        place.open(batch_size=64)
        kept = place.plan("local")
        place.open(batch_size=65)
        (newer,) = set(place.folder.glob("*/local-*.plan")) - {kept}
        newer.write_bytes(b"other bytes")
        place.built.clear()
        place.open(batch_size=64)
        assert place.built == []

    def test_free_memory_makes_no_other_plan(self, place):
        """Which varies, so that glass-build would build everything again each time."""
        outputs = []
        for room in (1 << 30, 1 << 29):
            place.cuda = FakeCuda(room=room, strict=True)
            options = ("--library", "tensorrt", "--engine-dir", place.folder)
            done = call("glass-build", ROOT, place.bundle.path, *options)
            assert done.returncode == 0, done.stderr
            outputs.append(done.stdout)
        assert outputs[0].count("built: there was none") == 3
        assert outputs[1].count("was there") == 3
        place.open()
        assert place.built == list(ROLES)

    def test_what_killed_processes_left_is_removed_by_the_next_build(self, place):
        folder = place.store().folder
        (folder / ".building-local-x").mkdir()
        left = [folder / "local-0123.plan", folder / "local-0123.77.partial"]
        kept = [folder / "global-0123.plan", folder / "notes.txt"]
        for path in (*left, *kept):
            path.touch()
        place.store().build(engine.plan_key(*self.key(place)), lambda progress: None)
        assert not any(path.exists() for path in (*left, folder / ".building-local-x"))
        assert all(path.exists() for path in kept)

    def key(self, place):
        library = Library("tensorrt", "10.3.0", fake_tensorrt)
        options = engine.BuildOptions(engine.Batches(1, 4, 8))
        return place.bundle, "local", library, GPU, options

    def test_of_the_users_cache_those_of_the_bundles_used_last_stay(
        self, place, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("GLASS_CACHE", str(tmp_path / "cache"))
        engines = tmp_path / "cache" / "engines"
        for number in range(20):
            (engines / f"{number:02}").mkdir(parents=True)
        (engines / "timings-x.cache").touch()
        place.folder = None
        place.open()
        assert (engines / "timings-x.cache").exists()
        assert len([path for path in engines.iterdir() if path.is_dir()]) == 16
        assert list(place.store().folder.glob("*.plan"))


class TestTheCheck:
    def test_is_noted_and_not_repeated(self, place):
        place.open(batch_size=8)
        for role in ROLES:
            check = place.record(role).check
            assert (check.gpu, check.batches) == (GPU, (1, 8))
            assert check.error <= 1e-5
        self.spoil(place, above=0)
        place.open(batch_size=8)
        place.open(batch_size=4)

    def test_a_larger_batch_than_was_tried_is_tried_first(self, place):
        self.spoil(place, above=4)
        place.open(batch_size=4)
        with pytest.raises(EngineError, match=r"global graph gives a difference from the graph"):
            place.open(batch_size=8)
        assert place.record("global").check.batches == (1, 4)
        place.open(batch_size=4)

    def test_so_is_another_gpu(self, place):
        place.open()
        assert place.record("local").key.gpu == GPU
        stored = place.stored("local")
        elsewhere = msgspec.structs.replace(stored.record.check, gpu="Another GPU (sm_90)")
        place.store().add_check(stored, elsewhere)
        place.open()
        assert place.record("local").check.gpu == GPU

    def test_is_not_noted_for_a_plan_that_was_replaced_meanwhile(self, place):
        place.open()
        stored = place.stored("local")
        place.patch.setattr(
            fake_tensorrt, "build_plan", lambda graph, key, target, *rest: self.other(target)
        )
        place.store().build(stored.record.key, lambda progress: None, again=True)
        place.store().add_check(stored, Check((1,), 0.5, 0.5, 1.0, GPU))
        record = place.record("local")
        assert record.check is None
        assert record.sha256 != stored.record.sha256

    def other(self, target):
        target.write_text("another plan")
        return fake_tensorrt.Built(2.0, (), (), {}, ())

    def test_a_cache_that_cannot_be_written_costs_only_the_note(self, place):
        place.open()
        stored = place.stored("local")
        store._write(
            stored.path.with_suffix(".json"), msgspec.structs.replace(stored.record, check=None)
        )
        self.make_unwritable(place)
        place.open()
        assert place.record("local").check is None

    def make_unwritable(self, place):
        """Even for root: a folder where the lock's file should be."""
        for role in ROLES:
            lock = place.store().folder / f"{role}.lock"
            lock.unlink(missing_ok=True)
            lock.mkdir()

    def test_but_a_plan_that_is_missing_is_one_sentence(self, place):
        self.make_unwritable(place)
        with pytest.raises(OutputError, match="the plan cannot be written to"):
            place.open()

    def spoil(self, place, above):
        """Make engines compute something else in batches larger than this."""
        compute = fake_tensorrt.IExecutionContext._compute

        def spoilt(context):
            compute(context)
            rows = next(iter(context._shapes.values()))[0]
            (output,) = [t for t in context._engine.session.get_outputs() if t.name != "attention"]
            values = fake_tensorrt._at(
                context._addresses[output.name], (rows, output.shape[1]), np.float32
            )
            values += 1.0 if rows > above else 0.0

        place.patch.setattr(fake_tensorrt.IExecutionContext, "_compute", spoilt)


def test_an_engine_that_is_dropped_gives_its_memory_back(place):
    network, cuda = place.open(), place.cuda
    network.judge(views(2, 2))
    assert not cuda.closed
    del network
    gc.collect()
    assert cuda.closed


def test_so_does_one_that_was_refused(place):
    TestTheCheck().spoil(place, above=0)
    with pytest.raises(EngineError):
        place.open()
    gc.collect()
    assert place.cuda.closed


def test_what_cannot_be_captured_is_launched_and_said_once_for_each_graph(
    place, vit_bundle, caplog
):
    reference = open_engine(vit_bundle, "onnxruntime", EngineOptions("cpu"))
    with caplog.at_level(logging.WARNING):
        network = place.open(graphs="cudaErrorStreamCaptureUnsupported: not permitted")
        for given in (views(3, 4), views(1, 2), views(3, 4)):
            assert network.judge(given).logits == pytest.approx(
                reference.judge(given).logits, abs=1e-5
            )
    assert caplog.text.count("runs without CUDA graphs: cudaErrorStreamCaptureUnsupported") == 3
    assert (place.cuda.captures, place.cuda.launches) == (3, 0)


class TestFailures:
    def test_more_crops_than_the_plans_take(self, place):
        network = place.open()
        with pytest.raises(EngineError, match=r"at most 64 crops of an image\. Use fewer --crops"):
            network.judge(views(1, 65))

    @pytest.mark.parametrize(
        ("method", "answer", "how"),
        [
            ("ICudaEngine.create_execution_context", None, "the global engine cannot run"),
            ("IExecutionContext.execute_async_v3", False, "the global engine failed"),
        ],
    )
    @pytest.mark.parametrize(
        ("said", "advice"),
        [
            ("Cuda Runtime (out of memory)", "Use a smaller --batch-size, or close what else"),
            ("Error Code 10: Internal Error", "Build it again with glass-build --force"),
        ],
    )
    def test_of_the_library_are_told_in_its_words_and_with_advice(
        self, method, answer, how, said, advice, place
    ):
        place.open()
        owner, name = method.split(".")

        def failing(thing, *_):
            complain(getattr(thing, "_engine", thing).logger, said)
            return answer

        place.patch.setattr(getattr(fake_tensorrt, owner), name, failing)
        with pytest.raises(EngineError) as raised:
            place.open().judge(views(1, 1))
        assert str(raised.value).startswith(f"{how}: {said}. {advice}")

    def test_a_plan_for_which_there_is_no_memory(self, place):
        place.open()

        def full(runtime, content):
            complain(runtime._logger, "Error Code 2: OutOfMemory")

        place.patch.setattr(fake_tensorrt.Runtime, "deserialize_cuda_engine", full)
        with pytest.raises(EngineError, match=r"cannot load global-.*OutOfMemory\. Close what"):
            place.open()

    def test_a_gpu_that_the_library_does_not_serve(self, place):
        """As TensorRT-RTX 1.7 says it on an H200."""
        place.open()

        def refused(runtime, content):
            complain(
                runtime._logger,
                "Error Code 6: The engine cannot run on this GPU, which has compute capability "
                "9.0. TensorRT-RTX does not support this compute capability.",
            )

        place.patch.setattr(fake_tensorrt.Runtime, "deserialize_cuda_engine", refused)
        with pytest.raises(EngineError, match=r"capability 9\.0\..* Run with --engine onnxruntime"):
            place.open()

    def test_a_driver_too_old_for_the_library(self, place):
        """As pybind11 says it: the constructor returned nothing."""

        class Runtime:
            def __init__(self, logger):
                complain(logger, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")

        place.patch.setattr(fake_tensorrt, "Runtime", Runtime)
        with pytest.raises(EngineError, match=r"error: 35.*the driver is new enough"):
            place.open()

    def test_a_plan_that_goes_away_while_it_is_loaded(self, place):
        place.open()
        stored = place.stored("local")
        stored.path.unlink()
        with pytest.raises(EngineError, match=r"cannot be read \(No such file or directory\)"):
            stored.load()

    def test_the_cpu(self, place):
        with pytest.raises(EngineError, match="runs on an NVIDIA GPU, not on the cpu"):
            open_engine(place.bundle, "tensorrt", EngineOptions("cpu", folder=Path("/nowhere")))

"""Building, keeping and describing plans, with TensorRT-RTX, whose compiler needs no GPU."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import onnx
import pytest
from conftest import FAMILIES, PROGRAMS, ROOT, call, launch, refusal, slow_but
from fake_tensorrt import FakeCuda
from glass_edge.runtime.engines.tensorrt.api import Library, Messages, find_library, made
from glass_edge.runtime.engines.tensorrt.build import build_plan
from glass_edge.runtime.engines.tensorrt.compile import (
    _failed,
    keep_timings,
    reuse_timings,
    workspace_for,
)
from glass_edge.runtime.engines.tensorrt.plan import (
    Batches,
    BuildOptions,
    PlanRecord,
    default_batches,
    plan_key,
    runs_as,
)
from glass_edge.runtime.engines.tensorrt.store import PlanStore
from glass_edge.runtime.machine.errors import EngineError, InputError
from glass_edge.runtime.machine.progress import silent
from networks import ROLES
from onnx import TensorProto, helper
from test_bundle import other_aggregator
from test_isolation import trap
from waiting import until

from glass_edge import Bundle, BundleError

pytest.importorskip("tensorrt_rtx")

LIBRARY = find_library("tensorrt-rtx")
OPTIONS = BuildOptions(Batches(1, 4, 8))
LOW = {"fp16": {"HALF"}, "bf16": {"BF16"}, "int8": {"INT8", "HALF"}}
GLASS_BUILD = PROGRAMS / "glass-build"
glass_build = partial(call, "glass-build")


def key_of(bundle, role="aggregator", options=OPTIONS, library=LIBRARY):
    return plan_key(bundle, role, library, "any", options)


@pytest.mark.parametrize(
    ("family", "precision"),
    slow_but(
        [("vit", "int8"), ("timm", "fp32")],
        [(family, precision) for family in FAMILIES for precision in ("fp32", *LOW)],
    ),
)  # fmt: skip
def test_every_graph_of_every_family_builds_in_what_it_says(
    family, precision, make_precision, tmp_path
):
    bundle = make_precision(family, precision, "fp16" if precision == "int8" else "fp32")
    store = PlanStore(bundle, tmp_path)
    side, streams = bundle.manifest.views.crop_size, bundle.manifest.streams
    types = {"global": "FLOAT", "local": "UINT8"}
    for role in ROLES:
        stored, why = store.build(key_of(bundle, role))
        built = stored.record.built
        assert why == "there was none"
        assert stored.path.stat().st_size == stored.record.size > 10_000
        assert {tensor.dtype for tensor in built.outputs} == {"FLOAT"}
        if role != "aggregator":
            (pixels,) = built.inputs
            assert (pixels.name, pixels.dtype) == ("pixels", types[role])
            assert pixels.shapes == tuple((n, side, side, 3) for n in (1, 4, 8))
            assert built.outputs[0].shape == (-1, streams[role].width)
        low = set(built.layers) & set().union(*LOW.values())
        assert low == (LOW[precision] if precision != "fp32" and role != "aggregator" else set())


class TestUnsignedInt8:
    """Bundles for CPUs; TensorRT knows signed INT8 alone."""

    @pytest.fixture
    def unsigned(self, make_precision):
        return make_precision("vit", "int8")

    def test_is_refused_before_anything_is_built_or_written(self, unsigned, tmp_path):
        done = glass_build(ROOT, unsigned.path, "--engine-dir", tmp_path / "engines")
        assert refusal(done).endswith(
            f"Error: {unsigned.name} is INT8 for CPUs, with unsigned values that TensorRT cannot "
            "compute: glass-quantize --precision int8 --int8-rest fp16 makes one that it computes."
        )
        assert not (tmp_path / "engines").exists()

    def test_would_be_read_as_signed_without_an_error(self, unsigned):
        """So that nothing above half of the range would be left."""
        api = LIBRARY.api
        messages = Messages()
        network = api.Builder(logger := messages.logger(LIBRARY)).create_network(0)
        parser = api.OnnxParser(network, logger)
        assert parser.parse_from_file(str(unsigned.graph_path("global")))
        assert "Defaulting to INT8 instead" in " ".join(messages.warnings)


def test_a_plan_for_many_gpus_is_built(vit_bundle, tmp_path):
    store = PlanStore(vit_bundle, tmp_path)
    options = msgspec.structs.replace(OPTIONS, hardware_compatible=True)
    stored, _ = store.build(key_of(vit_bundle, options=options))
    assert stored.record.key.options.hardware_compatible
    assert stored.record.size > 10_000


def test_a_plan_for_later_versions_needs_a_library_that_tensorrt_rtx_lacks(vit_bundle, tmp_path):
    """So this is as far as that option can be followed without TensorRT itself."""
    options = msgspec.structs.replace(OPTIONS, version_compatible=True)
    with pytest.raises(EngineError, match=r"libnvinfer_lean.*Leave --version-compatible out"):
        PlanStore(vit_bundle, tmp_path).build(key_of(vit_bundle, options=options))


@pytest.mark.slow
def test_weights_that_both_graphs_share_are_found(shared_bundle, tmp_path):
    store = PlanStore(shared_bundle, tmp_path)
    for role in ROLES:
        stored, _ = store.build(key_of(shared_bundle, role))
        assert stored.record.size > 10_000


def test_the_aggregator_takes_any_number_of_crops(vit_bundle, tmp_path):
    stored, _ = PlanStore(vit_bundle, tmp_path).build(key_of(vit_bundle))
    shapes = {tensor.name: tensor.shapes for tensor in stored.record.built.inputs}
    width = vit_bundle.manifest.streams["local"].width
    assert shapes["local_features"] == ((1, 1, width), (4, 32, width), (8, 64, width))


def test_the_defaults_follow_from_the_bundle(vit_bundle):
    assert vit_bundle.manifest.views.num_crops == 10
    assert default_batches(vit_bundle) == Batches(1, 16, 64)


class TestKeeping:
    @pytest.fixture
    def store(self, vit_bundle, tmp_path):
        store = PlanStore(vit_bundle, tmp_path)
        store.build(key_of(vit_bundle))
        return store

    def test_a_plan_is_built_once(self, store, vit_bundle):
        before = self.files(store)
        stored, why = store.build(key_of(vit_bundle))
        assert why is None
        assert stored == store.find(key_of(vit_bundle))
        assert self.files(store) == before

    def test_it_can_be_asked_for_again(self, store, vit_bundle):
        _, why = store.build(key_of(vit_bundle), again=True)
        assert why == "it was asked for"

    def test_other_options_make_another_plan(self, store, vit_bundle):
        options = BuildOptions(Batches(1, 8, 16))
        _, why = store.build(key_of(vit_bundle, options=options))
        assert why == "there was none with these options"
        assert store.find(key_of(vit_bundle)) is not None

    def test_running_takes_a_plan_however_it_was_built_if_it_serves_the_batches(
        self, store, vit_bundle
    ):
        for most, fits in ((8, True), (9, False)):
            needed = key_of(vit_bundle, options=BuildOptions(Batches(1, 1, most)))
            assert (store.find_fitting(needed) is not None) == fits

    @pytest.mark.parametrize(
        ("built_with", "there", "runs"),
        [
            ({"version_compatible": True}, {"version": "1.3.0"}, True),
            ({"version_compatible": True}, {"version": "0.9.0"}, False),
            ({}, {"version": "1.3.0"}, False),
            ({"hardware_compatible": True}, {"gpu": "NVIDIA A100 (sm_80)"}, True),
            ({"hardware_compatible": True}, {"version": "1.3.0"}, False),
            ({}, {"gpu": "NVIDIA A100 (sm_80)"}, False),
        ],
    )
    def test_compatible_plans_run_elsewhere(self, built_with, there, runs, vit_bundle):
        options = msgspec.structs.replace(OPTIONS, **built_with)
        here = {"gpu": "NVIDIA H100 (sm_90)"}
        wanted = msgspec.structs.replace(key_of(vit_bundle), **here)
        found = msgspec.structs.replace(wanted, options=options, **there)
        assert runs_as(found, wanted) == runs

    def test_another_version_replaces_it_and_says_why(self, store, vit_bundle):
        self.pretend(store, vit_bundle, version="1.3.0")
        assert store.find(key_of(vit_bundle)) is None
        _, why = store.build(key_of(vit_bundle))
        assert why == (
            f"the one there was built for tensorrt-rtx 1.3.0, and this is {LIBRARY.version}"
        )
        assert len(list(store.folder.glob("*.plan"))) == 1

    def test_a_plan_for_another_gpu_stays_beside_the_new_one(self, store, vit_bundle):
        self.pretend(store, vit_bundle, gpu="NVIDIA Orin (sm_87)")
        _, why = store.build(key_of(vit_bundle))
        assert why == "the one there was built for NVIDIA Orin (sm_87), and this is any"
        assert len(list(store.folder.glob("*.plan"))) == 2

    def test_a_damaged_plan_is_built_again(self, store, vit_bundle):
        stored = store.find(key_of(vit_bundle))
        with open(stored.path, "r+b") as file:
            file.write(b"other bytes")
        with pytest.raises(EngineError, match="is not what was built"):
            stored.load()
        _, why = store.build(key_of(vit_bundle))
        assert why == "its file was damaged"

    def test_a_sidecar_that_is_no_record_counts_as_none(self, store, vit_bundle):
        (sidecar,) = store.folder.glob("*.json")
        sidecar.write_text("{}")
        _, why = store.build(key_of(vit_bundle))
        assert why == "there was none"

    def files(self, store):
        kept = [path for path in store.folder.iterdir() if path.suffix != ".lock"]
        return {path.name: path.stat().st_mtime_ns for path in kept}

    def pretend(self, store, bundle, **fields):
        """Make the plan there look like one that another machine built."""
        stored = store.find(key_of(bundle))
        key = msgspec.structs.replace(stored.record.key, **fields)
        record = msgspec.structs.replace(stored.record, key=key)
        path = store.folder / f"aggregator-{key.digest}.plan"
        stored.path.rename(path)
        stored.path.with_suffix(".json").unlink()
        path.with_suffix(".json").write_bytes(msgspec.json.encode(record))


def test_a_graph_that_changed_after_its_hash_was_checked_leaves_no_plan(copied_bundle, tmp_path):
    bundle, store = (
        Bundle.open(copied_bundle),
        PlanStore(Bundle.open(copied_bundle), tmp_path / "e"),
    )
    (copied_bundle / "aggregator.onnx").write_bytes(other_aggregator(copied_bundle))
    with pytest.raises(BundleError, match=r"changed since it was opened: aggregator\.onnx"):
        store.build(key_of(bundle))
    assert [path.name for path in store.folder.iterdir()] == ["aggregator.lock"]


class TestTheCommand:
    def test_a_bundle_is_built_and_described(self, vit_bundle, tmp_path):
        command = (ROOT, vit_bundle.path, "--engine-dir", tmp_path, "--builder-level", 1)
        done = launch("glass-build", *command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("built: there was none") == 3
        assert "will be compared with ONNX Runtime when they first run on a GPU" in done.stderr
        records = [
            msgspec.json.decode(path.read_bytes(), type=PlanRecord)
            for path in tmp_path.rglob("*.json")
        ]
        assert {record.key.role for record in records} == set(ROLES)
        assert {record.key.options.level for record in records} == {1}
        assert {record.check for record in records} == {None}
        again = glass_build(*command)
        assert again.stdout.count("was there") == 3

    @pytest.mark.skipif(sys.platform == "win32", reason="a terminal is made for it")
    @pytest.mark.slow
    def test_a_terminal_shows_the_time_so_far_and_each_phase(self, vit_bundle, tmp_path):
        import pty

        ours, theirs = pty.openpty()
        command = [GLASS_BUILD, vit_bundle.path, "--engine-dir", tmp_path]
        environment = os.environ | {"COLUMNS": "120", "TERM": "xterm"}
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment
        )
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how a terminal ends
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        assert process.wait() == 0
        for role in ROLES:
            assert f"building the {role} graph" in shown.decode()
        assert re.search(r"0:00:0\d", shown.decode())
        assert re.search(r"\d+/\d+", shown.decode())

    @pytest.mark.slow
    def test_two_at_once_build_once(self, vit_bundle, tmp_path):
        command = [GLASS_BUILD, vit_bundle.path, "--engine-dir", tmp_path]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = [process.communicate()[0] for process in both]
        assert sum(text.count("built: there was none") for text in outputs) == 3
        assert sum(text.count("was there") for text in outputs) == 3

    def test_a_killed_compiler_is_one_sentence_and_leaves_nothing(self, vit_bundle, tmp_path):
        process, compiler = self.building(vit_bundle, tmp_path)
        os.kill(compiler, signal.SIGKILL)
        _, words = process.communicate()
        assert process.returncode == 2
        assert "was killed, most likely because memory ran out" in words
        assert [path.name for path in tmp_path.glob("*/*") if path.suffix != ".lock"] == []

    def test_a_killed_build_takes_its_compiler_with_it(self, vit_bundle, tmp_path):
        process, compiler = self.building(vit_bundle, tmp_path)
        process.kill()
        process.communicate()
        until(lambda: not Path(f"/proc/{compiler}").exists())
        done = glass_build(ROOT, vit_bundle.path, "--engine-dir", tmp_path)
        assert done.returncode == 0
        assert not list(tmp_path.glob("*/.building-*"))

    def test_a_workspace_that_is_too_small_is_one_sentence(self, vit_bundle, tmp_path):
        options = ("--engine-dir", tmp_path, "--workspace", 1e-5)
        sentence = refusal(glass_build(ROOT, vit_bundle.path, *options))
        assert "cannot build the global graph" in sentence
        assert "Give it a larger --workspace" in sentence
        assert [path.name for path in tmp_path.glob("*/*") if path.suffix != ".lock"] == []

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--min-batch", 9, "--max-batch", 4], "batch sizes must rise"),
            (["--builder-level", 6], "6 is not in the range 0<=x<=5"),
            (["--library", "tensort"], "'tensort' is not one of 'tensorrt', 'tensorrt-rtx'"),
            (["--library", "tensorrt"], "tensorrt is not installed: on a Jetson"),
        ],
    )
    def test_wrong_usage_is_one_sentence(self, arguments, sentence, vit_bundle, tmp_path):
        done = glass_build(ROOT, vit_bundle.path, "--engine-dir", tmp_path, *arguments)
        assert sentence in refusal(done)

    def test_no_code_is_taken_from_the_working_directory(self, vit_bundle, tmp_path):
        folder = trap(tmp_path / "downloads")
        engines = tmp_path / "engines"
        done = launch("glass-build", folder, vit_bundle.path, "--engine-dir", engines)
        assert done.returncode == 0, done.stderr
        assert not (folder / "sprung").exists()

    def building(self, bundle, folder):
        """Start a build; return it and its compiler's process id once that is at work."""
        process = subprocess.Popen(
            [GLASS_BUILD, bundle.path, "--engine-dir", folder],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        return process, int(until(lambda: children.read_text().split())[0])


class TestLibraries:
    def test_an_old_one_is_refused(self, tmp_path, monkeypatch):
        self.install(tmp_path, monkeypatch, '__version__ = "8.6.1"')
        with pytest.raises(EngineError, match=r"tensorrt 8.6.1 is too old: 10.3 or newer"):
            find_library("tensorrt")

    def test_an_installers_shell_is_told_from_the_library(self, tmp_path, monkeypatch):
        self.install(tmp_path, monkeypatch, "")
        with pytest.raises(EngineError, match="only an installer, without the library"):
            find_library("tensorrt")

    def test_one_that_misses_a_library_says_which(self, tmp_path, monkeypatch):
        self.install(tmp_path, monkeypatch, "import ctypes; ctypes.CDLL('libnvinfer.so.10')")
        with pytest.raises(EngineError, match=r"cannot be loaded: libnvinfer.so.10"):
            find_library("tensorrt")

    def test_rtx_is_taken_where_the_other_is_not(self):
        assert find_library().name == "tensorrt-rtx"

    def install(self, folder, monkeypatch, content):
        (folder / "tensorrt").mkdir()
        (folder / "tensorrt" / "__init__.py").write_text(content)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setitem(sys.modules, "tensorrt", None)  # so that it is forgotten afterwards
        del sys.modules["tensorrt"]


def test_an_operator_that_the_parser_does_not_know_is_named(vit_bundle, tmp_path):
    strange = helper.make_node("Bespoke", ["pixels"], ["features"], "odd", domain="our.own")
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4])
        for name in ("pixels", "features")
    ]
    graph = helper.make_graph([strange], "strange", tensors[:1], tensors[1:])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("our.own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports), tmp_path / "strange.onnx")
    with pytest.raises(EngineError, match=r"cannot read the global graph: .*Bespoke"):
        build_plan(
            tmp_path / "strange.onnx",
            key_of(vit_bundle, "global"),
            tmp_path / "plan",
            None,
            silent,
        )
    assert not (tmp_path / "plan").exists()


@pytest.mark.filterwarnings("ignore:.*no-ops in TensorRT-RTX")
@pytest.mark.parametrize("before", [None, b"", b"of another version"])
def test_times_of_kernels_are_kept_from_build_to_build(before, tmp_path):
    """TensorRT-RTX takes the calls and times nothing; TensorRT could not be had for this test."""
    api, kept = LIBRARY.api, tmp_path / "timings.cache"
    if before is not None:
        kept.write_bytes(before)
    logger = api.Logger(api.Logger.ERROR)
    builder = api.Builder(logger)
    config = builder.create_builder_config()
    reuse_timings(config, kept)
    keep_timings(config, kept)
    assert len(kept.read_bytes()) > len(before or b"")
    assert [path.name for path in tmp_path.iterdir()] == ["timings.cache"]


def test_times_that_cannot_be_kept_cost_no_plan(vit_bundle, tmp_path):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "timings.cache"
    graph = vit_bundle.graph_path("aggregator")
    built = build_plan(graph, key_of(vit_bundle), tmp_path / "plan", place, silent)
    assert (tmp_path / "plan").stat().st_size > 10_000
    assert built.layers


def test_a_full_disk_is_one_sentence(vit_bundle):
    graph = vit_bundle.graph_path("aggregator")
    with pytest.raises(EngineError) as raised:
        build_plan(graph, key_of(vit_bundle), Path("/dev/full"), None, silent)
    assert str(raised.value) == (
        "the plan of the aggregator graph cannot be written to /dev: No space left on device. "
        "Make room there, or choose another place with --engine-dir."
    )


@pytest.mark.parametrize(
    ("name", "asked", "gets"),
    [("tensorrt", 0, 3000), ("tensorrt", 7, 7), ("tensorrt-rtx", 0, 0), ("tensorrt-rtx", 7, 7)],
)
def test_scratch_is_what_was_asked_for_or_three_quarters_of_what_is_free(
    name, asked, gets, monkeypatch
):
    monkeypatch.setattr(
        "glass_edge.runtime.engines.tensorrt.compile.open_cuda",
        lambda: FakeCuda(room=4000, strict=True),
    )
    library = Library(name, LIBRARY.version, LIBRARY.api)
    assert workspace_for(library, msgspec.structs.replace(OPTIONS, workspace=asked)) == gets


@pytest.mark.parametrize("sizes", [(0, 1, 2), (2, 1, 4), (1, 4, 2)])
def test_batches_rise(sizes):
    with pytest.raises(InputError, match="must rise"):
        Batches(*sizes)


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Error Code 2: OutOfMemory (Requested size was 9437184 bytes.)", "smaller --max-batch"),
        ("Error Code 1: Cuda Runtime (out of memory)", "close what else uses the memory"),
        ("due to insufficient workspace for node conv", "a larger --workspace"),
        ("Error Code 10: Internal Error", "report this"),
    ],
)
def test_what_the_library_says_becomes_advice(said, advice, vit_bundle):
    assert advice in _failed(key_of(vit_bundle), said)


def test_a_driver_too_old_is_named():
    """Full TensorRT's constructor returns nothing, as it did where it found no driver."""

    def builder(logger):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    messages = Messages(errors=["CUDA initialization failure with error: 35"])
    with pytest.raises(EngineError, match=r"error: 35.*the driver is new enough"):
        made(builder, messages, logger=None)


def test_running_without_a_gpu_says_what_to_look_at(vit_bundle, photographs):
    from glass_edge import Detector, DetectorOptions

    with pytest.raises(EngineError, match=r"CUDA finds no GPU .*nvidia-smi"):
        Detector(vit_bundle, DetectorOptions(engine="tensorrt-rtx"))
    with pytest.raises(EngineError, match="runs on an NVIDIA GPU, not on the cpu"):
        Detector(vit_bundle, DetectorOptions(engine="tensorrt-rtx", device="cpu"))

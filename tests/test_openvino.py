"""The OpenVINO engine computes what it says, and keeps what it compiled."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from conftest import FAMILIES, slow, slow_but
from glass_edge.calibration.judging.comparison import compare_bundles
from glass_edge.runtime.bundle.streams import Role
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.openvino import OpenVinoEngine
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.machine.cache import alone_with, cache_folder, recent_folder
from networks import ROLES

from glass_edge import Detector, DetectorOptions, EngineError

pytestmark = pytest.mark.usefixtures("every_cpu")

OPENVINO = DetectorOptions(engine="openvino")


@pytest.mark.parametrize("family", slow_but(["vit"], FAMILIES))
def test_fp32_is_computed_in_fp32_whatever_the_cpu_prefers(family, export_family, photographs):
    bundle = export_family(family)
    ours = Detector(bundle, OPENVINO).detect(photographs)
    theirs = Detector(bundle, DetectorOptions(engine="onnxruntime")).detect(photographs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.precision == "fp32"
        assert one.engine.startswith("openvino 20")
        assert list(one.logits.values()) == pytest.approx(list(other.logits.values()), abs=1e-4)
        assert [crop.attention for crop in one.crops] == pytest.approx(
            [crop.attention for crop in other.crops], abs=1e-4
        )


def computed_in(engine: OpenVinoEngine, role: Role) -> dict[str, set[str]]:
    """What OpenVINO itself says that each kind of operator of a graph computes in."""
    compiled = engine._requests[role].queue[0].get_compiled_model()
    found: dict[str, set[str]] = {}
    for operator in compiled.get_runtime_model().get_ordered_ops():
        info = operator.get_rt_info()
        kind, precision = (info[key].astype(str) for key in ("layerType", "runtimePrecision"))
        found.setdefault(kind, set()).add(precision)
    return found


@pytest.mark.parametrize(
    ("family", "products", "normalisations"),
    [
        ("vit", {"FullyConnected", "MatMul", "Convolution"}, {"MVN", "Softmax"}),
        slow("convnext", {"FullyConnected", "Convolution"}, {"MVN"}),
    ],
)
def test_bf16_is_what_the_graph_says_and_no_more(family, products, normalisations, make_precision):
    engine = OpenVinoEngine(make_precision(family, "bf16"), EngineOptions("cpu", 1))
    if engine.precision != "bf16":
        pytest.skip("this CPU has no BF16")
    for role in ("global", "local"):
        found = computed_in(engine, role)
        assert set().union(*(found[kind] for kind in products)) == {"bf16"}
        assert set().union(*(found[kind] for kind in normalisations)) == {"f32"}
    assert "bf16" not in set().union(*computed_in(engine, "aggregator").values())


def test_fp16_is_computed_in_fp32_and_said_to_be(make_precision):
    engine = OpenVinoEngine(make_precision("vit", "fp16"), EngineOptions("cpu", 1))
    assert engine.precision == "fp32"
    for role in ROLES:
        assert "f16" not in set().union(*computed_in(engine, role).values())


def test_a_convnext_compiled_for_full_batches_computes_the_same_of_fewer(export_family):
    bundle = export_family("convnext")
    full = OpenVinoEngine(bundle, EngineOptions("cpu", 1, batch_size=8, images=2))
    any_number = OpenVinoEngine(bundle, EngineOptions("cpu", 1, batch_size=8))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8)
    for rows in (1, 5, 8):
        (found,), (expected,) = (each.run("local", [pixels[:rows]]) for each in (full, any_number))
        assert found == pytest.approx(expected, abs=1e-5)
    assert compiled_rows(full) == {"global": 2, "local": 8, "aggregator": None}


def test_other_families_take_any_number_of_rows(vit_bundle):
    engine = OpenVinoEngine(vit_bundle, EngineOptions("cpu", 1, batch_size=8, images=2))
    assert compiled_rows(engine) == dict.fromkeys(ROLES)


def compiled_rows(engine: OpenVinoEngine) -> dict[str, int | None]:
    """The number of rows that each graph was compiled for, ``None`` if any will do."""
    found = {}
    for role in ROLES:
        rows = engine._requests[role].queue[0].get_compiled_model().inputs[0].partial_shape[0]
        found[role] = None if rows.is_dynamic else rows.get_length()
    return found


def test_any_batch_gives_the_same_features(vit_bundle):
    engine = OpenVinoEngine(vit_bundle, EngineOptions("cpu", 2))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), np.uint8)
    (together,) = engine.run("local", [pixels])
    for size in (1, 2, 4, 8):
        (part,) = engine.run("local", [pixels[:size]])
        assert np.allclose(part, together[:size], atol=1e-5)
    (again,) = engine.run("local", [pixels])
    assert np.array_equal(again, together)


SIGNALLED = """
import os, signal, sys
from glass_edge import Detector, DetectorOptions

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
detectors = [Detector(sys.argv[1], DetectorOptions(engine="openvino")) for _ in range(2)]
while detectors:
    del detectors[0]
    os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.slow
def test_processes_that_start_at_once_share_an_empty_cache(vit_bundle, photographs, tmp_path):
    program = Path(sys.executable).parent / "glass-run"
    command = [program, *photographs, "-b", vit_bundle.path, "--engine", "openvino", "-o", "-"]
    environment = os.environ | {"GLASS_CACHE": str(tmp_path)}
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for _ in range(4)
    ]
    scores = []
    for run in runs:
        output, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        scores.append([json.loads(line)["score"] for line in output.splitlines()])
    expected = [verdict.score for verdict in Detector(vit_bundle, OPENVINO).detect(photographs)]
    for each in scores:
        assert each == pytest.approx(expected, abs=1e-5)


def test_an_engine_waits_while_another_fills_the_cache(vit_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("GLASS_CACHE", str(tmp_path))
    with ThreadPoolExecutor() as pool:
        with alone_with("openvino"):
            opened = pool.submit(Detector, vit_bundle, OPENVINO)
            assert not wait([opened], timeout=1.0).done
            assert not list(tmp_path.rglob("*.blob"))
        opened.result()
    assert list(tmp_path.rglob("*.blob"))


def test_a_cache_that_can_only_be_read_is_not_locked(unprivileged, monkeypatch):
    with tempfile.TemporaryDirectory() as cache:  # pytest's folders are root's alone
        monkeypatch.setenv("GLASS_CACHE", cache)
        (folder := Path(cache, "openvino")).mkdir(mode=0o500)
        with alone_with("openvino"):
            assert not list(folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="stacks for signals are Linux's")
def test_detectors_that_come_and_go_leave_signals_handled(vit_bundle):
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, vit_bundle.path],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "handled\nhandled\n"), done.stderr


TOGETHER = """
import sys, threading
import numpy as np
from glass_edge import Bundle
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.openvino import OpenVinoEngine

engine = OpenVinoEngine(Bundle.open(sys.argv[1]), EngineOptions("cpu", threads=1, lanes=4))
start = threading.Barrier(4)

def judge():
    start.wait()
    engine.run("local", [np.zeros((1, 224, 224, 3), np.uint8)])

threads = [threading.Thread(target=judge) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("attempt", range(4))
def test_a_processs_first_runs_may_come_at_once(attempt, vit_bundle):
    """They hung in one of three processes, before the binding was set up by one thread."""
    subprocess.run([sys.executable, "-c", TOGETHER, vit_bundle.path], check=True, timeout=60)


def test_results_are_not_overwritten_by_the_next_run(vit_bundle):
    engine = OpenVinoEngine(vit_bundle, EngineOptions("cpu", 1))
    dark, light = (np.full((1, 224, 224, 3), value, np.uint8) for value in (10, 240))
    (first,) = engine.run("local", [dark])
    kept = first.copy()
    engine.run("local", [light])
    assert np.array_equal(first, kept)


def test_compiled_graphs_are_kept_by_bundle(vit_bundle, export_family, tmp_path, monkeypatch):
    monkeypatch.setenv("GLASS_CACHE", str(tmp_path))
    OpenVinoEngine(vit_bundle, EngineOptions())
    kept = sorted(tmp_path.rglob("*.blob"))
    assert len(kept) == 3
    OpenVinoEngine(vit_bundle, EngineOptions())
    assert sorted(tmp_path.rglob("*.blob")) == kept
    OpenVinoEngine(export_family("resnet"), EngineOptions())
    assert sum(path.is_dir() for path in (tmp_path / "openvino").iterdir()) == 2
    assert {path.name for path in vit_bundle.path.iterdir()} == {
        "glass.json", "global.onnx", "local.onnx", "aggregator.onnx", "reference.png",
        "MODEL_CARD.md",
    }  # fmt: skip


def test_a_comparison_leaves_no_compiled_graphs(vit_bundle, photographs, tmp_path, monkeypatch):
    """Bundles are compared before they stand where they will be used."""
    monkeypatch.setenv("GLASS_CACHE", str(tmp_path))
    compared = compare_bundles(vit_bundle, vit_bundle, photographs[:1], judgements=1)
    assert compared.engine.startswith("openvino")
    assert not list(tmp_path.rglob("*.blob"))


def test_the_cache_keeps_the_bundles_used_last(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASS_CACHE", str(tmp_path))
    for age, name in enumerate("abcde"):
        folder = recent_folder("openvino", name, keep=5)
        (folder / "1.blob").write_bytes(b"compiled")
        os.utime(folder, (1e9 - age,) * 2)
    recent_folder("openvino", "e", keep=5)
    recent_folder("openvino", "f", keep=3)
    assert {path.name for path in (tmp_path / "openvino").iterdir()} == {"a", "e", "f"}


@pytest.mark.skipif(os.name != "posix", reason="there are no such permissions")
def test_what_is_made_for_a_cache_is_its_owners_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASS_CACHE", str(tmp_path / "cache"))
    before = os.umask(0)
    try:
        folder = cache_folder("engines", "name")
    finally:
        os.umask(before)
    for made in (folder, folder.parent, tmp_path / "cache"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_another_device_is_an_error(vit_bundle):
    with pytest.raises(EngineError, match="runs on the cpu, not on cuda"):
        Detector(vit_bundle, DetectorOptions(engine="openvino", device="cuda"))


def test_without_openvino_there_is_a_sentence(vit_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"pip install 'glass-edge\[openvino\]'"):
        open_engine(vit_bundle, "openvino", EngineOptions())


def test_auto_prefers_openvino_on_x86_only(vit_bundle, monkeypatch):
    import platform

    assert open_engine(vit_bundle, "auto", EngineOptions()).description.startswith(
        "openvino" if platform.machine() in ("x86_64", "AMD64") else "onnxruntime"
    )
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert open_engine(vit_bundle, "auto", EngineOptions()).description.startswith("onnxruntime")


def test_a_graph_that_does_not_fit_is_refused(copied_bundle: Path):
    import hashlib

    import msgspec

    from glass_edge import Bundle

    content = msgspec.json.decode((copied_bundle / "glass.json").read_bytes())
    swapped = copied_bundle / "local.onnx"
    swapped.write_bytes((copied_bundle / "global.onnx").read_bytes())
    content["streams"]["local"]["graph"]["sha256"] = hashlib.sha256(
        swapped.read_bytes()
    ).hexdigest()
    (copied_bundle / "glass.json").write_bytes(msgspec.json.encode(content))
    with pytest.raises(EngineError, match="does not fit the manifest"):
        OpenVinoEngine(Bundle.open(copied_bundle), EngineOptions())

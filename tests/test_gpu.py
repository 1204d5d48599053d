"""On an NVIDIA GPU: ``pytest -m gpu``. Every engine there against ONNX Runtime on the CPU."""

from __future__ import annotations

import gc
import os
import time
from functools import cache

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import FAMILIES
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.engines.tensorrt.api import LIBRARY_NAMES, find_library
from glass_edge.runtime.machine.cuda import gpu_present, open_cuda
from glass_edge.runtime.machine.errors import EngineError
from networks import random_glass

from glass_edge import Bundle, Detector, DetectorOptions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu_present(), reason="the driver finds no GPU"),
]
LOGITS = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 5e-2}
ENGINES = ("onnxruntime", *LIBRARY_NAMES)
MANY = 10_000
SMALL_GROWTH = 64 << 20  # bytes


def missing(engine) -> str | None:
    """Say why an engine cannot be tested here."""
    if engine == "onnxruntime":
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            return None
        return "the CPU's onnxruntime is installed: pip uninstall it, then install onnxruntime-gpu"
    try:
        find_library(engine)
    except EngineError as error:
        return str(error)
    return None


@pytest.fixture(params=ENGINES)
def engine(request, vit_bundle):
    """Each engine; what is not tested is told at the end of the run, and why."""
    if why := missing(request.param) or unsupported(request.param, vit_bundle):
        pytest.skip(why)
    return request.param


def unsupported(engine, bundle) -> str | None:
    """Say why a library that is there does not serve this GPU."""
    return _unsupported(engine, bundle.path)


@cache
def _unsupported(engine, path) -> str | None:
    try:
        network(Bundle.open(path), engine)
    except EngineError as error:
        if "does not support this compute capability" in str(error):
            return str(error)
        raise
    return None


def test_there_is_an_engine_to_test():
    assert [engine for engine in ENGINES if not missing(engine)], "all other tests were skipped"


def network(bundle, engine, batch_size=16):
    return open_engine(bundle, engine, EngineOptions("cuda", batch_size=batch_size))


def views(images, crops, seed=0):
    generator = np.random.default_rng(seed)
    overviews = generator.uniform(0, 255, (images, 224, 224, 3)).astype(np.float32)
    crops = generator.integers(0, 256, (images, crops, 224, 224, 3), dtype=np.uint8)
    return {"global": overviews, "local": crops}


@pytest.mark.parametrize("precision", list(LOGITS))
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_cpu(engine, family, precision, make_precision):
    for_gpus = precision == "int8" and engine in LIBRARY_NAMES
    bundle = make_precision(family, precision, "fp16" if for_gpus else "fp32")
    # ONNX Runtime has no kernels for BF16 on the CPU.
    on_cpu = "openvino" if precision == "bf16" else "onnxruntime"
    reference = open_engine(bundle, on_cpu, EngineOptions("cpu"))
    try:
        on_gpu = network(bundle, engine)
    except EngineError as error:
        if (engine, precision) == ("onnxruntime", "bf16"):
            pytest.skip(f"not every kernel is there: {error}")
        raise
    for images, crops in ((1, 1), (3, 7), (20, 4)):
        expected = reference.judge(views(images, crops))
        found = on_gpu.judge(views(images, crops))
        assert found.logits == pytest.approx(expected.logits, abs=LOGITS[precision])


def test_equal_images_in_every_place_get_equal_logits(engine, vit_bundle):
    one = views(1, 4)
    repeated = network(vit_bundle, engine).judge(
        {stream: np.repeat(pixels, 19, axis=0) for stream, pixels in one.items()}
    )
    assert np.ptp(repeated.logits, axis=0).max() < 1e-4


def test_photographs_get_the_verdicts_of_the_cpu(engine, vit_bundle, photographs):
    cpu = Detector(vit_bundle, DetectorOptions(engine="onnxruntime", device="cpu"))
    gpu = Detector(vit_bundle, DetectorOptions(engine=engine, device="cuda"))
    for ours, theirs in zip(gpu.detect(photographs), cpu.detect(photographs), strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-3)
        assert ours.engine != theirs.engine


def test_memory_does_not_grow_over_ten_thousand_images(engine, vit_bundle):
    on_gpu, cuda = network(vit_bundle, engine), open_cuda()
    batch = views(25, 4)
    for _ in range(4):
        on_gpu.judge(batch)
    host, device = resident(), free_memory(cuda)
    for _ in range(MANY // 25):
        on_gpu.judge(batch)
    assert resident() - host < SMALL_GROWTH
    assert device - free_memory(cuda) < SMALL_GROWTH


@pytest.mark.parametrize("name", LIBRARY_NAMES)
def test_dropped_detectors_give_their_memory_back(name, vit_bundle):
    if why := missing(name) or unsupported(name, vit_bundle):
        pytest.skip(why)
    cuda = open_cuda()
    network(vit_bundle, name).judge(views(1, 4))
    gc.collect()
    device = free_memory(cuda)
    for _ in range(10):
        network(vit_bundle, name).judge(views(1, 4))
        gc.collect()
    assert device - free_memory(cuda) < SMALL_GROWTH


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_throughput_against_pytorch(batch, make_precision, vit_bundle, capsys):
    """Shows crops per second of a ViT in one run; fails only if ours is slower than eager."""
    model = random_glass("vit").local_model.cuda().eval()
    crops = views(1, batch)["local"].reshape(batch, 224, 224, 3)
    compiled = torch.compile(model)

    def whole(run):
        """Pixels in, features out, as an engine does it: a small network's copies are its time."""
        pixels = torch.from_numpy(crops).cuda().permute(0, 3, 1, 2).float().div_(255)
        return run(pixels).cpu()

    def half(run):
        with torch.autocast("cuda", torch.float16):
            return whole(run)

    contestants = {
        "PyTorch eager FP32": lambda: whole(model),
        "PyTorch eager AMP": lambda: half(model),
        "PyTorch compiled AMP": lambda: half(compiled),
    }
    for engine in ENGINES:
        if missing(engine) or unsupported(engine, vit_bundle):
            continue
        ours = network(make_precision("vit", "fp16"), engine, batch)
        contestants[f"{engine} fp16"] = lambda ours=ours: ours.features("local", crops)
    rates = {name: batch / seconds(run) for name, run in contestants.items()}
    with capsys.disabled():
        print(f"\nbatch {batch}:", {name: f"{rate:.0f} crops/s" for name, rate in rates.items()})
    slowest = min(rate for name, rate in rates.items() if not name.startswith("PyTorch"))
    assert slowest > 0.8 * rates["PyTorch eager FP32"]


@torch.inference_mode()
def seconds(run):
    """Return the median time of a call, after warming up."""
    times = []
    for repeat in range(30):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if repeat >= 10:
            times.append(time.perf_counter() - started)
    return float(np.median(times))


def free_memory(cuda) -> int:
    """Return the GPU's free memory in bytes."""
    with cuda.current():
        return cuda.free_memory()


def resident() -> int:
    """Return this process's memory in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""What this machine can do: its fastest matrix products, and its decoders alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ...export.model import Glass
from ...export.simplify import simplified
from ...runtime.bundle.manifest import Precision
from ...runtime.engines.openvino import shared_core
from ...runtime.images.decode import decode
from ...runtime.machine.errors import ImageError
from ..contenders.pytorch import half_precision, torch_device
from ..views.libraries import DECODERS
from .report import DecodeFloor, Peak, Roofline

# Of the matrices: large enough for the best kernels, and on a CPU for its caches.
_SIDES: Mapping[str, tuple[int, ...]] = {"cpu": (1024, 2048), "cuda": (8192,)}
_DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16,
}  # fmt: skip
_HINTS: Mapping[Precision, str] = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}  # OpenVINO's
_SECONDS = 1.0
_PASSES = 3
_SCALE = np.float32(1 / 64)


def measure_roofline(
    model: Glass, crop_size: int, crops: int, paths: Sequence[str], threads: int
) -> Roofline:
    """Count what an image costs and measure the machine's bounds, with all ``threads``."""
    torch.set_num_threads(threads)
    peaks = [_peak("fp32", threads), _peak(half_precision(), threads)]
    left_out = {}
    if torch_device() == "cuda":
        left_out["int8"] = "it is measured by OpenVINO, on CPUs only"
    elif find_spec("openvino") is None:
        left_out["int8"] = "it is measured by OpenVINO, which is not installed"
    else:
        peaks.append(_openvino_peak("int8", threads))
    return Roofline(
        count_multiply_adds(model, crop_size, crops),
        tuple(peaks),
        left_out,
        measure_decode_floor(paths, threads),
    )


@torch.inference_mode()
def count_multiply_adds(model: Glass, crop_size: int, crops: int) -> int:
    """Count the multiply-adds that one image needs: convolutions and matrix products.

    What the model computes for no feature, as the export leaves it out, does not count.
    """
    view = torch.zeros(1, 3, crop_size, crop_size)
    features = torch.zeros(1, model.feature_size)
    whole, crop = simplified(model.global_model), simplified(model.local_model)
    total = _count(whole, view) + crops * _count(crop, view)
    return total + _count(model.aggregator(), features, features.expand(1, crops, -1))


def _count(module: nn.Module, *inputs: Tensor) -> int:
    """Count with attention taken apart: the counter does not see into its fused kernels."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            module(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    operations: int = counter.get_total_flops()
    return operations // 2


def _peak(precision: Precision, threads: int) -> Peak:
    """Return the best of PyTorch and, on a CPU that has the type, OpenVINO."""
    peaks = [_torch_peak(precision)]
    if torch_device() == "cpu" and find_spec("openvino") is not None:
        capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision.upper() in capabilities:
            peaks.append(_openvino_peak(precision, threads))
    return max(peaks, key=lambda each: each.per_second)


def _torch_peak(precision: Precision) -> Peak:
    device = torch_device()
    found = []
    for side in _SIDES[device]:
        one, other = (
            torch.rand(side, side, device=device).to(_DTYPES[precision]) for _ in range(2)
        )
        found.append((_products_per_second(partial(_multiply, one, other), side), side))
    best, side = max(found)
    return Peak(precision, best, f"torch.matmul, {side} by {side}")


def _multiply(one: Tensor, other: Tensor) -> None:
    one @ other
    if one.is_cuda:
        torch.cuda.synchronize()


def _openvino_peak(precision: Precision, threads: int) -> Peak:
    """Multiply matrices on OpenVINO; in INT8 quantising the input is part of the time."""
    core, quantised = shared_core(), precision == "int8"
    hint = _HINTS["fp32" if quantised else precision]
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    found = []
    for side in _SIDES["cpu"]:
        model = core.read_model(_product(side, quantised=quantised).SerializeToString())
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        matrix = np.random.default_rng(0).uniform(-1, 1, (side, side)).astype(np.float32)
        multiply = partial(request.infer, [matrix], share_inputs=True)
        found.append((_products_per_second(multiply, side), side))
    best, side = max(found)
    kind = "Q/DQ MatMul" if quantised else "MatMul"
    return Peak(precision, best, f"OpenVINO, {kind}, {side} by {side}")


def _products_per_second(product: Callable[[], object], side: int) -> float:
    """Return multiply-adds per second of the fastest of repeated products."""
    return side**3 / _best(product)


def _product(side: int, *, quantised: bool) -> onnx.ModelProto:
    """Return a model that multiplies ``matrix`` by weights, both quantised to INT8 or neither."""
    random = np.random.default_rng(1)
    weights = random.uniform(-1, 1, (side, side)).astype(np.float32)
    constants: dict[str, npt.ArrayLike] = {"weights": weights}
    nodes = [helper.make_node("MatMul", ["matrix", "weights"], ["product"])]
    if quantised:
        integers = random.integers(-127, 128, (side, side), dtype=np.int8)
        constants = {"weights": integers, "scale": _SCALE, "zero": np.int8(0)}
        nodes = [
            helper.make_node("QuantizeLinear", ["matrix", "scale", "zero"], ["quantised"]),
            helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["left"]),
            helper.make_node("DequantizeLinear", ["weights", "scale", "zero"], ["right"]),
            helper.make_node("MatMul", ["left", "right"], ["product"]),
        ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [side, side])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [side, side])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def measure_decode_floor(paths: Sequence[str], threads: int) -> DecodeFloor:
    """Time every decoder on all images, side by side on all CPUs; return the fastest.

    A decoder that refuses one of the files is out.
    """
    cv2.setNumThreads(1)
    contents = [Path(path).read_bytes() for path in paths]
    decoders = {**DECODERS, "glass-edge's choice": decode}
    times = {name: _decode_all(decoder, contents, threads) for name, decoder in decoders.items()}
    name, seconds = min(
        ((name, taken) for name, taken in times.items() if taken is not None),
        key=lambda each: each[1],
    )
    return DecodeFloor(name, seconds / len(paths))


def _decode_all(
    decoder: Callable[[bytes], object], contents: Sequence[bytes], threads: int
) -> float | None:
    """Return the seconds of the best of some passes, ``None`` if a file is refused."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            if any(pixels is None for pixels in pool.map(decoder, contents)):
                return None
            return _best(lambda: [None for _ in pool.map(decoder, contents)], passes=_PASSES)
        except (ImageError, OSError):
            return None


def _best(call: Callable[[], object], passes: int | None = None) -> float:
    """Return the seconds of the fastest of repeated calls, the first one left out."""
    call()
    taken: list[float] = []
    while sum(taken) < _SECONDS if passes is None else len(taken) < passes:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)

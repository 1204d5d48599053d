"""Comparing a built plan with its ONNX graph before it judges anybody's images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.manifest import Precision
from ...bundle.streams import AGGREGATOR, Role
from ...machine.cpus import available_cpus
from ...machine.errors import EngineError
from ..base import Array, EngineOptions, Float32
from ..host import HostEngine
from ..onnxruntime import OnnxRuntimeEngine
from ..openvino import OpenVinoEngine
from .plan import Batches, Check

# Shares of the largest magnitude. FP32 differs by the order of sums; the low types by where
# they round, which fusions decide; INT8 by steps taken to the other side.
TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 1e-1}
_DISTINCT = 2  # rows of a batch that differ; the others repeat them
_BLOTCHES = 9  # of a test view's side
_SEED = 20_611
_VIEWS = 4  # of an image, where their number varies

Run = Callable[[Role, Sequence[Array]], list[Float32]]


class EngineCheck:
    """The reference that a bundle's plans are compared with: ONNX Runtime on the CPU.

    For BF16, which that has no kernels for, OpenVINO.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Load the graphs.

        Raises:
            EngineError: the reference is not installed or refuses a graph.
        """
        self._bundle = bundle
        bf16 = bundle.manifest.precision == "bf16"
        engine = OpenVinoEngine if bf16 else OnnxRuntimeEngine
        self._reference: HostEngine = engine(bundle, EngineOptions("cpu", available_cpus()))

    def check(self, role: Role, run: Run, batches: Batches, gpu: str) -> Check:
        """Run a plan in its least, best and largest batch, with equal rows in every place.

        Raises:
            EngineError: it gives other numbers than the graph, numbers that are not finite, or
                other numbers for equal rows.
        """
        tolerance = TOLERANCES[self._bundle.manifest.precision]
        inputs = self._inputs(role)
        expected = self._reference.run(role, inputs)
        scale = [float(np.abs(values).max()) or 1.0 for values in expected]
        error = duplicates = 0.0
        sizes = sorted({batches.least, batches.best, batches.most})
        for size in sizes:
            order = np.arange(size) % _DISTINCT
            found = run(role, [array[order] for array in inputs])
            for values, reference, unit in zip(found, expected, scale, strict=True):
                if not np.isfinite(values).all():
                    raise EngineError(_sentence(role, f"numbers that are not finite at {size}"))
                error = max(error, _largest(values - reference[order]) / unit)
                for row in range(_DISTINCT):
                    same = values[order == row]
                    if len(same):
                        duplicates = max(duplicates, _largest(same - same[0]) / unit)
        for what, value in (("from the graph", error), ("between equal rows", duplicates)):
            if value > tolerance:
                raise EngineError(
                    _sentence(role, f"a difference {what} of {value:.2g} ({tolerance:g} allowed)")
                )
        return Check(tuple(sizes), error, duplicates, tolerance, gpu)

    def _inputs(self, role: Role) -> list[Array]:
        spec = self._bundle.manifest.views
        if role != AGGREGATOR:
            views, own = blotches(_DISTINCT, spec.streams[role].size), spec.streams[role]
            return [np.rint(views).astype(np.uint8) if own.dtype == "uint8" else views]
        inputs = []
        for name in spec.streams:
            features = self._reference.run(name, self._inputs(name))[0]
            if name == spec.several:
                rolled = [np.roll(features, row, axis=0) for row in range(spec.num_crops or _VIEWS)]
                features = np.ascontiguousarray(np.stack(rolled, axis=1))
            inputs.append(features)
        return inputs


def blotches(count: int, side: int) -> Float32:
    """Return made-up views ``(count, side, side, 3)`` in 0..255: colours with some noise."""
    generator = np.random.default_rng(_SEED)
    views = [
        cv2.resize(
            generator.uniform(20, 235, (_BLOTCHES, _BLOTCHES, 3)).astype(np.float32), (side, side)
        )
        for _ in range(count)
    ]
    noise = generator.normal(0, 8, (count, side, side, 3))
    return np.clip(np.stack(views) + noise, 0, 255).astype(np.float32)


def _largest(differences: Array) -> float:
    return float(np.abs(differences).max(initial=0.0))


def _sentence(role: Role, what: str) -> str:
    return (
        f"the engine built from the {role} graph gives {what}: it is not used. Build it again with "
        "another --builder-level (glass-build), update TensorRT, or run with --engine onnxruntime."
    )

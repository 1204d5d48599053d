"""The self-test: whether the engine at hand gives the numbers that the export saw.

A bundle carries a few views of real photographs and their logits. An engine, driver or CPU
that computes something else is found before it judges anybody's images: by default once for
each bundle, engine, batch and machine, which a mark in the user's cache remembers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.manifest import Precision
from ..bundle.reference import stored_views
from ..bundle.streams import CLASSES
from ..machine.cache import cache_folder, go_on_without
from ..machine.environment import driver_version, processor_name
from ..machine.errors import EngineError, OutputError
from ..views.batch import Views
from .base import Engine, Float32

# Shares of the largest logit, or of 1 if that is smaller. FP32 differs by the order of sums, the
# low types by where an engine rounds: ONNX Runtime and OpenVINO were seen 3e-6 apart in FP32,
# 3e-4 in FP16 and 3e-2 in INT8. A wrong layout, scale or row is off by tenths.
TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 1e-1}

_ONE = 4  # dimensions of the views of a stream that has one of each image

_FAILED = (
    "the self-test failed: {} gives {} on the bundle's reference views. Choose another --engine, "
    "update this one, or export the bundle again."
)


class SelfTest(msgspec.Struct, frozen=True):
    """A self-test that passed.

    Attributes:
        engine: what executed the graphs, as records say it.
        precision: the type that it computed in.
        source: what computed the logits that were expected.
        images: how many images were judged together; each different one also alone.
        error: largest difference in any logit, as a share of the largest logit or of 1.
        tolerance: the largest that is allowed at the bundle's precision.
    """

    engine: str
    precision: str
    source: str
    images: int
    error: float
    tolerance: float

    def __str__(self) -> str:
        return (
            f"self-test passed: {self.engine} ({self.precision}) differs by {self.error:.2g} from "
            f"{self.source} in {self.images} images' logits ({self.tolerance:g} allowed)"
        )


def self_test(bundle: Bundle, engine: Engine) -> SelfTest:
    """Judge the bundle's reference views: in the batches that serve, and one by one.

    The views are repeated until the engine's largest batches are full, because engines have been
    seen to compute some rows right and others wrong.

    Raises:
        BundleError: the reference views cannot be read.
        EngineError: a logit is not finite or differs by more than the tolerance.
    """
    reference = bundle.manifest.reference
    views = stored_views(bundle)
    images = len(reference.logits)
    counts = {name: pixels.shape[1] if pixels.ndim > _ONE else 1 for name, pixels in views.items()}
    filling = max(-(-engine.largest[name] // count) for name, count in counts.items())
    batches = [np.arange(max(images, filling)) % images, *np.arange(images)[:, None]]
    found = [
        _logits(engine, {name: pixels[rows] for name, pixels in views.items()}, len(rows))
        for rows in batches
    ]
    expected = np.array(reference.logits)
    scale = max(1.0, float(np.abs(expected).max()))
    pairs = zip(found, batches, strict=True)
    error = max(float(np.abs(logits - expected[rows]).max()) for logits, rows in pairs) / scale
    tolerance = TOLERANCES[bundle.manifest.precision]
    finite = all(np.isfinite(logits).all() for logits in found)
    if not (finite and error <= tolerance):
        raise EngineError(_sentence(engine.description, finite, error, tolerance, reference.source))
    return SelfTest(
        engine.description, engine.precision, reference.source, len(batches[0]), error, tolerance
    )


def ensure_tested(bundle: Bundle, engine: Engine) -> None:
    """Self-test an engine that did not pass with this bundle and batch on this machine before.

    Where the cache cannot be written, the test is run at every start.

    Raises:
        BundleError: the reference views cannot be read.
        EngineError: the self-test failed.
    """
    mark = _mark(bundle, engine)
    if mark is None or not mark.is_file():
        passed = self_test(bundle, engine)
        if mark is not None:
            _write(mark, passed)


def _logits(engine: Engine, views: Views, images: int) -> Float32:
    """Judge views; a graph may give arrays of other shapes than it declares."""
    try:
        logits = engine.judge(views).logits
    except ValueError as error:
        what = f"arrays of other shapes than it declares ({error})"
        raise EngineError(_FAILED.format(engine.description, what)) from None
    if logits.shape != (images, CLASSES):
        what = f"logits of shape {logits.shape} for {images} images"
        raise EngineError(_FAILED.format(engine.description, what))
    return logits


def _sentence(engine: str, finite: bool, error: float, tolerance: float, source: str) -> str:
    what = "numbers that are not finite"
    if finite:
        what = f"a logit that differs by {error:.2g} from {source}'s ({tolerance:g} allowed)"
    return _FAILED.format(engine, what)


def _mark(bundle: Bundle, engine: Engine) -> Path | None:
    """Return the file that says that the test passed; ``None`` without a cache."""
    parts = (
        bundle.graphs_digest,
        msgspec.json.encode(bundle.manifest.reference).decode(),
        engine.description,
        engine.precision,
        msgspec.json.encode(engine.largest).decode(),
        processor_name(),
        driver_version() or "no driver",
    )
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    try:
        return cache_folder("selftests") / f"{name}.json"
    except OutputError as missing:
        go_on_without(missing)
        return None


def _write(mark: Path, passed: SelfTest) -> None:
    partial = mark.with_suffix(f".{os.getpid()}.partial")
    with suppress(OSError):  # a full or read-only cache: tested again at the next start
        partial.write_bytes(msgspec.json.encode(passed))
        partial.replace(mark)

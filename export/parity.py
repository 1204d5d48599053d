"""The parity gate at the end of every export: the graphs must agree with PyTorch.

The untouched PyTorch model and the exported graphs judge the same views of real photographs,
which the runtime's own code makes, at batch 1, 2 and the largest. Rows are repeated within a
batch, because engines have been seen to compute some rows right and others wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..calibration.photographs import reference_views
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.manifest import Normalisation, Parity, Role
from ..runtime.engines.base import EngineOptions, Float32
from ..runtime.engines.host import HostEngine
from ..runtime.engines.onnxruntime import OnnxRuntimeEngine
from ..runtime.views.batch import ViewBatch
from .errors import ParityError
from .model import Glass

TOLERANCE = 1e-4  # a share, see Parity
LARGEST_BATCH = 32


@dataclass(frozen=True)
class Expected:
    """PyTorch's results for ``n`` images: logits ``(n, 2)``, attention ``(n, crops)``."""

    logits: Float32
    attention: Float32


def measure_parity(model: Glass, bundle: Bundle, largest_batch: int = LARGEST_BATCH) -> Parity:
    """Run model and graphs side by side; return the figures if they agree.

    Raises:
        ParityError: a logit or an attention weight differs by more than the tolerance, equal rows
            of a batch give features that do, or a number is not finite.
    """
    manifest = bundle.manifest
    views = reference_views(manifest.views)
    expected = run_torch(model, views, manifest.normalisation)
    engine = OnnxRuntimeEngine(bundle, EngineOptions("cpu", batch_size=largest_batch))
    batch_sizes = tuple(sorted({1, 2, largest_batch}))
    worst = {"logit": 0.0, "attention": 0.0, "duplicate": 0.0}
    scale = _scale(expected.logits)
    for size in batch_sizes:
        logits, attention, duplicate = _run_engine(engine, views, size)
        worst["logit"] = _larger(worst["logit"], (logits - expected.logits) / scale)
        worst["attention"] = _larger(worst["attention"], attention - expected.attention)
        worst["duplicate"] = _larger(worst["duplicate"], np.array(duplicate))
    if not max(worst.values()) <= TOLERANCE:  # written so that NaN fails
        raise ParityError(
            f"the graphs do not agree with PyTorch: logits differ by {worst['logit']:.2g}, "
            f"attention by {worst['attention']:.2g}, equal rows of a batch by "
            f"{worst['duplicate']:.2g}, each as a share of the largest value or of 1; "
            f"{TOLERANCE:g} is allowed. Nothing was written."
        )
    return Parity(
        tolerance=TOLERANCE,
        images=len(views.overviews),
        batch_sizes=batch_sizes,
        logit_error=worst["logit"],
        attention_error=worst["attention"],
        duplicate_error=worst["duplicate"],
    )


@torch.inference_mode()
def run_torch(model: Glass, views: ViewBatch, normalisation: Normalisation) -> Expected:
    """Judge the views of some images with the model itself."""
    mean = torch.tensor(normalisation.mean)
    std = torch.tensor(normalisation.std)

    def normalised(pixels: npt.NDArray[np.generic]) -> Tensor:
        scaled = (torch.from_numpy(pixels).to(torch.float32) / 255 - mean) / std
        return scaled.movedim(-1, -3).contiguous()

    logits, attention = [], []
    for overview, crops in zip(views.overviews, views.crops, strict=True):
        one = model(normalised(overview[None]), normalised(crops[None]))
        logits.append(one[0].numpy())
        attention.append(one[1].numpy())
    return Expected(np.concatenate(logits), np.concatenate(attention))


def _run_engine(
    engine: HostEngine, views: ViewBatch, batch_size: int
) -> tuple[Float32, Float32, float]:
    """Return logits, attention, and the largest difference between equal rows."""
    images, count = views.crops.shape[:2]
    crops = views.crops.reshape(images * count, *views.crops.shape[2:])
    global_features, first = _features(engine, "global", views.overviews, batch_size)
    local_features, second = _features(engine, "local", crops, batch_size)
    logits, attention = engine.run(
        "aggregator", [global_features, local_features.reshape(images, count, -1)]
    )
    return logits, attention, max(first, second)


def _features(
    engine: HostEngine, role: Role, views: npt.NDArray[np.generic], batch_size: int
) -> tuple[Float32, float]:
    """Run all views in full batches; the last one is filled up from the first views.

    Returns each view's features from its first row, and the largest difference to the
    rows that repeat it, as a share of the largest feature or of 1.
    """
    found: dict[int, Float32] = {}
    duplicate = 0.0
    for rows in _full_batches(len(views), batch_size):
        (features,) = engine.run(role, [views[rows]])
        for row, vector in zip(rows, features, strict=True):
            duplicate = _larger(duplicate, vector - found.setdefault(row, vector))
    first = np.stack([found[row] for row in range(len(views))])
    return first, duplicate / _scale(first)


def _full_batches(count: int, size: int) -> Iterator[list[int]]:
    """Yield ``0 .. count - 1`` in batches of ``size``; the last is filled up from the start.

    Every fifth row is repeated right after itself, so that batches above 1 hold equal rows.
    """
    order = [row for row in range(count) for _ in range(2 if row % 5 == 0 else 1)]
    missing = -len(order) % size
    rows = itertools.chain(order, itertools.islice(itertools.cycle(range(count)), missing))
    while batch := list(itertools.islice(rows, size)):
        yield batch


def largest_difference(found: Float32, expected: Float32) -> float:
    """Return the largest difference of logits, as a share of the largest one or of 1."""
    return _larger(0.0, (found - expected) / _scale(expected))


def _scale(values: Float32) -> float:
    """Return what differences are a share of: the largest magnitude, or 1."""
    return max(1.0, float(np.abs(values).max()))


def _larger(so_far: float, difference: npt.NDArray[np.generic]) -> float:
    """Return the larger of a figure and a largest absolute difference; NaN stays NaN."""
    return float(np.fmax(so_far, np.nan_to_num(np.abs(difference).max(), nan=np.inf)))

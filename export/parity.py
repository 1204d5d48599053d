"""The parity gate at the end of every export: the graphs must agree with PyTorch.

The untouched PyTorch model and the exported graphs judge the same views of real photographs,
which the runtime's own code makes, at batch 1, 2 and the largest. Rows are repeated within a
batch, because engines have been seen to compute some rows right and others wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..calibration.photographs import reference_views
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.manifest import Normalisation, Parity
from ..runtime.bundle.streams import Role
from ..runtime.engines.base import EngineOptions, Float32, Judgement
from ..runtime.engines.host import HostEngine, flat
from ..runtime.engines.onnxruntime import OnnxRuntimeEngine
from ..runtime.views.batch import Pixels, Views
from ..runtime.views.spec import ViewSpec
from .detectors.registry import Detector
from .errors import ParityError

TOLERANCE = 1e-4  # a share, see Parity
LARGEST_BATCH = 32
_ONE = 3  # dimensions of the view of a stream that has one of each image


@dataclass(frozen=True)
class Expected:
    """PyTorch's results for ``n`` images: logits ``(n, 2)``, attention ``(n, crops)`` or none.

    ``maps`` are the score maps of a stream by which another is guided, ``(n, s, s)`` each.
    """

    logits: Float32
    attention: Float32 | None
    maps: tuple[Float32, ...] = ()


def measure_parity(
    detector: Detector, bundle: Bundle, largest_batch: int = LARGEST_BATCH
) -> Parity:
    """Run model and graphs side by side; return the figures if they agree.

    Raises:
        ParityError: a logit or an attention weight differs by more than the tolerance, equal rows
            of a batch give features that do, or a number is not finite.
    """
    manifest = bundle.manifest
    views = reference_views(manifest.views)
    expected = run_torch(detector, views, manifest.normalisation)
    engine = OnnxRuntimeEngine(bundle, EngineOptions("cpu", batch_size=largest_batch))
    batch_sizes = tuple(sorted({1, 2, largest_batch}))
    worst = {"logit": 0.0, "attention": 0.0, "duplicate": 0.0}
    worst["map"] = _map_error(engine, manifest.views, views, expected.maps)
    scale = _scale(expected.logits)
    for size in batch_sizes:
        found, duplicate = _run_engine(engine, views, size)
        worst["logit"] = _larger(worst["logit"], (found.logits - expected.logits) / scale)
        worst["duplicate"] = _larger(worst["duplicate"], np.array(duplicate))
        if found.attention is not None and expected.attention is not None:
            change = found.attention - expected.attention
            worst["attention"] = _larger(worst["attention"], change)
    if not max(worst.values()) <= TOLERANCE:  # written so that NaN fails
        raise ParityError(
            f"the graphs do not agree with PyTorch: logits differ by {worst['logit']:.2g}, "
            f"attention by {worst['attention']:.2g}, score maps by {worst['map']:.2g}, equal rows "
            f"of a batch by {worst['duplicate']:.2g}, each as a share of the largest value or of "
            f"1; {TOLERANCE:g} is allowed. Nothing was written."
        )
    return Parity(
        tolerance=TOLERANCE,
        images=len(expected.logits),
        batch_sizes=batch_sizes,
        logit_error=worst["logit"],
        attention_error=worst["attention"],
        duplicate_error=worst["duplicate"],
        map_error=worst["map"] if expected.maps else None,
    )


def _map_error(
    engine: HostEngine, spec: ViewSpec, views: Views, expected: Sequence[Float32]
) -> float:
    """Return how far the score maps are off by which one stream guides another."""
    if spec.guided is None:
        return 0.0
    _, *found = engine.outputs(spec.guided.by, views[spec.guided.by])
    return max(map(largest_difference, found, expected))


@torch.inference_mode()
def run_torch(detector: Detector, views: Views, normalisation: Normalisation) -> Expected:
    """Judge the views of some images with the model itself."""
    mean = torch.tensor(normalisation.mean)
    std = torch.tensor(normalisation.std)

    def normalised(pixels: Pixels) -> Tensor:
        scaled = (torch.from_numpy(pixels).to(torch.float32) / 255 - mean) / std
        return scaled.movedim(-1, -3).contiguous()

    images = len(next(iter(views.values())))
    found, maps = [], []
    for row in range(images):
        features = []
        for name, network in detector.streams.items():
            own = views[name][row]
            outputs = network(normalised(own if own.ndim > _ONE else own[None]))
            first, *others = (outputs,) if isinstance(outputs, Tensor) else outputs
            features.append(first[None] if own.ndim > _ONE else first)
            maps += [other.numpy() for other in others]
        found.append(_judged(detector, features))
    logits, attention = zip(*found, strict=True)
    joined = None if attention[0] is None else np.concatenate(attention)
    each = len(maps) // images
    by_map = tuple(np.concatenate(maps[number::each]) for number in range(each))
    return Expected(np.concatenate(logits), joined, by_map)


def _judged(detector: Detector, features: list[Tensor]) -> tuple[Float32, Float32 | None]:
    if detector.aggregator is None:
        return features[0].numpy(), None
    judged = detector.aggregator(*features)
    if isinstance(judged, Tensor):
        return judged.numpy(), None
    return judged[0].numpy(), judged[1].numpy()


def _run_engine(engine: HostEngine, views: Views, batch_size: int) -> tuple[Judgement, float]:
    """Return what the engine says, and the largest difference between equal rows."""
    features, duplicate = {}, 0.0
    for name, pixels in views.items():
        found, difference = _features(engine, name, flat(pixels), batch_size)
        several = name == engine.several
        features[name] = found.reshape(*pixels.shape[:2], -1) if several else found
        duplicate = max(duplicate, difference)
    return engine.aggregate(features), duplicate


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
        features = engine.features(role, views[rows])
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

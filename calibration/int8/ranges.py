"""Measures the range of each activation that INT8 rounds, and keeps it in a readable cache."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.streams import Role
from ...runtime.engines.base import Float32
from ...runtime.machine.cache import cache_folder, go_on_without
from ...runtime.machine.errors import OutputError
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.views.spec import ViewSpec
from ..images import ImageSets
from .grid import SIGNED_STEPS, UNSIGNED_STEPS, Grid
from .histogram import Histogram
from .layers import Layer
from .observe import CalibrationViews, Observer
from .parallel import in_parallel

_RULE: Final = 6  # version of the measurement; older caches are not read


class RangesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cache of one graph: what was measured, and the limits of its activations' grids."""

    rule: Literal[6]
    graph: str
    data: str
    images: int
    signed: dict[str, float]
    unsigned: dict[str, float]

    @property
    def grids(self) -> dict[str, Grid]:
        """The grid of each activation."""
        signed = {name: Grid(limit, unsigned=False) for name, limit in self.signed.items()}
        return signed | {name: Grid(limit, unsigned=True) for name, limit in self.unsigned.items()}


def collect_ranges(
    bundle: Bundle,
    role: Role,
    model: ModelProto,
    activations: Mapping[str, bool],
    views: CalibrationViews,
    sets: ImageSets,
    progress: Progress = silent,
) -> RangesFile:
    """Run the calibration images' views through a backbone, or read the cache.

    Ranges are not cached if an image could not be read, because another decoder may read it
    tomorrow.

    Args:
        bundle: whose views they are.
        role: which backbone.
        model: the backbone in FP32 with its weights inside.
        activations: which to measure, and whether they are unsigned.
        views: what to run.
        sets: which images they are of.
        progress: is told how far the work has come.
    """
    graph = _graph_digest(model, bundle.manifest.views)
    path = _cache_file(graph, sets, activations)
    cached = None if path is None else _read(path, graph, sets)
    if cached is not None:
        return cached
    limits = _collect(model, role, activations, views, progress)
    file = RangesFile(
        rule=_RULE,
        graph=graph,
        data=sets.digest,
        images=views.images,
        signed={name: limit for name, limit in limits.items() if not activations[name]},
        unsigned={name: limit for name, limit in limits.items() if activations[name]},
    )
    if path is not None and views.images == len(sets.calibration):
        with suppress(OSError):
            path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=1))
    return file


def _collect(
    model: ModelProto,
    role: Role,
    activations: Mapping[str, bool],
    views: CalibrationViews,
    progress: Progress,
) -> dict[str, float]:
    observer = Observer(model, list(activations))
    histograms = {name: Histogram() for name in activations}
    batches = list(views.batches(role))
    purpose = f"ranges of the {role} graph"
    for batch in track(batches, purpose, len(batches), progress):
        values = observer.run(batch)

        def count(name: str, values: dict[str, Float32] = values) -> None:
            histograms[name].add(values[name])

        deque(in_parallel(count, values), maxlen=0)
    return {
        name: histogram.range(UNSIGNED_STEPS if activations[name] else SIGNED_STEPS)
        for name, histogram in histograms.items()
    }


def activations_of(layers: Sequence[Layer], unsigned: Collection[str]) -> dict[str, bool]:
    """Name the activations that layers read, and whether they are unsigned."""
    return {name: name in unsigned for layer in layers for name in layer.inputs}


def _cache_file(graph: str, sets: ImageSets, activations: Mapping[str, bool]) -> Path | None:
    """Return where a graph's ranges are kept; ``None`` if there can be no cache."""
    try:
        folder = cache_folder("calibration")
    except OutputError as missing:
        go_on_without(missing)
        return None
    asked = msgspec.json.encode(sorted(activations.items())).decode()
    parts = (str(_RULE), graph, sets.digest, asked)
    return folder / f"{hashlib.sha256(':'.join(parts).encode()).hexdigest()}.json"


def _graph_digest(model: ModelProto, spec: ViewSpec) -> str:
    """Return a digest of a graph, its weights and how its views are made."""
    digest = hashlib.sha256(model.SerializeToString(deterministic=True))
    digest.update(msgspec.json.encode(spec))
    return digest.hexdigest()


def _read(path: Path, graph: str, sets: ImageSets) -> RangesFile | None:
    """Return the cache of this very graph and data, if there is one."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=RangesFile)
    except (OSError, msgspec.MsgspecError):
        return None
    return file if (file.graph, file.data) == (graph, sets.digest) else None

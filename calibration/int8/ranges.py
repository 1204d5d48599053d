"""Measures the range of each activation that INT8 rounds, and keeps it in a readable cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Role
from ...runtime.machine.cache import cache_folder, go_on_without
from ...runtime.machine.errors import OutputError
from ...runtime.machine.progress import Progress, silent
from ..images import ImageSets, Suitability
from .histogram import METHODS, Histogram, Method
from .layers import Layer
from .observe import Observer, backbone_views, calibration_batches

Ranges: TypeAlias = Mapping[str, float]
"""For each activation, the magnitude that INT8's largest value stands for."""

_RULE: Final = 2  # version of the measurement; older caches are not read


class RangesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cache of one graph: what was measured, and each method's ranges."""

    rule: Literal[2]
    graph: str
    data: str
    images: int
    notes: tuple[str, ...]
    ranges: dict[Method, dict[str, float]]


def collect_ranges(
    bundle: Bundle,
    layers: Mapping[Role, Sequence[Layer]],
    sets: ImageSets,
    progress: Progress = silent,
) -> dict[Role, RangesFile]:
    """Run the calibration images' views through the backbones, or read the caches.

    Global views give the ranges of the ``global`` graph, crops those of the ``local`` one.
    Images are read as they are needed; memory does not grow with their number. Ranges are not
    cached if an image could not be read, because another decoder may read it tomorrow.

    Raises:
        CalibrationError: the images are unreadable or show too little.
    """
    paths = _cache_files(bundle, layers, sets)
    cached = {role: _read(path, bundle, role, sets) for role, path in paths.items()}
    known = {role: file for role, file in cached.items() if file is not None}
    if len(known) == len(layers):
        return known
    files = _collect(bundle, layers, sets, progress)
    for role, path in paths.items():
        if files[role].images == len(sets.calibration):
            with suppress(OSError):
                path.write_bytes(msgspec.json.format(msgspec.json.encode(files[role]), indent=1))
    return files


def _cache_files(bundle: Bundle, roles: Iterable[Role], sets: ImageSets) -> dict[Role, Path]:
    """Return where each graph's ranges are kept; nothing if there can be no cache."""
    try:
        folder = cache_folder("calibration")
    except OutputError as missing:
        go_on_without(missing)
        return {}
    return {role: folder / f"{_key(bundle, role, sets)}.json" for role in roles}


def _collect(
    bundle: Bundle,
    layers: Mapping[Role, Sequence[Layer]],
    sets: ImageSets,
    progress: Progress,
) -> dict[Role, RangesFile]:
    names = {
        role: list(dict.fromkeys(name for layer in found for name in layer.inputs))
        for role, found in layers.items()
    }
    observers = {role: Observer(bundle.graph_path(role), names[role]) for role in layers}
    histograms = {role: {name: Histogram() for name in names[role]} for role in layers}
    suitability = Suitability()
    with closing(calibration_batches(bundle, sets, "calibrating", progress)) as batches:
        for batch in batches:
            suitability.add(batch)
            for role, views in backbone_views(batch):
                for name, values in observers[role].run(views).items():
                    histograms[role][name].add(values)
    notes = (*sets.notes(), *suitability.check())
    return {
        role: RangesFile(
            _RULE,
            _graph_digest(bundle, role),
            sets.digest,
            suitability.images,
            notes,
            {method: _ranges(histograms[role], method) for method in METHODS},
        )
        for role in layers
    }


def _ranges(histograms: Mapping[str, Histogram], method: Method) -> dict[str, float]:
    return {name: histogram.range(method) for name, histogram in histograms.items()}


def _key(bundle: Bundle, role: Role, sets: ImageSets) -> str:
    parts: Iterable[str] = (str(_RULE), _graph_digest(bundle, role), sets.digest)
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


def _graph_digest(bundle: Bundle, role: Role) -> str:
    """Return a digest of a graph, its weights and how its views are made."""
    manifest = bundle.manifest
    parts = [manifest.graphs[role].sha256, *(entry.sha256 for entry in manifest.weights)]
    views = msgspec.json.encode(manifest.views).decode()
    return hashlib.sha256(":".join([*parts, views]).encode()).hexdigest()


def _read(path: Path, bundle: Bundle, role: Role, sets: ImageSets) -> RangesFile | None:
    """Return the cache of this very graph and data, if there is one."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=RangesFile)
    except (OSError, msgspec.MsgspecError):
        return None
    same = file.graph == _graph_digest(bundle, role) and file.data == sets.digest
    return file if same else None

"""A low-precision bundle from an FP32 one, with evidence that its verdicts survive."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import ModelProto

from ..calibration.comparison import check_comparison, compare_bundles
from ..calibration.errors import CalibrationError
from ..calibration.images import ImageSets, Suitability
from ..calibration.int8 import Int8Search
from ..calibration.observe import Observer
from ..calibration.options import DEFAULT_JUDGEMENTS, CalibrationOptions
from ..calibration.trial import BACKBONES, Trial
from ..runtime.bundle import Bundle, sha256_of
from ..runtime.engines.base import Array
from ..runtime.manifest import (
    MANIFEST_NAME,
    Calibration,
    FileEntry,
    Graphs,
    Precision,
    Role,
)
from ..runtime.selftest import reference_of
from ..runtime.stream import PreparedBatch, StreamOptions, stream_views
from ..runtime.views import ImageSource, Sampling
from .graphs import save_graph, share_weights
from .mixed import LowType, Plan, float_tensors, kept_nodes, lowered
from .parity import photographs
from .reference import own_reference
from .simulated import simulated

# By how much any P(fake) may move at 0.5 on the views tried: for FP16 half of what is promised
# of it on others; BF16's steps are eight times as wide.
CHANGE_AIMED_AT: Mapping[LowType, float] = {"fp16": 0.0025, "bf16": 0.02}
_FRONTS = (0, 1, 2, 4, 8, 16, 24, 32, 40, 48)  # how many of the first products to try in FP32
_TRIAL_SEEDS = range(20_610, 20_618)  # not those of the comparison
_TRIAL_IMAGES = 32
_SEEDS_EACH = 4  # of the user's images: the largest of few changes says little of many
_OBSERVED = 4  # views at a time: every inner tensor of them is held
_CROPS = 4


@dataclass(frozen=True)
class VariantOptions:
    """Which precision, judged on what.

    Attributes:
        precision: not FP32.
        images: the user's images; INT8 needs them, the others take the package's own
            photographs where there are none.
        calibration: how INT8 is made.
        judgements: how often at least both bundles judge in the comparison.
        accept_loss: write the bundle even if the verdicts do not survive.
    """

    precision: Precision
    images: ImageSets | None
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    judgements: int = DEFAULT_JUDGEMENTS
    accept_loss: bool = False


@dataclass(frozen=True)
class _Made:
    """Graphs that hold their weights, and what the manifest shall say of them."""

    graphs: dict[Role, ModelProto]
    kept: dict[str, tuple[str, ...]]
    calibration: Calibration | None = None


def make_variant(reference: Bundle, folder: Path, options: VariantOptions) -> None:
    """Write a low-precision bundle into an empty folder.

    The bundle is compared with the FP32 one on images that played no part in making it.

    Raises:
        CalibrationError: INT8 without images, or the images cannot serve.
        AccuracyError: the verdicts do not survive and the loss is not accepted.
        EngineError: no engine of this machine runs this precision.
    """
    made = _made(reference, options)
    variant = _write(reference, folder, made, options.precision)
    judged: Sequence[ImageSource] = options.images.held_out if options.images else photographs()
    with _stand_in(variant) as stand_in:
        comparison = compare_bundles(reference, variant, judged, options.judgements, stand_in)
        if not options.accept_loss:
            check_comparison(comparison)
        expected = own_reference(stand_in)
    manifest = msgspec.structs.replace(variant.manifest, comparison=comparison, reference=expected)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())


@contextmanager
def _stand_in(variant: Bundle) -> Iterator[Bundle]:
    """Give a bundle that ONNX Runtime's CPU computes as the variant says.

    INT8 is computed so as it is; FP16 and BF16 are simulated in a bundle that lasts as long as
    the block.
    """
    if variant.manifest.precision == "int8":
        yield variant
        return
    graphs = {role: simulated(onnx.load(variant.graph_path(role))) for role in BACKBONES}
    with tempfile.TemporaryDirectory(
        dir=variant.path.parent, ignore_cleanup_errors=True
    ) as scratch:
        yield _write(variant, Path(scratch), _Made(graphs, {}), "fp32")


def _made(reference: Bundle, options: VariantOptions) -> _Made:
    if options.precision != "int8":
        low: LowType = "fp16" if options.precision == "fp16" else "bf16"
        return _lower(reference, low, options.images)
    if options.images is None:
        raise CalibrationError(
            "INT8 needs images of the kind that will be judged to take its ranges from: name "
            "their folder with --calibrate."
        )
    search = Int8Search(reference, options.images, options.calibration)
    found = search.search(options.calibration.budget)
    return _Made(found.graphs, found.kept, found.calibration)


def _lower(reference: Bundle, precision: LowType, images: ImageSets | None) -> _Made:
    """Keep as many of the first layers in FP32 as the verdicts need, and no more."""
    models = {role: onnx.load(reference.graph_path(role)) for role in BACKBONES}
    views = _trial_views(reference, images)
    largest = {role: _largest(reference, role, models[role], views) for role in BACKBONES}
    trial = Trial(reference, views)
    for front in _FRONTS:
        plans = {role: Plan(precision, largest[role], front) for role in BACKBONES}
        graphs = {role: lowered(models[role], plans[role]) for role in BACKBONES}
        tried = {role: simulated(graph) for role, graph in graphs.items()}
        if trial.outcome(tried).largest_change <= CHANGE_AIMED_AT[precision]:
            break
    return _Made(graphs, {role: kept_nodes(models[role], plans[role]) for role in BACKBONES})


def _trial_views(reference: Bundle, images: ImageSets | None) -> PreparedBatch:
    """Make views to try on: of the user's images, or of ours with more seeds.

    Raises:
        CalibrationError: the images cannot be read or show nothing.
    """
    spec = reference.manifest.views
    if images:
        chosen: Sequence[ImageSource] = images.calibration[:_TRIAL_IMAGES]
        seeds: Iterable[int] = _TRIAL_SEEDS[:_SEEDS_EACH]
    else:
        chosen, seeds = photographs(), _TRIAL_SEEDS
    parts: list[PreparedBatch] = []
    for seed in seeds:
        options = StreamOptions(len(chosen))
        with closing(stream_views(chosen, Sampling(spec, seed), options)) as batches:
            parts.extend(batches)
    suitability = Suitability()
    for part in parts:
        suitability.add(part)
    suitability.check()
    return PreparedBatch(
        tuple(image for part in parts for image in part.images),
        tuple(outcome for part in parts for outcome in part.outcomes),
        np.concatenate([part.overviews for part in parts]),
        np.concatenate([part.crops for part in parts]),
    )


def _largest(
    reference: Bundle, role: Role, model: ModelProto, views: PreparedBatch
) -> Mapping[str, float]:
    """Return the largest magnitude of every inner tensor of a graph on the views."""
    observer = Observer(reference.graph_path(role), float_tensors(model))
    pixels: Array = views.overviews
    if role == "local":
        pixels = views.crops[:, :_CROPS].reshape(-1, *views.crops.shape[2:])
    largest: dict[str, float] = {}
    for start in range(0, len(pixels), _OBSERVED):
        for name, values in observer.run(pixels[start : start + _OBSERVED]).items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max(initial=0.0)))
    return largest


def _write(reference: Bundle, folder: Path, made: _Made, precision: Precision) -> Bundle:
    """Write all files; the manifest lacks only what the graphs are yet to be measured for."""
    manifest = reference.manifest
    weights = []
    if manifest.backbone.shared:
        weights.append(share_weights([made.graphs[role] for role in BACKBONES], folder))
    aggregator = manifest.graphs.aggregator
    for name in (aggregator.file, reference_of(reference).file):
        shutil.copyfile(reference.path / name, folder / name)
    entries = {}
    for role in BACKBONES:
        path = save_graph(folder, role, made.graphs[role])
        entry = msgspec.structs.replace(manifest.graphs[role], file=path.name)
        entries[role] = msgspec.structs.replace(entry, sha256=sha256_of(path))
    opset = max(x.version for graph in made.graphs.values() for x in graph.opset_import)
    changed = msgspec.structs.replace(
        manifest,
        precision=precision,
        opset=opset,
        graphs=Graphs(entries["global"], entries["local"], aggregator),
        weights=tuple(FileEntry(path.name, sha256_of(path)) for path in weights),
        calibration=made.calibration,
        kept={role: names for role, names in made.kept.items() if names},
    )
    (folder / MANIFEST_NAME).write_bytes(changed.encode())
    return Bundle.open(folder)

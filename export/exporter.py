"""From a checkpoint to a bundle: load, export, compare; the bundle appears only at the end."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..calibration.making.graphs import save_graph, share_weights
from ..calibration.making.quantize import quantize_bundle
from ..runtime.bundle.bundle import Bundle, sha256_of
from ..runtime.bundle.making import check_target, hidden_folder, new_bundle
from ..runtime.bundle.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    CheckpointEntry,
    FileEntry,
    Manifest,
    Normalisation,
)
from ..runtime.bundle.model_card import write_model_card
from ..runtime.bundle.streams import AGGREGATOR, GraphEntry, Stream
from ..runtime.machine.environment import library_versions
from ..runtime.machine.progress import Progress, silent
from ..runtime.views.spec import ViewSpec
from .checkpoint import Checkpoint
from .checkpoint_file import checkpoint_digest
from .detectors.registry import Detector
from .graphs import OPSET, make_graphs
from .loaded import Loaded, load_detector
from .options import ExportOptions
from .own_model import measure_own_model, read_own_logits
from .parity import measure_parity
from .reference import write_reference


def _nobody(sentence: str) -> None:
    """Hear nothing."""


def export_bundle(
    checkpoint: Path,
    target: Path,
    options: ExportOptions,
    progress: Progress = silent,
    tell: Callable[[str], None] = _nobody,
) -> Bundle:
    """Export a checkpoint to a bundle at ``target`` and return it.

    The bundle is made in a hidden folder beside ``target`` and renamed when everything, the
    parity gate included, has passed. A lower precision is made of the FP32 bundle, see
    :func:`..calibration.making.quantize.quantize_bundle`. ``progress`` is told how far the work
    has come, and ``tell`` what the checkpoint looks like if nobody named its family.

    Raises:
        InputError: ``target`` exists and may not be replaced, or the reference cannot be read.
        CheckpointError: the checkpoint does not hold the detector expected.
        GraphError: the model cannot be exported.
        ParityError: the graphs do not agree with PyTorch, or with the reference.
        CalibrationError: the images are unreadable or show too little.
        AccuracyError: the low-precision verdicts differ too much from FP32's.
        OutputError: the bundle cannot be written.
    """
    check_target(target, force=options.force)
    loaded = load_detector(checkpoint, options, tell)
    exporting = f"exporting {checkpoint} and comparing it with PyTorch"
    if options.variant is None:
        with new_bundle(target, force=options.force) as folder:
            with progress(exporting):
                _write_fp32(folder, loaded, checkpoint, options)
            write_model_card(Bundle.open(folder))
        return Bundle.open(target)
    with hidden_folder(target) as folder:
        with progress(exporting):
            _write_fp32(folder, loaded, checkpoint, options)
        return quantize_bundle(
            Bundle.open(folder), target, options.variant, force=options.force, progress=progress
        )


def _write_fp32(folder: Path, loaded: Loaded, checkpoint: Path, options: ExportOptions) -> None:
    detector, preset = loaded.detector, loaded.preset
    views = ViewSpec(preset.views)
    normalisation = options.normalisation or preset.normalisation
    own = None if options.reference is None else read_own_logits(options.reference, views)
    streams, aggregator, weights = _write_graphs(folder, detector, views, normalisation)
    manifest = Manifest(
        schema=SCHEMA_VERSION,
        precision="fp32",
        classes=loaded.classes.names,
        fake_class=loaded.classes.fake,
        detector=loaded.entry,
        backbone=loaded.backbone,
        normalisation=normalisation,
        opset=OPSET,
        streams=streams,
        aggregator=aggregator,
        weights=weights,
        checkpoint=_entry(checkpoint, loaded.checkpoint),
        versions={"python": platform.python_version()} | library_versions(),
        reference=write_reference(folder, views, detector, normalisation),
    )
    unmeasured = Bundle(folder, manifest, "")
    parity = measure_parity(detector, unmeasured)
    own_model = None if own is None else measure_own_model(unmeasured, own)
    manifest = msgspec.structs.replace(manifest, parity=parity, own_model=own_model)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())


def _entry(path: Path, found: Checkpoint) -> CheckpointEntry:
    digest = checkpoint_digest(path)
    return CheckpointEntry(path.absolute().name, digest, found.weights, found.both, found.notes)


def _write_graphs(
    folder: Path, detector: Detector, views: ViewSpec, normalisation: Normalisation
) -> tuple[dict[str, Stream], GraphEntry | None, tuple[FileEntry, ...]]:
    """Write the graphs, and the file of weights that some of them may share."""
    graphs = make_graphs(detector, views.streams, normalisation)
    weights = []
    if detector.shares_weights:
        shared = [graphs[name].model for name in detector.streams]
        weights.append(share_weights(shared, folder))
    entries = {}
    for role, graph in graphs.items():
        path = save_graph(folder, role, graph.model)
        entries[role] = GraphEntry(path.name, sha256_of(path), *graph.tensors)
    streams = {name: Stream(own, entries[name]) for name, own in views.streams.items()}
    files = tuple(FileEntry(path.name, sha256_of(path)) for path in weights)
    return streams, entries.get(AGGREGATOR), files

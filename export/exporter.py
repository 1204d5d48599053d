"""From a checkpoint to a bundle: load, export, compare; the bundle appears only at the end."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec

from ..calibration.making.graphs import save_graph, share_weights
from ..calibration.making.quantize import quantize_bundle
from ..runtime.bundle.bundle import Bundle, sha256_of
from ..runtime.bundle.making import check_target, hidden_folder, new_bundle
from ..runtime.bundle.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Backbone,
    CheckpointEntry,
    FileEntry,
    GraphEntry,
    Graphs,
    Manifest,
    Normalisation,
    expected_tensors,
)
from ..runtime.bundle.model_card import write_model_card
from ..runtime.machine.environment import library_versions
from ..runtime.machine.progress import Progress, silent
from ..runtime.views.spec import ViewSpec
from . import paper
from .checkpoint import Checkpoint
from .checkpoint_file import checkpoint_digest
from .graphs import OPSET, make_graphs
from .loading import LoadedModel, load_model
from .model import Glass
from .options import ExportOptions
from .own_model import measure_own_model, read_own_logits
from .parity import measure_parity
from .reference import write_reference


def export_bundle(
    checkpoint: Path, target: Path, options: ExportOptions, progress: Progress = silent
) -> Bundle:
    """Export a checkpoint to a bundle at ``target`` and return it.

    The bundle is made in a hidden folder beside ``target`` and renamed when everything, the
    parity gate included, has passed. A lower precision is made of the FP32 bundle, see
    :func:`..calibration.making.quantize.quantize_bundle`. ``progress`` is told how far the work
    has come.

    Raises:
        InputError: ``target`` exists and may not be replaced, or the reference cannot be read.
        CheckpointError: the checkpoint does not hold the GLASS expected.
        GraphError: the model cannot be exported.
        ParityError: the graphs do not agree with PyTorch, or with the reference.
        CalibrationError: the images are unreadable or show too little.
        AccuracyError: the low-precision verdicts differ too much from FP32's.
        OutputError: the bundle cannot be written.
    """
    check_target(target, force=options.force)
    loaded = load_model(checkpoint, options.backbone, options.crop_size, options.weights)
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


def _write_fp32(
    folder: Path, loaded: LoadedModel, checkpoint: Path, options: ExportOptions
) -> None:
    model, recipe = loaded.model, loaded.recipe
    views = ViewSpec(recipe.crop_size, options.crops or recipe.crops, paper.MAX_GRID)
    normalisation = options.normalisation or recipe.normalisation
    reference = options.reference
    own = None if reference is None else read_own_logits(reference, recipe.crop_size)
    graphs, weights = _write_graphs(folder, model, recipe.crop_size, normalisation)
    manifest = Manifest(
        schema=SCHEMA_VERSION,
        precision="fp32",
        classes=options.classes,
        fake_class=options.fake_class,
        backbone=Backbone(
            name=recipe.name,
            family=recipe.family,
            feature_size=model.feature_size,
            shared=model.shares_backbone,
            fixed_batch=recipe.fixed_batch,
            quantise_residuals=recipe.quantise_residuals,
        ),
        views=views,
        normalisation=normalisation,
        opset=OPSET,
        graphs=graphs,
        weights=weights,
        checkpoint=_entry(checkpoint, loaded.checkpoint),
        versions={"python": platform.python_version()} | library_versions(),
        reference=write_reference(folder, views, model, normalisation),
    )
    unmeasured = Bundle(folder, manifest, "")
    parity = measure_parity(model, unmeasured)
    own_model = None if own is None else measure_own_model(unmeasured, own)
    manifest = msgspec.structs.replace(manifest, parity=parity, own_model=own_model)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())


def _entry(path: Path, found: Checkpoint) -> CheckpointEntry:
    digest = checkpoint_digest(path)
    return CheckpointEntry(path.absolute().name, digest, found.weights, found.both, found.notes)


def _write_graphs(
    folder: Path, model: Glass, crop_size: int, normalisation: Normalisation
) -> tuple[Graphs, tuple[FileEntry, ...]]:
    """Write the graphs, and the file of weights that two of them may share."""
    graphs = make_graphs(model, crop_size, normalisation)
    weights = []
    if model.shares_backbone:
        weights.append(share_weights([graphs["global"], graphs["local"]], folder))
    tensors = expected_tensors(crop_size, model.feature_size)
    entries = {}
    for role, graph in graphs.items():
        path = save_graph(folder, role, graph)
        entries[role] = GraphEntry(path.name, sha256_of(path), *tensors[role])
    return (
        Graphs(entries["global"], entries["local"], entries["aggregator"]),
        tuple(FileEntry(path.name, sha256_of(path)) for path in weights),
    )

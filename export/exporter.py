"""From a checkpoint to a bundle: load, export, compare, and only then let it appear."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..calibration.images import split_images
from ..calibration.options import DEFAULT_JUDGEMENTS, CalibrationOptions
from ..runtime.bundle.bundle import Bundle, sha256_of
from ..runtime.bundle.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Backbone,
    CheckpointEntry,
    FileEntry,
    GraphEntry,
    Graphs,
    Manifest,
    Precision,
    expected_tensors,
)
from ..runtime.machine.environment import library_versions
from ..runtime.machine.errors import InputError, OutputError
from ..runtime.machine.progress import Progress, silent
from ..runtime.views.spec import ViewSpec
from .graphs import OPSET, make_graphs, save_graph, share_weights
from .loading import AUTO, LoadedModel, load_model
from .model_card import write_model_card
from .parity import measure_parity
from .reference import write_reference
from .variants import VariantOptions, make_variant

MAX_GRID = 8
DEFAULT_CLASSES = ("fake", "real")


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how.

    Attributes:
        backbone: ``auto`` or ``timm/NAME``.
        precision: the type that the graphs compute in.
        crops: crops per image; ``None`` takes the paper's number for the family.
        classes: class names in the order of the logits.
        fake_class: which of them means AI-generated.
        calibrate: a folder of images of the kind that will be judged. INT8 takes its ranges
            from them; every low precision is compared with FP32 on a part held out.
        calibration: how INT8 is made.
        judgements: how often at least it and FP32 judge in that comparison.
        accept_loss: keep a low-precision bundle whose verdicts do not survive.
        force: replace an existing bundle.
    """

    backbone: str = AUTO
    precision: Precision = "fp32"
    crops: int | None = None
    classes: tuple[str, str] = DEFAULT_CLASSES
    fake_class: str = "fake"
    calibrate: Path | None = None
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    judgements: int = DEFAULT_JUDGEMENTS
    accept_loss: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.crops is not None and self.crops < 1:
            raise InputError(f"crops must be at least 1, not {self.crops}.")
        if self.judgements < 1:
            raise InputError(f"judgements must be at least 1, not {self.judgements}.")
        if self.precision == "fp32" and self.calibrate is not None:
            raise InputError("FP32 needs no images: choose a lower precision, or do not calibrate.")
        if self.precision == "int8" and self.calibrate is None:
            raise InputError(
                "INT8 takes its ranges from images of the kind that will be judged: name their "
                "folder with --calibrate."
            )
        if len(set(self.classes)) != 2 or not all(self.classes):
            raise InputError(f"two different class names are needed, not {','.join(self.classes)}.")
        if self.fake_class not in self.classes:
            raise InputError(
                f"the fake class {self.fake_class!r} is not among the classes "
                f"{','.join(self.classes)}."
            )


def export_bundle(
    checkpoint: Path, target: Path, options: ExportOptions, progress: Progress = silent
) -> Bundle:
    """Export a checkpoint to a bundle at ``target`` and return it.

    The bundle is made in a folder beside ``target`` and renamed when everything,
    the parity gate included, has passed. ``progress`` is told how far the work is.

    Raises:
        InputError: ``target`` exists and may not be replaced.
        CheckpointError: the checkpoint does not hold the GLASS expected.
        GraphError: the model cannot be exported.
        ParityError: the graphs do not agree with PyTorch.
        CalibrationError: the images named cannot serve.
        AccuracyError: the low-precision verdicts differ too much from FP32's.
        OutputError: the bundle cannot be written.
    """
    check_target(target, force=options.force)
    loaded = load_model(checkpoint, options.backbone)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
        ) as scratch:
            folder = Path(scratch) / target.name
            folder.mkdir()
            _make(folder, loaded, checkpoint, options, progress)
            write_model_card(Bundle.open(folder))
            _put_in_place(folder, target, Path(scratch))
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from None
    return Bundle.open(target)


def check_target(target: Path, *, force: bool) -> None:
    """Refuse to overwrite, before any work is done.

    Raises:
        InputError: ``target`` exists and ``force`` is not given, or is no bundle, or the
            folder it shall lie in does not exist.
    """
    if target.exists() and not (target / MANIFEST_NAME).is_file():
        raise InputError(f"{target} exists and is not a bundle; choose another name.")
    if target.exists() and not force:
        raise InputError(f"{target} exists already: choose another name, or --force to replace it.")
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} does not exist.")


def _make(
    folder: Path,
    loaded: LoadedModel,
    checkpoint: Path,
    options: ExportOptions,
    progress: Progress,
) -> None:
    """Make the bundle in an empty folder: in FP32, and from that in a lower precision."""
    if options.precision == "fp32":
        with progress(f"exporting {checkpoint} and comparing it with PyTorch"):
            _write_fp32(folder, loaded, checkpoint, options)
        return
    images = None
    if options.calibrate is not None:
        images = split_images(options.calibrate, options.calibration.images)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as scratch:
        with progress(f"exporting {checkpoint} and comparing it with PyTorch"):
            _write_fp32(Path(scratch), loaded, checkpoint, options)
        variant = VariantOptions(
            options.precision,
            images,
            options.calibration,
            options.judgements,
            options.accept_loss,
        )
        make_variant(Bundle.open(scratch), folder, variant, progress)


def _write_fp32(
    folder: Path, loaded: LoadedModel, checkpoint: Path, options: ExportOptions
) -> None:
    model, recipe = loaded.model, loaded.recipe
    views = ViewSpec(recipe.crop_size, options.crops or recipe.crops, MAX_GRID)
    graphs = make_graphs(model, recipe.crop_size, recipe.normalisation)
    weights = []
    if model.shares_backbone:
        weights.append(share_weights([graphs["global"], graphs["local"]], folder))
    tensors = expected_tensors(recipe.crop_size, model.feature_size)
    entries = {}
    for role, graph in graphs.items():
        path = save_graph(folder, role, graph)
        inputs, outputs = tensors[role]
        entries[role] = GraphEntry(path.name, sha256_of(path), inputs, outputs)
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
        normalisation=recipe.normalisation,
        opset=OPSET,
        graphs=Graphs(entries["global"], entries["local"], entries["aggregator"]),
        weights=tuple(FileEntry(path.name, sha256_of(path)) for path in weights),
        checkpoint=CheckpointEntry(checkpoint.name, sha256_of(checkpoint)),
        versions={"python": platform.python_version()} | library_versions(),
        reference=write_reference(folder, views, model, recipe.normalisation),
    )
    parity = measure_parity(model, Bundle(folder, manifest, ""))
    manifest = msgspec.structs.replace(manifest, parity=parity)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())


def _put_in_place(folder: Path, target: Path, scratch: Path) -> None:
    """Let the finished bundle appear in one step; what it replaces is moved aside first."""
    if target.exists():
        target.rename(scratch / "replaced")
    folder.rename(target)

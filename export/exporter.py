"""From a checkpoint to a bundle: load, export, compare, and only then let it appear."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import onnx
from onnx import ModelProto

from ..runtime.bundle import Bundle, sha256_of
from ..runtime.errors import InputError, OutputError
from ..runtime.manifest import (
    MANIFEST_NAME,
    Backbone,
    FileEntry,
    GraphEntry,
    Graphs,
    Manifest,
    Precision,
    Role,
    ViewSpec,
    expected_tensors,
)
from .errors import GraphError
from .graphs import IMAGENET, OPSET, make_graphs, share_weights
from .loading import AUTO, LoadedModel, load_model
from .parity import measure_parity

MAX_GRID = 8
DEFAULT_CLASSES = ("fake", "real")
_VERSIONED = ("glass-edge", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how.

    Attributes:
        backbone: ``auto`` or ``timm/NAME``.
        precision: the type that the graphs compute in.
        crops: crops per image; ``None`` takes the paper's number for the family.
        classes: class names in the order of the logits.
        fake_class: which of them means AI-generated.
        force: replace an existing bundle.
    """

    backbone: str = AUTO
    precision: Precision = "fp32"
    crops: int | None = None
    classes: tuple[str, str] = DEFAULT_CLASSES
    fake_class: str = "fake"
    force: bool = False

    def __post_init__(self) -> None:
        if self.crops is not None and self.crops < 1:
            raise InputError(f"crops must be at least 1, not {self.crops}.")
        if len(set(self.classes)) != 2 or not all(self.classes):
            raise InputError(f"two different class names are needed, not {','.join(self.classes)}.")
        if self.fake_class not in self.classes:
            raise InputError(
                f"the fake class {self.fake_class!r} is not among the classes "
                f"{','.join(self.classes)}."
            )


def export_bundle(checkpoint: Path, target: Path, options: ExportOptions) -> Bundle:
    """Export a checkpoint to a bundle at ``target`` and return it.

    The bundle is made in a folder beside ``target`` and renamed when everything,
    the parity gate included, has passed.

    Raises:
        InputError: ``target`` exists and may not be replaced.
        CheckpointError: the checkpoint does not hold the GLASS expected.
        GraphError: the model cannot be exported.
        ParityError: the graphs do not agree with PyTorch.
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
            _write_bundle(folder, loaded, checkpoint, options)
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


def _write_bundle(
    folder: Path, loaded: LoadedModel, checkpoint: Path, options: ExportOptions
) -> None:
    model, recipe = loaded.model, loaded.recipe
    graphs = make_graphs(model, recipe.crop_size)
    weights = []
    if model.shares_backbone:
        weights.append(share_weights([graphs["global"], graphs["local"]], folder))
    tensors = expected_tensors(recipe.crop_size, model.feature_size)
    entries = {}
    for role, graph in graphs.items():
        path = _save_graph(folder, role, graph)
        inputs, outputs = tensors[role]
        entries[role] = GraphEntry(path.name, sha256_of(path), inputs, outputs)
    manifest = Manifest(
        schema=1,
        precision=options.precision,
        classes=options.classes,
        fake_class=options.fake_class,
        backbone=Backbone(recipe.name, recipe.family, model.feature_size, model.shares_backbone),
        views=ViewSpec(recipe.crop_size, options.crops or recipe.default_crops, MAX_GRID),
        normalisation=IMAGENET,
        opset=OPSET,
        graphs=Graphs(entries["global"], entries["local"], entries["aggregator"]),
        weights=tuple(FileEntry(path.name, sha256_of(path)) for path in weights),
        checkpoint=FileEntry(checkpoint.name, sha256_of(checkpoint)),
        versions=_versions(),
    )
    parity = measure_parity(model, Bundle(folder, manifest, ""))
    manifest = msgspec.structs.replace(manifest, parity=parity)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())


def _save_graph(folder: Path, role: Role, graph: ModelProto) -> Path:
    path = folder / f"{role}.onnx"
    try:
        onnx.save(graph, path)
        onnx.checker.check_model(str(path), full_check=True)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise GraphError(f"the {role} graph cannot be saved as valid ONNX: {error}") from error
    return path


def _put_in_place(folder: Path, target: Path, scratch: Path) -> None:
    """Let the finished bundle appear in one step; what it replaces is moved aside first."""
    if target.exists():
        target.rename(scratch / "replaced")
    folder.rename(target)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in _VERSIONED}

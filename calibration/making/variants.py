"""Makes a low-precision bundle from an FP32 one, and compares their verdicts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle, sha256_of
from ...runtime.bundle.manifest import (
    MANIFEST_NAME,
    Calibration,
    FileEntry,
    Graphs,
    Precision,
    Rest,
    Role,
)
from ...runtime.images.reading import ImageSource
from ...runtime.machine.progress import Progress, silent
from ..errors import CalibrationError
from ..floats.mixed import LowType
from ..floats.search import TRIED_ON, lower, lower_rest
from ..floats.simulated import simulated
from ..images import ImageSets
from ..int8.search import Int8Search
from ..judging.comparison import check_comparison, compare_bundles
from ..judging.trial import BACKBONES
from ..options import DEFAULT_JUDGEMENTS, CalibrationOptions
from ..photographs import photographs
from .graphs import save_graph, share_weights
from .reference import own_reference


@dataclass(frozen=True)
class VariantOptions:
    """Which precision to make, and on which images to compare it.

    Attributes:
        precision: not FP32.
        images: the user's. INT8 needs them; ``None`` takes the package's photographs for other
            types, which is enough to find what is broken.
        calibration: how INT8 is made.
        judgements: the least number of judgements by each bundle in the comparison.
        accept_loss: write the bundle even if its verdicts differ too much.
    """

    precision: Precision
    images: ImageSets | None
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    judgements: int = DEFAULT_JUDGEMENTS
    accept_loss: bool = False


@dataclass(frozen=True)
class _Made:
    """Graphs with their weights inside, and what the manifest will say about them."""

    graphs: dict[Role, ModelProto]
    kept: dict[str, tuple[str, ...]]
    calibration: Calibration | None = None
    rest: Rest | None = None


def make_variant(
    reference: Bundle, folder: Path, options: VariantOptions, progress: Progress = silent
) -> None:
    """Write a low-precision bundle into an empty folder.

    It is compared with the FP32 bundle on images that it was not made with.

    Raises:
        CalibrationError: INT8 without images, or the images are unreadable or show too little.
        AccuracyError: the verdicts differ too much, and the loss is not accepted.
        EngineError: no engine of this machine runs this precision.
    """
    made = _made(reference, options, progress)
    variant = _write(reference, folder, made, options.precision)
    own = photographs()[TRIED_ON:]
    judged: Sequence[ImageSource] = options.images.held_out if options.images else own
    with _stand_in(variant) as stand_in:
        comparison = compare_bundles(
            reference, variant, judged, options.judgements, stand_in, progress
        )
        if not options.accept_loss:
            check_comparison(comparison)
        expected = own_reference(stand_in)
    manifest = msgspec.structs.replace(variant.manifest, comparison=comparison, reference=expected)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())


@contextmanager
def _stand_in(variant: Bundle) -> Iterator[Bundle]:
    """Yield a bundle that ONNX Runtime's CPU computes in the types that the variant declares.

    That is the variant itself if it is in INT8 and FP32, else a simulation in FP32, which lasts as
    long as the block.
    """
    if variant.manifest.rest == "fp32":
        yield variant
        return
    graphs = {role: simulated(onnx.load(variant.graph_path(role))) for role in BACKBONES}
    with tempfile.TemporaryDirectory(
        dir=variant.path.parent, ignore_cleanup_errors=True
    ) as scratch:
        yield _write(variant, Path(scratch), _Made(graphs, {}), "fp32")


def _made(reference: Bundle, options: VariantOptions, progress: Progress) -> _Made:
    images = options.images
    if options.precision != "int8":
        low: LowType = "fp16" if options.precision == "fp16" else "bf16"
        lowered = lower(reference, low, images)
        return _Made(lowered.graphs, lowered.kept)
    if images is None:
        raise CalibrationError(
            "INT8 needs images of the kind that will be judged to take its ranges from: name "
            "their folder with --calibrate."
        )
    search = Int8Search(reference, images, options.calibration, progress)
    found = search.search(options.calibration.budget)
    if options.calibration.rest == "fp32":
        return _Made(found.graphs, found.kept, found.calibration, "fp32")
    lowered = lower_rest(reference, found.graphs, images)
    kept = {  # a layer in neither INT8 nor FP16 is in both lists
        name: tuple(dict.fromkeys(nodes + lowered.kept[name])) for name, nodes in found.kept.items()
    }
    return _Made(lowered.graphs, kept, found.calibration, "fp16")


def _write(reference: Bundle, folder: Path, made: _Made, precision: Precision) -> Bundle:
    """Write all files; the manifest has no comparison yet."""
    manifest = reference.manifest
    weights = []
    if manifest.backbone.shared:
        weights.append(share_weights([made.graphs[role] for role in BACKBONES], folder))
    aggregator = manifest.graphs.aggregator
    for name in (aggregator.file, manifest.reference.file):
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
        rest=made.rest,
    )
    (folder / MANIFEST_NAME).write_bytes(changed.encode())
    return Bundle.open(folder)

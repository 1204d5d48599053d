"""Makes a low-precision bundle from an FP32 one, and compares their verdicts."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle, sha256_of
from ...runtime.bundle.manifest import (
    MANIFEST_NAME,
    Calibration,
    FileEntry,
    Precision,
    Rest,
)
from ...runtime.bundle.streams import Role
from ...runtime.engines.registry import check_cpu_computes
from ...runtime.images.reading import ImageSource
from ...runtime.machine.environment import library_versions
from ...runtime.machine.errors import OutputError
from ...runtime.machine.progress import Progress, silent
from ..floats.search import FloatSearch, Lowered, lower
from ..floats.simulated import simulated
from ..int8.search import Int8Search
from ..judging.comparison import compare_bundles
from ..judging.gate import check_comparison
from ..options import VariantOptions
from ..photographs import own_images
from .graphs import save_graph, share_weights
from .reference import own_reference


@dataclass(frozen=True)
class Made:
    """Graphs with their weights inside, and what the manifest will say about them."""

    graphs: Mapping[Role, ModelProto]
    kept: Mapping[Role, tuple[str, ...]]
    calibration: Calibration | None = None
    rest: Rest | None = None


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder for a bundle among the temporary files, with room for others beside it.

    Raises:
        OutputError: the block, or what is done here, raised an OSError.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="glass-", ignore_cleanup_errors=True) as scratch:
            folder = Path(scratch, "candidate")
            folder.mkdir()
            yield folder
    except OSError as error:
        raise OutputError(
            f"temporary files cannot be written: {error.strerror or error}. Let TMPDIR name a "
            "folder with room for two bundles."
        ) from None


def make_variant(
    reference: Bundle, folder: Path, options: VariantOptions, progress: Progress = silent
) -> None:
    """Write a low-precision bundle into an empty folder.

    It is compared with the FP32 bundle on images that it was not made with.

    Raises:
        CalibrationError: the images are unreadable or show too little.
        AccuracyError: the verdicts differ too much, and the loss is not accepted.
        EngineError: no engine of this machine runs this precision.
    """
    check_cpu_computes(options.precision)
    made = _made(reference, options, progress)
    with progress("writing the bundle"):
        variant = write_variant(reference, folder, made, options.precision)
    _, own = own_images(reference.manifest.views)
    judged: Sequence[ImageSource] = options.images.held_out if options.images else own
    with stand_in_for(variant) as stand_in:
        comparison = compare_bundles(
            reference, variant, judged, options.judgements, stand_in, progress
        )
        if not options.accept_loss:
            check_comparison(comparison)
        with progress("judging the reference views"):
            expected = own_reference(stand_in)
    manifest = msgspec.structs.replace(variant.manifest, comparison=comparison, reference=expected)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())


@contextmanager
def stand_in_for(variant: Bundle) -> Iterator[Bundle]:
    """Yield a bundle that ONNX Runtime's CPU computes in the types that the variant declares.

    That is the variant itself if it is in INT8 and FP32, else a simulation in FP32, which lasts as
    long as the block.
    """
    if variant.manifest.rest == "fp32":
        yield variant
        return
    streams = variant.manifest.streams
    graphs = {name: simulated(onnx.load(variant.graph_path(name))) for name in streams}
    with tempfile.TemporaryDirectory(
        dir=variant.path.parent, ignore_cleanup_errors=True
    ) as scratch:
        yield write_variant(variant, Path(scratch), Made(graphs, {}), "fp32")


def _made(reference: Bundle, options: VariantOptions, progress: Progress) -> Made:
    if options.precision == "int8":
        return _in_int8(reference, options, progress)
    return in_float(lower(reference, options.precision, options.images, progress))


def _in_int8(reference: Bundle, options: VariantOptions, progress: Progress) -> Made:
    search = Int8Search(reference, options.images_for_ranges(), options.calibration, progress)
    found = search.search()
    made = Made(found.graphs, found.kept, found.calibration, "fp32")
    if options.calibration.rest == "fp32":
        return made
    return with_rest_in_fp16(made, FloatSearch(reference, search.trial, progress))


def in_float(lowered: Lowered) -> Made:
    """Return what a bundle in FP16 or BF16 is written from."""
    return Made(lowered.graphs, lowered.kept)


def with_rest_in_fp16(made: Made, floats: FloatSearch) -> Made:
    """Return INT8 graphs whose rest is in FP32 with that in FP16."""
    lowered = floats.lower_rest(made.graphs)
    kept = {  # a layer in neither INT8 nor FP16 is in both lists
        name: tuple(dict.fromkeys(nodes + lowered.kept[name])) for name, nodes in made.kept.items()
    }
    return replace(made, graphs=lowered.graphs, kept=kept, rest="fp16")


def write_variant(reference: Bundle, folder: Path, made: Made, precision: Precision) -> Bundle:
    """Write all files of a bundle into an empty folder; its manifest has no comparison yet."""
    manifest = reference.manifest
    weights = []
    if manifest.backbone.shared:
        weights.append(share_weights([*made.graphs.values()], folder))
    aggregator = manifest.aggregator
    for copied in (aggregator, manifest.reference):
        if copied is not None:
            shutil.copyfile(reference.path / copied.file, folder / copied.file)
    streams = {}
    for role, stream in manifest.streams.items():
        path = save_graph(folder, role, made.graphs[role])
        entry = msgspec.structs.replace(stream.graph, file=path.name, sha256=sha256_of(path))
        streams[role] = msgspec.structs.replace(stream, graph=entry)
    opset = max(x.version for graph in made.graphs.values() for x in graph.opset_import)
    changed = msgspec.structs.replace(
        manifest,
        precision=precision,
        opset=opset,
        streams=streams,
        weights=tuple(FileEntry(path.name, sha256_of(path)) for path in weights),
        calibration=made.calibration,
        kept={role: names for role, names in made.kept.items() if names},
        rest=made.rest,
        # They were found with the source's numbers: glass-calibrate finds the new one's.
        stopping=None,
        scores=None,
        # Of what made FP32, and of what made this of it where both used the same library.
        versions=manifest.versions | {"python": platform.python_version()} | library_versions(),
    )
    (folder / MANIFEST_NAME).write_bytes(changed.encode())
    return Bundle.open(folder)

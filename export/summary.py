"""What ``glass-export`` prints at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..calibration.commands.summary import (
    describe_files,
    precision_lines,
    precision_notes,
    print_lines,
    print_notes,
)
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.manifest import CheckpointEntry, Manifest, OwnModel, Parity
from . import paper
from .options import GLASS, USERS

_EMA_OF_BOTH = "EMA (the checkpoint also holds raw weights; --weights raw takes them)"
_RAW_OF_BOTH = "raw (the checkpoint also holds EMA weights; --weights ema takes them)"
_EMA_ALONE = "EMA, the only ones in the checkpoint"


def summarise(source: Path, bundle: Bundle) -> None:
    """Print what was exported from ``source`` and measured; notes go to standard error."""
    manifest, parity = bundle.manifest, bundle.manifest.parity
    agreement = "" if parity is None else _agreement(parity)  # an opened bundle has one
    backbone = manifest.backbone
    weights = ", shared by all streams" if backbone.shared else ""
    widths = ", ".join(str(each) for each in {stream.width for stream in manifest.streams.values()})
    features = f", {widths} features" if manifest.aggregator else ""
    lines = {
        "checkpoint": f"{source} (SHA-256 {manifest.checkpoint.sha256[:12]}…)",
        **_which_weights(manifest.checkpoint),
        "detector": f"{manifest.detector.title}, preset {manifest.detector.preset} "
        f"({manifest.detector.preset_source})",
        "backbone": f"{backbone.name}{weights}{features}",
        "views": str(manifest.views),
        "normalised": str(manifest.normalisation),
        "classes": f"{', '.join(manifest.classes)} ({manifest.fake_class} means AI-generated; "
        f"{manifest.detector.classes_source})",
        "own model": _own_model(manifest.own_model),
        "parity": agreement,
        "bundle": describe_files(bundle),
    }
    print_lines(lines | precision_lines(manifest))
    print_notes(_notes(manifest))


def _is_unlike_the_paper(manifest: Manifest) -> bool:
    """Whether nobody said how views are made, and timm does otherwise than the paper."""
    found, theirs = manifest.normalisation, paper.NORMALISATION
    if manifest.detector.family != GLASS or found.source in (USERS, theirs.source):
        return False
    same = (found.mean, found.std) == (theirs.mean, theirs.std)
    return not same or manifest.views.crop_size != paper.CROP_SIZE


def _agreement(parity: Parity) -> str:
    return (
        f"largest difference to PyTorch in any logit {parity.logit_error:.1e} "
        f"(allowed {parity.tolerance:.0e}); {parity.images} photographs, "
        f"batches {', '.join(map(str, parity.batch_sizes))}"
    )


def _which_weights(checkpoint: CheckpointEntry) -> dict[str, str]:
    """Return the line on which weights were taken; none for a checkpoint of raw weights only."""
    averaged = checkpoint.weights == "ema"
    if checkpoint.both:
        return {"weights": _EMA_OF_BOTH if averaged else _RAW_OF_BOTH}
    return {"weights": _EMA_ALONE} if averaged else {}


def _own_model(found: OwnModel | None) -> str:
    if found is None:
        return (
            "not compared: parity is with a PyTorch model rebuilt from the checkpoint's keys, "
            "which do not hold strides, dilation or heads (--reference compares with yours)"
        )
    return (
        f"largest difference to {found.file} in any logit {found.logit_error:.1e}; "
        f"{found.inputs} inputs"
    )


def _notes(manifest: Manifest) -> Iterator[str]:
    yield from manifest.checkpoint.notes
    if _is_unlike_the_paper(manifest):
        side = manifest.views.crop_size
        yield (
            f"views of {side}x{side} pixels and their normalisation are "
            f"{manifest.normalisation.source}, not the paper's: if this GLASS was trained with "
            "others, export it with --crop-size, --mean and --std."
        )
    yield from precision_notes(manifest)

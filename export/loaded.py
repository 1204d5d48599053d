"""From a checkpoint to a detector that can be exported, whatever its family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..runtime.bundle.manifest import Backbone, DetectorEntry
from .checkpoint import Checkpoint
from .detectors.glass import glass_detector, glass_entry
from .detectors.registry import Classes, Detector, Preset
from .loading import load_model
from .options import FAKE, USERS, ExportOptions, check_fake_class


@dataclass(frozen=True)
class Loaded:
    """A detector with its weights, and what the manifest says of it.

    Attributes:
        detector: in eval mode and float32.
        preset: how its images become views.
        classes: what its logits mean, in the user's words if they gave any.
        entry: which detector it is.
        backbone: what engines and INT8 must know of its network.
        checkpoint: the weights as they were read.
    """

    detector: Detector
    preset: Preset
    classes: Classes
    entry: DetectorEntry
    backbone: Backbone
    checkpoint: Checkpoint


def load_detector(path: Path, options: ExportOptions) -> Loaded:
    """Load the detector of a checkpoint.

    Raises:
        CheckpointError: it cannot be read, or is of no family that is known.
    """
    loaded = load_model(path, options.backbone, options.crop_size, options.weights)
    detector, preset = glass_detector(loaded, options)
    classes = _chosen(detector.classes, options)
    return Loaded(
        detector=detector,
        preset=preset,
        classes=classes,
        entry=glass_entry(preset, classes),
        backbone=_backbone(detector, loaded.recipe.family),
        checkpoint=loaded.checkpoint,
    )


def _chosen(theirs: Classes, options: ExportOptions) -> Classes:
    """Return the user's classes, or else the detector's."""
    names = options.classes or theirs.names
    fake = options.fake_class or (FAKE if options.classes else theirs.fake)
    check_fake_class(fake, names)
    if (names, fake) == (theirs.names, theirs.fake):
        return theirs
    return Classes(names, fake, USERS)


def _backbone(detector: Detector, family: str) -> Backbone:
    return Backbone(
        name=detector.name,
        family=family,
        shared=detector.shares_weights,
        fixed_batch=detector.fixed_batch,
        quantise_residuals=detector.quantise_residuals,
    )

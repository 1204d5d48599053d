"""From a checkpoint to a detector that can be exported, whatever its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..runtime.bundle.manifest import Backbone, DetectorEntry
from ..runtime.machine.errors import InputError
from .checkpoint import Checkpoint
from .checkpoint_file import read_content
from .detectors.glass import glass_detector, glass_entry
from .detectors.reading import choose_preset, open_source, recognise
from .detectors.registry import Classes, Detector, Family, Preset, Source
from .errors import CheckpointError
from .loading import load_model
from .networks import Content, has_views_of_a_glass
from .options import AUTO, FAKE, GLASS, USERS, ExportOptions, check_fake_class


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


def load_detector(path: Path, options: ExportOptions, tell: Callable[[str], None]) -> Loaded:
    """Load the detector of a checkpoint.

    Args:
        path: a file or a folder.
        options: what the user said of it.
        tell: is told in a sentence what the checkpoint looks like, if nobody named its family.

    Raises:
        CheckpointError: it cannot be read, or is of no family that is known.
        InputError: an option has no meaning for the family.
    """
    if options.family == GLASS:
        return _glass(path, options)
    if options.family is None and Content(read_content(path)).networks:
        return _glass(path, options)
    architecture = None if options.backbone == AUTO else options.backbone
    opened = open_source(path, options.backbone_weights, architecture)
    source = replace(opened, classes=options.classes, fake_class=options.fake_class)
    try:
        family = recognise(source, options.family)
    except CheckpointError:
        if has_views_of_a_glass([*source.state]):
            return _glass(path, options)  # which says what is missing
        raise
    _check_meant(options, family)
    preset = choose_preset(family, source, options.preset)
    if preset.normalises and options.normalisation is not None:
        raise InputError(
            f"{family.title} normalises views inside its network: leave --mean and --std out."
        )
    if options.family is None:
        tell(f"this looks like {family.title}; its views are made by the preset {preset.name}.")
    return _of_family(family, source, preset, options)


def _glass(path: Path, options: ExportOptions) -> Loaded:
    for name, value in (
        ("--preset", options.preset),
        ("--backbone-weights", options.backbone_weights),
    ):
        if value is not None:
            raise InputError(f"{name} has no meaning for a GLASS: leave it out.")
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


def _of_family(family: Family, source: Source, preset: Preset, options: ExportOptions) -> Loaded:
    try:
        detector = family.load(source, preset)
    except CheckpointError as error:
        raise CheckpointError(f"{source.path}: {error}") from None
    classes = _chosen(detector.classes, options)
    return Loaded(
        detector=detector,
        preset=preset,
        classes=classes,
        entry=DetectorEntry(
            family=family.name,
            title=family.title,
            preset=preset.name,
            preset_source=preset.source,
            classes_source=classes.source,
        ),
        backbone=_backbone(detector, family.name),
        checkpoint=Checkpoint(source.state, "raw"),
    )


def _check_meant(options: ExportOptions, family: Family) -> None:
    """Refuse options that only a GLASS has.

    Raises:
        InputError: one is given.
    """
    for name, value in (
        ("--crops", options.crops),
        ("--crop-size", options.crop_size),
        ("--weights", options.weights),
    ):
        if value is not None:
            raise InputError(
                f"{name} is for a GLASS, and this looks like {family.title}, whose preset says "
                "what it looks at: leave it out, or choose another --preset."
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

"""GLASS itself, as a detector among others."""

from __future__ import annotations

from ...runtime.bundle.manifest import DetectorEntry
from .. import paper
from ..loading import LoadedModel
from ..options import GLASS, USERS, ExportOptions
from .registry import Classes, Detector, Preset

TITLE = "GLASS"
PRESET = "paper"


def glass_detector(loaded: LoadedModel, options: ExportOptions) -> tuple[Detector, Preset]:
    """Return a GLASS that was loaded, and how its images become views."""
    model, recipe = loaded.model, loaded.recipe
    detector = Detector(
        name=recipe.name,
        streams={paper.GLOBAL: model.global_model, paper.LOCAL: model.local_model},
        aggregator=model.aggregator(),
        classes=Classes(paper.CLASSES, "fake", "the paper's"),
        fixed_batch=recipe.fixed_batch,
        quantise_residuals=recipe.quantise_residuals,
        shares_weights=model.shares_backbone,
    )
    views = paper.glass_views(recipe.crop_size, options.crops or recipe.crops).streams
    source = paper.SOURCE
    if recipe.crop_size != paper.CROP_SIZE:
        source = USERS if options.crop_size else "the backbone's own size"
    return detector, Preset(PRESET, source, views, recipe.normalisation)


def glass_entry(preset: Preset, classes: Classes) -> DetectorEntry:
    """Return what the manifest says of a GLASS."""
    return DetectorEntry(GLASS, TITLE, preset.name, preset.source, classes.source)

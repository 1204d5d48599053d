"""Do bundles, and a checkpoint with them, fit together so that they can be compared?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ...export.options import GLASS
from ...runtime.bundle.bundle import Bundle
from ...runtime.machine.errors import InputError
from ...runtime.views.spec import ViewSpec

if TYPE_CHECKING:
    from ...export.loading import LoadedModel


def common_views(bundles: Sequence[Bundle], crops: int | None) -> ViewSpec:
    """Return the view specification that bundles share, with ``crops`` if given.

    Raises:
        InputError: they differ in their classes or in how they see images.
    """
    first = bundles[0]
    views = _views(first, crops)
    for other in bundles[1:]:
        pair = f"{first.path} and {other.path}"
        if _meaning(first) != _meaning(other):
            raise InputError(
                f"{pair} do not tell the same classes apart ({_classes(first)} against "
                f"{_classes(other)}): evaluate them one at a time."
            )
        if (differs := _difference(views, _views(other, crops))) is not None:
            raise InputError(
                f"{pair} cannot judge the same views, because their {differs}: evaluate them one "
                "at a time."
            )
        if views != _views(other, crops):
            raise InputError(
                f"{pair} take different numbers of crops ({views.num_crops} against "
                f"{other.manifest.views.num_crops}): choose one number for all with --crops."
            )
    return views


def load_fitting(checkpoint: Path, backbone: str, bundles: Sequence[Bundle]) -> LoadedModel:
    """Load a checkpoint; refuse bundles that were made of another backbone than its own.

    Args:
        checkpoint: what the bundles were exported from.
        backbone: ``auto`` or ``timm/NAME``, as the export takes it.
        bundles: are compared by backbone, feature size and crop size.

    Raises:
        CheckpointError: the checkpoint does not hold the GLASS expected.
        InputError: a bundle is of another backbone, or of another family of detectors.
    """
    from ...export.loading import load_model  # it imports PyTorch

    for bundle in bundles:
        if bundle.manifest.detector.family != GLASS:
            raise InputError(
                f"bundle {bundle.path} holds a detector of the family "
                f"{bundle.manifest.detector.family}, and what is compared here is GLASS with "
                "PyTorch: give bundles of one."
            )
    made = bundles[0].manifest if bundles else None
    crop_size = made.views.crop_size if made else None
    weights = made.checkpoint.weights if made else None
    loaded = load_model(checkpoint, backbone, crop_size, weights)
    recipe = loaded.recipe
    held = _backbone(recipe.name, loaded.model.feature_size, recipe.crop_size)
    for bundle in bundles:
        manifest = bundle.manifest
        width = next(iter(manifest.streams.values())).width
        wanted = _backbone(manifest.backbone.name, width, manifest.views.crop_size)
        if held != wanted:
            raise InputError(
                f"{checkpoint} holds {held}, and bundle {bundle.path} was made of {wanted}: give "
                "the checkpoint that the bundle was exported from."
            )
    return loaded


def _backbone(backbone: str, feature_size: int, crop_size: int) -> str:
    return f"{backbone} with {feature_size} features of {crop_size}x{crop_size} pixels"


def _difference(one: ViewSpec, other: ViewSpec) -> str | None:
    """Say in what two specifications differ, but for the number of crops."""
    mine, theirs = one.with_crops(1).streams, other.with_crops(1).streams
    if mine.keys() != theirs.keys():
        return f"streams differ ({', '.join(mine)} against {', '.join(theirs)})"
    for name in mine:
        first, second = (msgspec.structs.asdict(streams[name]) for streams in (mine, theirs))
        for field, value in first.items():
            if value != second[field]:
                return f"{name} views differ in {field} ({value} against {second[field]})"
    return None


def _views(bundle: Bundle, crops: int | None) -> ViewSpec:
    views = bundle.manifest.views
    if crops is None:
        return views
    if not views.drawn:
        raise InputError(
            f"{crops} crops were asked for, and the detector of bundle {bundle.path} chooses its "
            "views by a rule of its own: leave the number of crops out."
        )
    return views.with_crops(crops)


def _meaning(bundle: Bundle) -> tuple[frozenset[str], str]:
    """What a bundle's classes say; their order is the logits' and does not matter here."""
    return frozenset(bundle.manifest.classes), bundle.manifest.fake_class


def _classes(bundle: Bundle) -> str:
    return f"{', '.join(bundle.manifest.classes)} with {bundle.manifest.fake_class} for fake"


def file_bytes(bundle: Bundle) -> int:
    """Return the size of all files of a bundle."""
    return sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file())

"""How a Hugging Face image processor makes views, as its ``preprocessor_config.json`` says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...runtime.bundle.manifest import Normalisation
from ...runtime.views.places import Centre
from ...runtime.views.sizes import LARGEST_SIDE
from ...runtime.views.spec import Resize, ResizeRule, StreamViews
from ..errors import CheckpointError
from .presets import one_view, stretched
from .registry import Preset

_FILE: Final = "preprocessor_config.json"
_RULES: Mapping[object, ResizeRule] = {2: "pillow-bilinear", 3: "pillow-bicubic"}
_SQUARE: Final = ("ViT", "DeiT", "Siglip")  # processors that read a plain size as both sides
_LARGEST_CROPPED: Final = 383  # ConvNeXt's processor stretches to larger sizes
_CROP_SHARE: Final = 224 / 256


def preset_of(processor: Mapping[str, Any]) -> Preset:
    """Return the views that the processor makes of an image.

    The processor's centre crop rounds down.

    Raises:
        CheckpointError: the file is missing or incomplete, or asks for what a bundle cannot say.
    """
    if not processor:
        raise CheckpointError(
            f"the folder has no {_FILE}, so nothing tells how its images become views: add the "
            "one that the model was trained with."
        )
    _check_rescale(processor)
    return one_view(_views(processor), _normalisation(processor), _FILE)


def _views(processor: Mapping[str, Any]) -> StreamViews:
    if processor.get("do_resize", True) is not True:
        raise CheckpointError(
            f"{_FILE} turns do_resize off, so views would have any size, and a graph takes one: "
            "only processors that resize can be exported."
        )
    rule = _RULES.get(processor.get("resample"))
    if rule is None:
        raise CheckpointError(
            f"{_FILE} asks for resample {processor.get('resample')!r}: only 2 (bilinear) and "
            "3 (bicubic) are known."
        )
    if _type(processor).startswith("ConvNext"):
        return _convnext_views(processor, rule)
    size = processor.get("size")
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return _cropped(rule, _side(size["shortest_edge"], "size"), _crop(processor))
    if isinstance(size, int) and not _type(processor).startswith(_SQUARE):
        return _cropped(rule, _side(size, "size"), _crop(processor))
    side = _square(size, "size")
    if processor.get("do_center_crop"):
        return _stretched_and_cropped(rule, side, _square(processor.get("crop_size"), "crop_size"))
    return stretched(side, rule)


def _convnext_views(processor: Mapping[str, Any], rule: ResizeRule) -> StreamViews:
    size = processor.get("size")
    side = _side(size.get("shortest_edge") if isinstance(size, Mapping) else size, "size")
    if side > _LARGEST_CROPPED:
        return stretched(side, rule)
    share = processor.get("crop_pct")
    share = _CROP_SHARE if share is None else share
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise CheckpointError(f"{_FILE} has crop_pct {share!r}: it must lie between 0 and 1.")
    return _cropped(rule, int(side / share), side)


def _cropped(rule: ResizeRule, short_side: int, crop: int) -> StreamViews:
    if crop > short_side:
        raise CheckpointError(
            f"{_FILE} cuts {crop}x{crop} pixels from images of {short_side} pixels: correct "
            "crop_size or size."
        )
    return StreamViews(crop, "uint8", Resize(rule, "short-side", short_side), Centre("floor"))


def _stretched_and_cropped(rule: ResizeRule, side: int, crop: int) -> StreamViews:
    if crop == side:
        return stretched(side, rule)
    if crop > side:
        raise CheckpointError(
            f"{_FILE} cuts {crop}x{crop} pixels from images of {side} pixels: correct crop_size "
            "or size."
        )
    return StreamViews(crop, "uint8", Resize(rule, "stretch", side), Centre("floor"))


def _crop(processor: Mapping[str, Any]) -> int:
    if not processor.get("do_center_crop"):
        raise CheckpointError(
            f"{_FILE} sets the shortest edge without a centre crop, so views would have any "
            "size, and a graph takes one: only processors that crop then can be exported."
        )
    return _square(processor.get("crop_size"), "crop_size")


def _square(size: object, key: str) -> int:
    """Return the side of ``{"height": p, "width": p}`` or ``p``."""
    if isinstance(size, Mapping):
        if size.get("height") != size.get("width"):
            raise CheckpointError(
                f"{_FILE} has {key} {dict(size)}: only square views can be exported."
            )
        size = size.get("height")
    return _side(size, key)


def _side(size: object, key: str) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST_SIDE:
        raise CheckpointError(
            f"{_FILE} has {key} {size!r}: a side of 1 to {LARGEST_SIDE} pixels is needed, as "
            "height and width, as shortest_edge, or alone."
        )
    return size


def _type(processor: Mapping[str, Any]) -> str:
    named = processor.get("image_processor_type") or processor.get("feature_extractor_type")
    return str(named or "ViTImageProcessor")


def _check_rescale(processor: Mapping[str, Any]) -> None:
    factor = processor.get("rescale_factor", 1 / 255)
    fits = isinstance(factor, int | float) and abs(factor * 255 - 1) < 1e-4
    if processor.get("do_rescale", True) is not True or not fits:
        raise CheckpointError(
            f"{_FILE} does not divide pixels by 255 (do_rescale, rescale_factor): only "
            "processors that do can be exported."
        )


def _normalisation(processor: Mapping[str, Any]) -> Normalisation:
    if processor.get("do_normalize", True) is not True:
        return Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), _FILE)
    return Normalisation(_three(processor, "image_mean"), _three(processor, "image_std"), _FILE)


def _three(processor: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    values = processor.get(key)
    known = isinstance(values, list) and len(values) == 3
    if not known or not all(isinstance(value, int | float) for value in values or ()):
        raise CheckpointError(f"{_FILE} needs three numbers as {key}: it has {values!r}.")
    red, green, blue = (float(value) for value in values or ())
    return red, green, blue

"""Community Forensics: a Vision Transformer of one logit (Park and Owens, arXiv 2411.04125)."""

from __future__ import annotations

import math

from ..errors import CheckpointError
from ..tensors import StateDict
from .networks.parts import TwoLogits
from .networks.towers import TIMM_EPS, tower
from .presets import IMAGENET, STREAM, one_view, short_side
from .registry import Classes, Detector, Family, Preset, Source

_CODE = "JeongsooP/Community-Forensics@5ec815f"
_PREFIX = "vit."
_PATCH = 16  # pixels
_NEEDED = {"pos_embed": 3, "patch_embed.proj.weight": 4, "head.weight": 2}  # with dimensions
_SHORT_SIDES = {384: 440, 224: 256}  # by the size of the views
_SIZES = {192: "tiny", 384: "small"}  # by the width


def _presets(source: Source) -> tuple[Preset, ...]:
    side = _side(_network(source))
    if side not in _SHORT_SIDES:
        raise CheckpointError(
            f"the position embedding is for views of {side}x{side}, and Community Forensics looks "
            "at 224x224 or 384x384: export it as a timm model with --backbone timm/NAME."
        )
    views = short_side(side, _SHORT_SIDES[side])
    return (one_view(views, IMAGENET, f"{_CODE}: dataloader.py"),)


def _load(source: Source, preset: Preset) -> Detector:
    state = _network(source)
    network = tower(state, "Community Forensics", eps=TIMM_EPS)
    size = _SIZES.get(network.embed_dim, f"{network.embed_dim}-wide")
    return Detector(
        name=f"Community Forensics, vit_{size}_patch{_PATCH}_{_side(state)}",
        streams={STREAM: TwoLogits(network)},
        aggregator=None,
        classes=Classes(("real", "fake"), "fake", f"{_CODE}: models.py"),
        quantise_residuals=False,
    )


def _network(source: Source) -> StateDict:
    """Return the tensors of timm's network.

    Raises:
        CheckpointError: what tells its size is missing, or it does not give one logit.
    """
    state = {key.removeprefix(_PREFIX): tensor for key, tensor in source.state.items()}
    for key, axes in _NEEDED.items():
        if key not in state or state[key].ndim != axes:
            raise CheckpointError(
                "this is no checkpoint of Community Forensics, whose networks have "
                f"{_PREFIX}{key} of {axes} dimensions: give the whole network's, as its authors "
                "save it."
            )
    if len(state["head.weight"]) != 1 or state["patch_embed.proj.weight"].shape[-1] != _PATCH:
        raise CheckpointError(
            f"Community Forensics has one logit and patches of {_PATCH}x{_PATCH}, and this Vision "
            "Transformer has not: export it as a timm model with --backbone timm/NAME."
        )
    return state


def _side(state: StateDict) -> int:
    patches: int = state["pos_embed"].shape[1] - 1
    return _PATCH * math.isqrt(patches)


def _fits(source: Source) -> bool:
    try:
        return _side(_network(source)) in _SHORT_SIDES
    except CheckpointError:
        return False


# Without the prefix it might be anybody's Vision Transformer: then the user must name the family.
FAMILY = Family(
    name="community-forensics",
    title="Community Forensics",
    keys=(r"vit\.patch_embed\.proj\.weight$", r"vit\.pos_embed$", r"vit\.head\.weight$"),
    licence="MIT",
    presets=_presets,
    load=_load,
    fits=_fits,
)

"""timm's models, chosen by name. What must be known of one is asked of its architecture."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import Any

import timm
import torch
from timm.layers.norm import RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from timm.models.convnext import ConvNeXt
from torch import nn

from ...runtime.bundle.manifest import Normalisation
from ..errors import CheckpointError
from .registry import Family, Recipe, Weights

_PREFIX = "timm/"
# Blocks with these normalise what they read of the residual stream; the stream itself may take
# values of any size, which INT8 would cut.
_NORMS_OF_STREAMS = (nn.LayerNorm, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d)


def _recipe(name: str, _: Weights, crop_size: int | None) -> Recipe:
    model = name.removeprefix(_PREFIX)
    blank = without_weights(model)
    config = blank.pretrained_cfg
    side = crop_size or _own_side(name, config)
    # Networks for one size of views are built for it; the others take any.
    size: dict[str, Any] = {"img_size": side} if config.get("fixed_input_size") else {}
    return Recipe(
        name=name,
        family=FAMILY.name,
        build=partial(timm.create_model, model, num_classes=0, **size),
        crops=6,
        fixed_batch=isinstance(blank, ConvNeXt),
        quantise_residuals=not normalises_streams(blank),
        crop_size=side,
        normalisation=Normalisation(
            tuple(config["mean"]), tuple(config["std"]), f"timm's configuration of {model}"
        ),
    )


def normalises_streams(model: nn.Module) -> bool:
    """Whether layers of a network normalise what they read, so that INT8 must spare the sums."""
    return any(isinstance(module, _NORMS_OF_STREAMS) for module in model.modules())


def _take_attention_apart(module: nn.Module) -> nn.Module | None:
    """Turn fused attention off, so that products and softmax are traced one by one.

    The exporter supports PyTorch's fused attention for four dimensions only; Hiera's has five. For
    other models it leaves shape arithmetic behind, nearly a quarter of the nodes of timm's ViT.
    Engines fuse the patterns that they know in either form.
    """
    attention: Any = module
    if getattr(attention, "fused_attn", None) is not True:
        return None
    attention.fused_attn = False
    return module


def without_weights(model: str) -> Any:
    """Return a model without its classifier, and without memory for weights.

    Raises:
        CheckpointError: timm has no model, or no configuration, of this name.
    """
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(_PREFIX + each for each in near)}?" if near else ""
        raise CheckpointError(f"timm has no model {model!r}.{hint}")
    try:
        with torch.device("meta"):
            return timm.create_model(model, num_classes=0)
    except RuntimeError:  # of its tag, the part after the point
        architecture = model.partition(".")[0]
        known = ", ".join(timm.list_pretrained(f"{architecture}.*")) or architecture
        raise CheckpointError(f"timm has no configuration {model!r}: it has {known}.") from None


def _own_side(name: str, config: dict[str, Any]) -> int:
    _, height, width = config["input_size"]
    if height != width:
        raise CheckpointError(
            f"{name} takes views of {height}x{width}, and a GLASS looks at squares: give the side "
            "that it was trained at with --crop-size."
        )
    return int(height)


FAMILY = Family(name="timm", recipe=_recipe, prefix=_PREFIX, rewrites=(_take_attention_apart,))

"""Classifiers of timm and torchvision with their heads, and the views they are evaluated on."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import timm
import torchvision
from torch import nn
from torchvision.models import ConvNeXt, VisionTransformer
from torchvision.models.convnext import LayerNorm2d

from ....runtime.bundle.manifest import Normalisation
from ....runtime.views.places import Centre
from ....runtime.views.spec import Resize, ResizeRule, StreamViews
from ...errors import CheckpointError
from ...families.registry import recipe_from_name, recipe_from_weights
from ...families.timm_models import normalises_streams, without_weights
from ...tensors import StateDict
from ..presets import IMAGENET, short_side

_TIMM, _TORCHVISION = "timm/", "torchvision/"
_RULES: Mapping[str, ResizeRule] = {
    "bilinear": "pillow-bilinear",
    "bicubic": "pillow-bicubic",
}
_CROP_SHARE = 0.875  # of the short side, in most evaluations on ImageNet
_MANY_HEADS = (
    "has several heads or none, and a detector's verdict comes from one: name another network."
)
_CLASSES = 1000  # of ImageNet, by which a head is told from other layers


@dataclass(frozen=True)
class Architecture:
    """A network that ends in logits.

    Attributes:
        name: what summaries and manifests call it.
        head: the key of its last layer's weights, whose first axis counts the logits.
        build: returns the network with so many logits, without its weights.
        views: how its authors evaluate it on ImageNet.
        source: who says so.
        normalisation: of the views.
        fixed_batch: whether OpenVINO should compile its graph for full batches only.
        quantise_residuals: whether INT8 may round the inputs of residual sums.
    """

    name: str
    head: str
    build: Callable[[int], nn.Module]
    views: StreamViews
    source: str
    normalisation: Normalisation
    fixed_batch: bool
    quantise_residuals: bool


def named(name: str, state: StateDict) -> Architecture:
    """Describe the network that ``--backbone`` names.

    Args:
        name: ``timm/NAME`` or ``torchvision/NAME``.
        state: its weights; those of networks for one size of views tell that size.

    Raises:
        CheckpointError: there is no such network, or its views cannot be made.
    """
    if name.startswith(_TIMM):
        return _of_timm(name, state)
    if name.startswith(_TORCHVISION):
        return _of_torchvision(name, state)
    raise CheckpointError(f"there is no backbone {name!r}: give {_TIMM}NAME or {_TORCHVISION}NAME.")


def told(state: StateDict) -> Architecture:
    """Tell one of torchvision's ResNets, Vision Transformers and ConvNeXts from its keys.

    Raises:
        CheckpointError: it is none, or has no head.
    """
    recipe = recipe_from_weights(state)
    head, add_head = _HEADS[recipe.family]
    if head not in state or state[head].ndim != 2:
        raise CheckpointError(f"{recipe.name} has no head: {head} is missing.")
    features = state[head].shape[-1]
    size = recipe.crop_size

    def build(logits: int) -> nn.Module:
        model = recipe.build()
        add_head(model, nn.Linear(features, logits))
        return model

    return Architecture(
        name=recipe.name,
        head=head,
        build=build,
        views=short_side(size, math.floor(size / _CROP_SHARE)),
        source="assumed: as most networks are evaluated on ImageNet; --backbone says otherwise",
        normalisation=IMAGENET,
        fixed_batch=recipe.fixed_batch,
        quantise_residuals=recipe.quantise_residuals,
    )


# --- heads of torchvision's networks that keys tell -----------------------------------------


def _end_resnet(model: nn.Module, head: nn.Linear) -> None:
    model.fc = head


def _end_vit(model: nn.Module, head: nn.Linear) -> None:
    model.heads = nn.Sequential(OrderedDict(head=head))


def _end_convnext(model: nn.Module, head: nn.Linear) -> None:
    norm = LayerNorm2d(head.in_features, eps=1e-6)
    model.classifier = nn.Sequential(norm, nn.Flatten(1), head)


_HEADS: Mapping[str, tuple[str, Callable[[nn.Module, nn.Linear], None]]] = {
    "resnet": ("fc.weight", _end_resnet),
    "vit": ("heads.head.weight", _end_vit),
    "convnext": ("classifier.2.weight", _end_convnext),
}

# --- timm -----------------------------------------------------------------------------------


def _of_timm(name: str, state: StateDict) -> Architecture:
    model = name.removeprefix(_TIMM)
    blank = without_weights(model)
    config = blank.pretrained_cfg
    head = config.get("classifier")
    if not isinstance(head, str):
        raise CheckpointError(f"{name} {_MANY_HEADS}")
    fixed = bool(config.get("fixed_input_size"))
    recipe = recipe_from_name(name, state, _embedded_side(blank, state) if fixed else None)
    size: dict[str, Any] = {"img_size": recipe.crop_size} if fixed else {}
    return Architecture(
        name=name,
        head=f"{head}.weight",
        build=lambda logits: timm.create_model(model, num_classes=logits, **size),
        views=_timm_views(name, config, recipe.crop_size),
        source=recipe.normalisation.source,
        normalisation=recipe.normalisation,
        fixed_batch=recipe.fixed_batch,
        quantise_residuals=recipe.quantise_residuals,
    )


def _embedded_side(model: Any, state: StateDict) -> int | None:
    """Return the side of the views that a position embedding is for, if there is one."""
    embedding = state.get("pos_embed")
    patches = getattr(model, "patch_embed", None)
    if embedding is None or embedding.ndim != 3 or patches is None:
        return None
    # The class token and registers, if they are embedded, are too few to change the root.
    return int(patches.patch_size[0]) * math.isqrt(embedding.shape[1])


def _timm_views(name: str, config: Mapping[str, Any], size: int) -> StreamViews:
    """Return the views of timm's own evaluation.

    Raises:
        CheckpointError: they cannot be made.
    """
    mode, interpolation = config["crop_mode"], config["interpolation"]
    if mode not in ("center", "squash") or interpolation not in _RULES:
        raise CheckpointError(
            f"timm evaluates {name} on views of crop mode {mode}, interpolated by {interpolation}, "
            "which are not made here: choose a model whose views are center or squash, bilinear "
            "or bicubic."
        )
    rule, side = _RULES[interpolation], math.floor(size / config["crop_pct"])
    if mode == "center":
        return short_side(size, side, rule)
    places = None if side == size else Centre()
    return StreamViews(size, "uint8", Resize(rule, "stretch", side), places)


# --- torchvision ----------------------------------------------------------------------------


def _of_torchvision(name: str, state: StateDict) -> Architecture:
    model = name.removeprefix(_TORCHVISION)
    if model not in (known := torchvision.models.list_models(torchvision.models)):
        near = get_close_matches(model, known, n=1)
        hint = f" (did you mean {_TORCHVISION}{near[0]}?)" if near else ""
        raise CheckpointError(
            f"torchvision has no classifier {model!r}{hint}: "
            "torchvision.models.list_models() names them."
        )
    blank = torchvision.models.get_model(model, num_classes=_CLASSES)
    transforms = torchvision.models.get_model_weights(model).DEFAULT.transforms()
    (size,), (side,) = transforms.crop_size, transforms.resize_size
    arguments: dict[str, Any] = {}
    if isinstance(blank, VisionTransformer) and "encoder.pos_embedding" in state:
        arguments["image_size"] = blank.patch_size * math.isqrt(
            state["encoder.pos_embedding"].shape[1] - 1
        )
        size, side = arguments["image_size"], arguments["image_size"] * side // size
    source = f"torchvision's transforms of {model}"
    return Architecture(
        name=name,
        head=_only_head(name, blank),
        build=lambda logits: torchvision.models.get_model(model, num_classes=logits, **arguments),
        views=short_side(size, side, _RULES[transforms.interpolation.value]),
        source=source,
        normalisation=Normalisation(tuple(transforms.mean), tuple(transforms.std), source),
        fixed_batch=isinstance(blank, ConvNeXt),
        quantise_residuals=not normalises_streams(blank),
    )


def _only_head(name: str, model: nn.Module) -> str:
    heads = [key for key, each in model.named_parameters() if _is_head(key, each.shape)]
    if len(heads) != 1:
        raise CheckpointError(f"{name} {_MANY_HEADS}")
    return heads[0]


def _is_head(key: str, shape: Sequence[int]) -> bool:
    return key.endswith("weight") and shape[0] == _CLASSES

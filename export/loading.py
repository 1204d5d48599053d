"""Builds the PyTorch model that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..runtime.bundle.manifest import WhichWeights
from .checkpoint import Checkpoint, read_checkpoint
from .errors import CheckpointError, first_line
from .families.registry import Recipe, recipe_from_name, recipe_from_weights
from .model import Aggregator, Glass
from .networks import GLOBAL, LOCAL, SHARED
from .options import AUTO
from .tensors import StateDict, check_finite, equal, fit_problem

# What modules raise if views have a size that they are not made for.
_SIZE_ERRORS = (RuntimeError, AssertionError, ValueError, TypeError)
_SHARED, _GLOBAL, _LOCAL = (f"{root}." for root in (SHARED, GLOBAL, LOCAL))


@dataclass(frozen=True)
class LoadedModel:
    """A loaded GLASS.

    Attributes:
        model: with its weights, in eval mode and float32.
        recipe: how its backbone is built.
        checkpoint: the weights as they were read.
    """

    model: Glass
    recipe: Recipe
    checkpoint: Checkpoint


def load_model(
    path: Path,
    backbone: str = AUTO,
    crop_size: int | None = None,
    weights: WhichWeights | None = None,
) -> LoadedModel:
    """Load a GLASS checkpoint.

    Args:
        path: what ``torch.save`` wrote, a safetensors file, or an index of shards or its folder.
        backbone: ``auto`` to tell a torchvision backbone from the keys, or ``timm/NAME``.
        crop_size: the side of the views in pixels; ``None`` takes the backbone's own.
        weights: which to take; ``None`` takes averaged ones (EMA) where there are any.

    Raises:
        CheckpointError: unreadable; there are no such weights; keys are missing, surplus or of
            another shape; or the backbone does not take views of this size.
    """
    checkpoint = read_checkpoint(path, weights)
    try:
        return _build(checkpoint, backbone, crop_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _build(checkpoint: Checkpoint, backbone: str, crop_size: int | None) -> LoadedModel:
    global_weights, local_weights, rest = _split(checkpoint.state)
    check_finite(checkpoint.state)
    if backbone == AUTO:
        recipe = recipe_from_weights(global_weights, crop_size)
    else:
        recipe = recipe_from_name(backbone, global_weights, crop_size)
    global_model = _load_backbone(recipe, global_weights, _GLOBAL)
    shared = local_weights is global_weights or equal(global_weights, local_weights)
    local_model = global_model if shared else _load_backbone(recipe, local_weights, _LOCAL)
    feature_size = _feature_size(global_model, recipe)
    model = Glass(global_model, local_model, feature_size)
    if problem := fit_problem(Aggregator(feature_size).state_dict(), rest):
        raise CheckpointError(
            f"the aggregator does not fit {recipe.name} with {feature_size} features ({problem})."
        )
    model.load_state_dict(rest, strict=False)
    return LoadedModel(model.float().eval().requires_grad_(False), recipe, checkpoint)


def _split(state: StateDict) -> tuple[StateDict, StateDict, StateDict]:
    """Split into global backbone, local backbone and aggregator by the keys' prefixes."""
    parts: dict[str, StateDict] = {_SHARED: {}, _GLOBAL: {}, _LOCAL: {}, "": {}}
    for key, tensor in state.items():
        prefix = next(prefix for prefix in parts if key.startswith(prefix))
        parts[prefix][key.removeprefix(prefix)] = tensor
    if parts[_SHARED] and not (parts[_GLOBAL] or parts[_LOCAL]):
        return parts[_SHARED], parts[_SHARED], parts[""]
    if parts[_SHARED] or not (parts[_GLOBAL] and parts[_LOCAL]):
        found = ", ".join(sorted({key.split(".")[0] for key in state})[:5])
        raise CheckpointError(
            "a GLASS has keys global_model.* and local_model.*, or backbone.* where both views "
            f"share one, and attention.*, classifier.*; found {found}."
        )
    return parts[_GLOBAL], parts[_LOCAL], parts[""]


def _load_backbone(recipe: Recipe, weights: StateDict, prefix: str) -> nn.Module:
    try:
        module = recipe.build()
    except _SIZE_ERRORS as error:
        raise _refusal(recipe, error) from None
    if problem := fit_problem(module.state_dict(), weights):
        raise CheckpointError(
            f"{prefix}* does not fit {recipe.name} for views of {recipe.crop_size}x"
            f"{recipe.crop_size} ({problem}): check --backbone, --crop-size, and that the "
            "classifier was removed."
        )
    module.load_state_dict(weights, strict=False)
    return module


@torch.inference_mode()
def _feature_size(backbone: nn.Module, recipe: Recipe) -> int:
    """Return ``D``, seen on one blank view.

    Raises:
        CheckpointError: the backbone does not take such a view, or gives no vector.
    """
    side = recipe.crop_size
    try:
        features = backbone.eval()(torch.zeros(1, 3, side, side))
    except _SIZE_ERRORS as error:
        raise _refusal(recipe, error) from None
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise CheckpointError(f"{recipe.name} does not give one feature vector per view.")
    return int(features.shape[1])


def _refusal(recipe: Recipe, error: Exception) -> CheckpointError:
    side = recipe.crop_size
    return CheckpointError(
        f"{recipe.name} does not take views of {side}x{side} ({first_line(error)}): choose another "
        "--crop-size."
    )

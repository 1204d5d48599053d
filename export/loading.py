"""From a checkpoint to the PyTorch model it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .backbones import BackboneRecipe, measure_feature_size, recipe_from_name, recipe_from_weights
from .checkpoint import StateDict, fit_problem, read_checkpoint
from .errors import CheckpointError
from .model import Aggregator, Glass

AUTO = "auto"
_SHARED, _GLOBAL, _LOCAL = "backbone.", "global_model.", "local_model."


@dataclass(frozen=True)
class LoadedModel:
    """A GLASS with its weights, in eval mode and float32, and what it is made of."""

    model: Glass
    recipe: BackboneRecipe


def load_model(path: Path, backbone: str = AUTO) -> LoadedModel:
    """Load a GLASS checkpoint.

    Args:
        path: a state dict saved by ``torch.save``, or a safetensors file.
        backbone: ``auto`` to tell a torchvision backbone from the keys, or ``timm/NAME``.

    Raises:
        CheckpointError: unreadable, or keys are missing, surplus or of another shape.
    """
    state = read_checkpoint(path)
    try:
        return _build(state, backbone)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _build(state: StateDict, backbone: str) -> LoadedModel:
    global_weights, local_weights, rest = _split(state)
    _check_numbers(state)
    named = backbone != AUTO
    recipe = recipe_from_name(backbone) if named else recipe_from_weights(global_weights)
    global_model = _load_backbone(recipe, global_weights, _GLOBAL)
    shared = local_weights is global_weights or _equal(global_weights, local_weights)
    local_model = global_model if shared else _load_backbone(recipe, local_weights, _LOCAL)
    feature_size = measure_feature_size(global_model, recipe)
    model = Glass(global_model, local_model, feature_size)
    if problem := fit_problem(Aggregator(feature_size).state_dict(), rest):
        raise CheckpointError(
            f"the aggregator does not fit {recipe.name} with {feature_size} features ({problem})."
        )
    model.load_state_dict(rest, strict=False)
    return LoadedModel(model.float().eval().requires_grad_(False), recipe)


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


def _load_backbone(recipe: BackboneRecipe, weights: StateDict, prefix: str) -> nn.Module:
    module = recipe.build()
    if problem := fit_problem(module.state_dict(), weights):
        raise CheckpointError(
            f"{prefix}* does not fit {recipe.name} ({problem}): "
            "check --backbone and that the classifier was removed."
        )
    module.load_state_dict(weights, strict=False)
    return module


def _check_numbers(state: StateDict) -> None:
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{key} holds values that are not finite; the training broke.")


def _equal(one: StateDict, other: StateDict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)

"""Backbones: told from a checkpoint's keys, or named by the user.

The reference's backbones are torchvision's. Their architecture, not only their family,
follows from names and shapes, so any size of the three families loads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

import timm
import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, ResNet, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock, Bottleneck

from .errors import CheckpointError

Weights = Mapping[str, Tensor]

DEFAULT_CROP_SIZE = 224
# The paper's best model of each family; for any other backbone a middle way.
DEFAULT_CROPS = {"vit": 10, "convnext": 4, "resnet": 6}
OTHER_CROPS = 6
TIMM_PREFIX = "timm/"
_TORCHVISION_HEADS = {1280: 16}  # ViT-H; all other sizes have heads of 64 channels


@dataclass(frozen=True)
class BackboneRecipe:
    """A backbone that can be built, without its weights.

    ``build`` returns a module from normalised ``(B, 3, p, p)`` to features ``(B, D)``.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    crop_size: int = DEFAULT_CROP_SIZE

    @property
    def default_crops(self) -> int:
        """Crops per image in the paper's best model of this family."""
        return DEFAULT_CROPS.get(self.family, OTHER_CROPS)


def recipe_from_name(name: str) -> BackboneRecipe:
    """Return the recipe of ``timm/NAME``.

    Raises:
        CheckpointError: unknown name; the nearest known ones are suggested.
    """
    model = name.removeprefix(TIMM_PREFIX)
    if not name.startswith(TIMM_PREFIX) or not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(TIMM_PREFIX + m for m in near)}?" if near else "."
        raise CheckpointError(f"there is no backbone {name!r}: give timm/NAME{hint}")
    return BackboneRecipe(name, "timm", partial(timm.create_model, model, num_classes=0))


def recipe_from_weights(weights: Weights) -> BackboneRecipe:
    """Tell one of the reference's families, and the sizes in it, from keys and shapes.

    Raises:
        CheckpointError: the keys are of no known family.
    """
    try:
        if "conv_proj.weight" in weights:
            return _vit(weights)
        if "features.1.0.layer_scale" in weights:
            return _convnext(weights)
        if "layer1.0.conv1.weight" in weights and "conv1.weight" in weights:
            return _resnet(weights)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"the backbone's keys are incomplete, so its size cannot be told: {error} is missing."
        ) from None
    shown = ", ".join(sorted(weights)[:3])
    raise CheckpointError(
        "the backbone cannot be told from its keys (neither torchvision's ViT, ConvNeXt nor "
        f"ResNet; found {shown}, …): name it with --backbone timm/NAME."
    )


def _count(weights: Weights, pattern: str) -> int:
    """Count the blocks: one more than the largest number the pattern captures."""
    matches = (re.match(pattern, key) for key in weights)
    return 1 + max(int(match[1]) for match in matches if match)


def _vit(weights: Weights) -> BackboneRecipe:
    hidden, _, patch, _ = weights["conv_proj.weight"].shape
    tokens = weights["encoder.pos_embedding"].shape[1] - 1
    layers = _count(weights, r"encoder\.layers\.encoder_layer_(\d+)\.")
    mlp = weights["encoder.layers.encoder_layer_0.mlp.0.weight"].shape[0]
    heads = _TORCHVISION_HEADS.get(hidden, max(1, hidden // 64))
    crop_size = round(tokens**0.5) * patch

    def build() -> nn.Module:
        model: nn.Module = VisionTransformer(crop_size, patch, layers, heads, hidden, mlp)
        model.heads = nn.Identity()
        return model

    return BackboneRecipe(f"torchvision ViT {layers}x{hidden}/{patch}", "vit", build, crop_size)


def _convnext(weights: Weights) -> BackboneRecipe:
    stages = [s for s in range(1, 16, 2) if f"features.{s}.0.layer_scale" in weights]
    widths = [weights[f"features.{s}.0.layer_scale"].shape[0] for s in stages]
    depths = [_count(weights, rf"features\.{s}\.(\d+)\.layer_scale") for s in stages]
    settings = [
        CNBlockConfig(width, following, depth)
        for width, following, depth in zip(widths, [*widths[1:], None], depths, strict=True)
    ]

    def build() -> nn.Module:
        model: nn.Module = ConvNeXt(settings)
        model.classifier = nn.Flatten(1)
        return model

    return BackboneRecipe(f"torchvision ConvNeXt {depths}x{widths}", "convnext", build)


def _resnet(weights: Weights) -> BackboneRecipe:
    depths = [_count(weights, rf"layer{stage}\.(\d+)\.conv1\.") for stage in range(1, 5)]
    bottleneck = "layer1.0.conv3.weight" in weights
    groups, width_per_group = 1, 64
    if bottleneck:
        width, group_width = weights["layer1.0.conv2.weight"].shape[:2]
        groups, width_per_group = width // group_width, group_width

    def build() -> nn.Module:
        block: type[BasicBlock | Bottleneck] = Bottleneck if bottleneck else BasicBlock
        model: nn.Module = ResNet(block, depths, groups=groups, width_per_group=width_per_group)
        model.fc = nn.Identity()
        return model

    kind = "bottleneck" if bottleneck else "basic"
    return BackboneRecipe(f"torchvision ResNet {depths} {kind}", "resnet", build)


@torch.inference_mode()
def measure_feature_size(backbone: nn.Module, recipe: BackboneRecipe) -> int:
    """Return ``D``, seen on one blank view.

    Raises:
        CheckpointError: the backbone does not take such a view, or gives no vector.
    """
    view = torch.zeros(1, 3, recipe.crop_size, recipe.crop_size)
    try:
        features = backbone.eval()(view)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise CheckpointError(
            f"{recipe.name} cannot look at views of {recipe.crop_size}x{recipe.crop_size}: {error}"
        ) from None
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise CheckpointError(f"{recipe.name} does not give one feature vector per view.")
    return int(features.shape[1])

"""torchvision's ResNets, ResNeXts and wide ResNets."""

from __future__ import annotations

from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from .. import paper
from .registry import Family, Recipe, Weights, count_blocks

_STAGES = (1, 2, 3, 4)


def _recipe(_: str, weights: Weights, crop_size: int | None) -> Recipe:
    depths = [count_blocks(weights, rf"layer{stage}\.(\d+)\.conv1\.") for stage in _STAGES]
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

    return Recipe(
        name=f"torchvision ResNet {depths} {'bottleneck' if bottleneck else 'basic'}",
        family=FAMILY.name,
        build=build,
        crops=6,
        fixed_batch=False,
        quantise_residuals=True,
        crop_size=crop_size or paper.CROP_SIZE,
    )


FAMILY = Family(name="resnet", recipe=_recipe, keys=("conv1.weight", "layer1.0.conv1.weight"))

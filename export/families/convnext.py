"""torchvision's ConvNeXts, and how blocks of this kind are traced, timm's among them."""

from __future__ import annotations

from timm.layers.mlp import Mlp
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torchvision.models import ConvNeXt
from torchvision.models.convnext import CNBlock, CNBlockConfig

from .. import paper
from ..simplify import linear
from .registry import Family, Recipe, Weights, count_blocks

_STAGES = range(1, 16, 2)  # which entries of `features` are blocks; the others reduce the size


class ConvNextBlock(nn.Module):
    """A ConvNeXt block whose residual stream is ``(B, H, W, C)``.

    Between the convolution and the sum all pixels form one axis: engines fuse biases, activations
    and roundings with a product only if it has three dimensions. The scale of the block's result
    is part of the last product's weights.
    """

    def __init__(
        self,
        depthwise: nn.Module,
        norm: nn.Module,
        expand: nn.Linear,
        activation: nn.Module,
        project: nn.Linear,
        scale: Tensor | None,
    ) -> None:
        super().__init__()
        self.depthwise, self.norm, self.expand = depthwise, norm, expand
        self.activation = activation
        self.project = project if scale is None else _scaled(project, scale.detach().flatten())

    def forward(self, pixels: Tensor) -> Tensor:
        seen = self.depthwise(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        mixed = self.project(self.activation(self.expand(self.norm(seen.flatten(1, 2)))))
        result: Tensor = pixels + mixed.reshape(pixels.shape)
        return result


class ConvNextStage(nn.Sequential):
    """ConvNeXt blocks in a row, from ``(B, C, H, W)`` to the same.

    The originals change the layout and back in each block; here it is done once.
    """

    def forward(self, maps: Tensor) -> Tensor:
        pixels = maps.permute(0, 2, 3, 1)
        for block in self:
            pixels = block(pixels)
        return pixels.permute(0, 3, 1, 2)


def _scaled(project: nn.Linear, scale: Tensor) -> nn.Linear:
    return linear(project.weight.detach() * scale[:, None], project.bias.detach() * scale)


def _recipe(_: str, weights: Weights, crop_size: int | None) -> Recipe:
    stages = [s for s in _STAGES if f"features.{s}.0.layer_scale" in weights]
    widths = [weights[f"features.{s}.0.layer_scale"].shape[0] for s in stages]
    depths = [count_blocks(weights, rf"features\.{s}\.(\d+)\.layer_scale") for s in stages]
    settings = [
        CNBlockConfig(width, following, depth)
        for width, following, depth in zip(widths, [*widths[1:], None], depths, strict=True)
    ]

    def build() -> nn.Module:
        model: nn.Module = ConvNeXt(settings)
        model.classifier = nn.Flatten(1)
        return model

    return Recipe(
        name=f"torchvision ConvNeXt {depths}x{widths}",
        family=FAMILY.name,
        build=build,
        crops=4,
        fixed_batch=True,
        quantise_residuals=False,
        crop_size=crop_size or paper.CROP_SIZE,
    )


def _as_stage(module: nn.Module) -> nn.Module | None:
    """Return the stand-in for a row of ConvNeXt blocks, if the module is nothing else."""
    if not isinstance(module, nn.Sequential):
        return None
    blocks = [block for child in module if (block := _as_block(child)) is not None]
    return ConvNextStage(*blocks) if blocks and len(blocks) == len(module) else None


def _as_block(block: nn.Module) -> ConvNextBlock | None:
    if isinstance(block, CNBlock):
        depthwise, _, norm, expand, activation, project, _ = block.block
        return ConvNextBlock(depthwise, norm, expand, activation, project, block.layer_scale)
    if isinstance(block, ConvNeXtBlock) and _is_plain(block):
        expand, activation, project = block.mlp.fc1, block.mlp.act, block.mlp.fc2
        if isinstance(expand, nn.Linear) and isinstance(project, nn.Linear):
            return ConvNextBlock(
                block.conv_dw, block.norm, expand, activation, project, block.gamma
            )
    return None


def _is_plain(block: ConvNeXtBlock) -> bool:
    """Whether one of timm's blocks is the first ConvNeXt's: nothing between its products."""
    return (
        type(block.mlp) is Mlp
        and not block.use_conv_mlp
        and isinstance(block.norm, nn.LayerNorm)
        and isinstance(block.shortcut, nn.Identity)
        and isinstance(block.mlp.norm, nn.Identity)
    )


FAMILY = Family(
    name="convnext", recipe=_recipe, keys=("features.1.0.layer_scale",), rewrites=(_as_stage,)
)

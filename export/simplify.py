"""Modules rewritten before tracing, so that graphs stay clean and engines recognise them.

What no feature hangs on is left out, too.

Each stand-in computes what the original computes; the parity gate compares the result
with the untouched model.
"""

from __future__ import annotations

import copy

import torch
from timm.layers.mlp import Mlp
from timm.layers.norm import LayerNorm2d as TimmLayerNorm2d
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock, LayerNorm2d
from torchvision.models.vision_transformer import EncoderBlock, VisionTransformer


class MeanPool(nn.Module):
    """``AdaptiveAvgPool2d(1)`` as one mean.

    The exporter turns the original into a mean and a gather over computed indices that
    keep the memory layout of torch's own kernel, which means nothing to an engine.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3), keepdim=True)


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention``, batch first, without masks, keys and values of one width.

    The exporter turns the original's packed projection into chains of gathers, slices and
    squeezes, and engines copy where one product is split in three. Here queries, keys and
    values have a product each, and the scale of the scores is part of the queries' weights.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = original.num_heads
        width = original.embed_dim
        weights = original.in_proj_weight.detach().clone()
        biases = original.in_proj_bias.detach().clone()
        scale = (width // self.heads) ** -0.5
        weights[:width] *= scale
        biases[:width] *= scale
        self.query, self.key, self.value = (
            _linear(weight, bias)
            for weight, bias in zip(weights.chunk(3), biases.chunk(3), strict=True)
        )
        self.out_proj = original.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        q = self._by_head(self.query(query))
        k = self._by_head(self.key(key))
        v = self._by_head(self.value(value))
        mixed = torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(query.shape)), None

    def _by_head(self, tokens: Tensor) -> Tensor:
        batch, count, _ = tokens.shape
        return tokens.reshape(batch, count, self.heads, -1).transpose(1, 2)


class ClassTokenBlock(nn.Module):
    """The last block of torchvision's Vision Transformer, for its first token only.

    No other is read after it. Keys and values still come from all tokens.
    """

    def __init__(self, original: EncoderBlock) -> None:
        super().__init__()
        self.ln_1, self.self_attention = original.ln_1, original.self_attention
        self.ln_2, self.mlp = original.ln_2, original.mlp

    def forward(self, tokens: Tensor) -> Tensor:
        normalised = self.ln_1(tokens)
        mixed, _ = self.self_attention(
            normalised[:, :1], normalised, normalised, need_weights=False
        )
        first = tokens[:, :1] + mixed
        result: Tensor = first + self.mlp(self.ln_2(first))
        return result


class ChannelsNorm(nn.Module):
    """``LayerNorm2d`` of torchvision and timm, over the channels of ``(B, C, H, W)``.

    The pixels stand in one row while it normalises: OpenVINO has a kernel for three dimensions
    and takes the normalisation apart for four.
    """

    def __init__(self, original: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(original.normalized_shape, original.eps)
        self.norm.weight, self.norm.bias = original.weight, original.bias

    def forward(self, maps: Tensor) -> Tensor:
        pixels = maps.permute(0, 2, 3, 1)
        normalised: Tensor = self.norm(pixels.flatten(1, 2)).reshape(pixels.shape)
        return normalised.permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """A ConvNeXt block whose residual stream is ``(B, H, W, C)``.

    Between the convolution and the sum the pixels stand in one row, because engines fuse what
    follows a product, biases, activation and rounding, only where it has three dimensions. The
    scale of the block's result is part of the last product's weights.
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

    The originals turn their input around and back in each block; here it is done once.
    """

    def forward(self, maps: Tensor) -> Tensor:
        pixels = maps.permute(0, 2, 3, 1)
        for block in self:
            pixels = block(pixels)
        return pixels.permute(0, 3, 1, 2)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
    return linear


def _scaled(linear: nn.Linear, scale: Tensor) -> nn.Linear:
    return _linear(linear.weight.detach() * scale[:, None], linear.bias.detach() * scale)


def simplified(module: nn.Module) -> nn.Module:
    """Return a copy of a backbone with such parts replaced."""
    return _replace(copy.deepcopy(module))


def _replace(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return MeanPool()
    if isinstance(module, nn.MultiheadAttention) and module.batch_first:
        return SelfAttention(module)
    if isinstance(module, LayerNorm2d | TimmLayerNorm2d):
        return ChannelsNorm(module)
    if isinstance(module, nn.Sequential) and (stage := _convnext_stage(module)):
        return stage
    for name, child in module.named_children():
        setattr(module, name, _replace(child))
    if isinstance(module, VisionTransformer):
        layers = module.encoder.layers
        layers[-1] = ClassTokenBlock(layers[-1])
    return module


def _convnext_stage(blocks: nn.Sequential) -> ConvNextStage | None:
    """Return the stand-in for a row of ConvNeXt blocks, if it is nothing else."""
    replaced = [_convnext_block(block) for block in blocks]
    found = [block for block in replaced if block is not None]
    return ConvNextStage(*found) if found and len(found) == len(replaced) else None


def _convnext_block(block: nn.Module) -> ConvNextBlock | None:
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

"""Modules that are rewritten before tracing, so that graphs stay clean and engines fuse them.

The stand-ins here are for parts that many backbones share; those of one family are with it, in
:mod:`.families`. Each computes what the original computes: the parity gate compares the graphs
with the untouched model.
"""

from __future__ import annotations

import copy

import torch
from timm.layers.norm import LayerNorm2d as TimmLayerNorm2d
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from .families.registry import Rewrite, families


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
            linear(weight, bias)
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


class ChannelsNorm(nn.Module):
    """``LayerNorm2d`` of torchvision and timm, over the channels of ``(B, C, H, W)``.

    All pixels form one axis while it normalises: OpenVINO has a kernel for three dimensions and
    takes the normalisation apart for four.
    """

    def __init__(self, original: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(original.normalized_shape, original.eps)
        self.norm.weight, self.norm.bias = original.weight, original.bias

    def forward(self, maps: Tensor) -> Tensor:
        pixels = maps.permute(0, 2, 3, 1)
        normalised: Tensor = self.norm(pixels.flatten(1, 2)).reshape(pixels.shape)
        return normalised.permute(0, 3, 1, 2)


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a layer with these weights ``(outputs, inputs)`` and biases ``(outputs,)``."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def simplified(module: nn.Module) -> nn.Module:
    """Return a copy of a backbone with such parts replaced."""
    rewrites = [_shared, *(each for family in families().values() for each in family.rewrites)]
    return _rewritten(copy.deepcopy(module), rewrites)


def _shared(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return MeanPool()
    if isinstance(module, nn.MultiheadAttention) and module.batch_first:
        return SelfAttention(module)
    if isinstance(module, LayerNorm2d | TimmLayerNorm2d):
        return ChannelsNorm(module)
    return None


def _rewritten(module: nn.Module, rewrites: list[Rewrite]) -> nn.Module:
    """Rewrite a module, then the modules in it."""
    found = (made for rewrite in rewrites if (made := rewrite(module)) is not None)
    module = next(found, module)
    for name, child in module.named_children():
        setattr(module, name, _rewritten(child, rewrites))
    return module

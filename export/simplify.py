"""Modules rewritten before tracing, so that graphs stay clean and engines recognise them.

Each stand-in computes what the original computes; the parity gate compares the result
with the untouched model.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class MeanPool(nn.Module):
    """``AdaptiveAvgPool2d(1)`` as one mean.

    The exporter turns the original into a mean and a gather over computed indices that
    keep the memory layout of torch's own kernel, which means nothing to an engine.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3), keepdim=True)


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` attending to its own input, batch first, without masks.

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
        batch, tokens, width = query.shape
        q, k, v = (
            projection(query).reshape(batch, tokens, self.heads, -1).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        mixed = torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width)), None


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
    return linear


def simplified(module: nn.Module) -> nn.Module:
    """Return a copy of a backbone with such parts replaced."""
    return _replace(copy.deepcopy(module))


def _replace(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return MeanPool()
    if isinstance(module, nn.MultiheadAttention) and module.batch_first:
        return SelfAttention(module)
    for name, child in module.named_children():
        setattr(module, name, _replace(child))
    return module

"""Modules rewritten before tracing, so that graphs stay clean and engines recognise them.

Each stand-in computes what the original computes; the parity gate compares the result
with the untouched model.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
    squeezes; here it is one product and one split, the pattern that engines fuse.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = original.num_heads
        self.in_weight, self.in_bias = original.in_proj_weight, original.in_proj_bias
        self.out_proj = original.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        batch, tokens, width = query.shape
        size = width // self.heads
        projected = F.linear(query, self.in_weight, self.in_bias).chunk(3, dim=-1)
        q, k, v = (x.reshape(batch, tokens, self.heads, size).transpose(1, 2) for x in projected)
        shares = torch.softmax((q * size**-0.5) @ k.transpose(-2, -1), dim=-1)
        mixed = (shares @ v).transpose(1, 2).reshape(batch, tokens, width)
        return self.out_proj(mixed), None


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

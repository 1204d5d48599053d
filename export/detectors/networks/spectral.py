"""The networks of SPAI: spectral features of a tile, and attention over an image's tiles."""

from __future__ import annotations

from itertools import combinations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from ..presets import IMAGENET
from .low_pass import LowPass
from .parts import two_logits

_SMALLEST_LENGTH = 1e-8  # PyTorch's, in cosine similarities


class Projector(nn.Module):
    """Linear layers with GELU between them, and layer normalisation around them.

    Args:
        width: of what it takes, ``(..., width)``.
        size: of what it gives.
        layers: how many there are.
        normed: whether there is a normalisation before, too.
        activated: whether GELU follows the last layer, too.
    """

    def __init__(
        self, width: int, size: int, layers: int, *, normed: bool, activated: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width) if normed else nn.Identity()
        # In checkpoints a dropout stands before, and an activation and a dropout after each layer.
        self.projector = nn.ModuleDict(
            {str(3 * n + 1): nn.Linear(size if n else width, size) for n in range(layers)}
        )
        self.norm2 = nn.LayerNorm(size)
        self.activated = activated

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm1(tokens)
        for n, layer in enumerate(self.projector.values(), start=1):
            tokens = layer(tokens)
            if n < len(self.projector) or self.activated:
                tokens = functional.gelu(tokens)
        result: Tensor = self.norm2(tokens)
        return result


class Importance(nn.Module):
    """The blocks' features ``(B, N, 2 P)``, weighed against each other channel by channel.

    Returns ``(B, P)``.
    """

    def __init__(self, blocks: int, size: int, layers: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1, blocks, size))
        self.proj1 = Projector(2 * size, size, layers, normed=False, activated=True)
        self.proj2 = Projector(size, size, layers, normed=False, activated=True)

    def forward(self, features: Tensor) -> Tensor:
        weighed = torch.softmax(self.alpha, dim=1) * self.proj1(features)
        result: Tensor = self.proj2(weighed.sum(dim=1))
        return result


class Restoration(nn.Module):
    """What a Vision Transformer sees in a tile, and in its low and high frequencies.

    ``forward(tiles)`` takes ``(B, 3, p, p)`` in [0, 1] and returns ``(B, 6 N + P)``: the mean and
    the deviation, over patches, of three cosine similarities in each of the N blocks, and the
    tile's own P features.

    Args:
        vit: whose blocks are read; it takes normalised tiles.
        low_pass: tells the frequencies apart.
        size: P.
        layers: of each projector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, vit: VisionTransformer, low_pass: LowPass, size: int, layers: int) -> None:
        super().__init__()
        self.vit, self.low_pass = vit, low_pass
        self.projectors = nn.ModuleList(
            Projector(vit.embed_dim, size, layers, normed=True, activated=False) for _ in vit.blocks
        )
        self.importance = Importance(len(vit.blocks), size, layers)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(IMAGENET, name)).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, tiles: Tensor) -> Tensor:
        low = self.low_pass(tiles)
        three = torch.cat([tiles, low.clamp(0, 1), (tiles - low).clamp(0, 1)])
        blocks = self.vit.forward_intermediates(
            (three - self.mean) / self.std,
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
        )
        seen = torch.stack(
            [projector(tokens) for tokens, projector in zip(blocks, self.projectors, strict=True)],
            dim=1,
        )
        seen = seen.reshape(3, -1, *seen.shape[1:])  # tile, low, high
        own = torch.cat(_mean_and_deviation(seen[0]), dim=2)
        return torch.cat([*_similarities(seen), self.importance(own)], dim=1)


def _similarities(seen: Tensor) -> list[Tensor]:
    """Return mean and deviation of three similarities: ``(3, B, N, n, P)`` gives six ``(B, N)``."""
    lengths = seen.square().sum(dim=-1, keepdim=True).sqrt()
    units = seen / lengths.clamp_min(_SMALLEST_LENGTH)
    statistics: list[Tensor] = []
    for one, other in combinations(range(3), 2):
        statistics += _mean_and_deviation((units[one] * units[other]).sum(dim=-1))
    return statistics


def _mean_and_deviation(values: Tensor) -> list[Tensor]:
    """Return both over the third dimension; the deviation is a sample's.

    Written out, because the exporter has no operator for it.
    """
    mean = values.mean(dim=2, keepdim=True)
    variance = (values - mean).square().sum(dim=2) / (values.shape[2] - 1)
    return [mean.squeeze(2), variance.sqrt()]


class TileAttention(nn.Module):
    """Joins tiles by the attention of a learned query, and judges them.

    ``forward(features)`` takes ``(B, n, D)`` with any ``n >= 1`` and returns ``logits (B, 2)``
    and the tiles' ``attention (B, n)``, the mean over the heads.
    """

    def __init__(self, size: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.scores = nn.Linear(size, heads, bias=False)  # the query and the keys' weights
        self.values = nn.Linear(size, width, bias=False)
        self.to_out = nn.Linear(width, size, bias=False)
        self.norm = nn.LayerNorm(size)
        self.head = nn.Sequential(
            nn.Linear(size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        batch, count, _ = features.shape
        attention = torch.softmax(self.scores(features), dim=1).transpose(1, 2)
        values = self.values(features).reshape(batch, count, attention.shape[1], -1)
        mixed = attention.unsqueeze(2) @ values.transpose(1, 2)
        logit = self.head(self.norm(self.to_out(mixed.flatten(1))))
        return two_logits(logit), attention.mean(dim=1)

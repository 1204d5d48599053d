"""The GLASS network in PyTorch: two backbones and the attention that joins them.

Parameter names are those of the reference training code, so that its state dicts load
unchanged.

Source: "Attention to Detail: Global-Local Attention for High-Resolution AI-Generated
Image Detection", arXiv 2601.00141.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_CLASSES = 2
ATTENTION_WIDTH = 128


class Aggregator(nn.Module):
    """Weighs the crops by attention, joins them with the global view, and classifies.

    ``forward(global_features, local_features)`` takes float32 ``(B, D)`` and
    ``(B, n, D)`` with any ``n >= 1`` and returns ``logits (B, 2)`` and the crops'
    ``attention (B, n)``, which sums to one over ``n``.
    """

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Linear(feature_size, ATTENTION_WIDTH),
            nn.Tanh(),
            nn.Dropout(0.25),
            nn.Linear(ATTENTION_WIDTH, 1),
        )
        self.classifier = nn.Sequential(
            nn.LayerNorm(2 * feature_size),
            nn.Dropout(0.25),
            nn.Linear(2 * feature_size, NUM_CLASSES),
        )

    def forward(self, global_features: Tensor, local_features: Tensor) -> tuple[Tensor, Tensor]:
        attention = torch.softmax(self.attention(local_features).squeeze(-1), dim=1)
        pooled = torch.sum(attention.unsqueeze(-1) * local_features, dim=1)
        logits: Tensor = self.classifier(torch.cat([global_features, pooled], dim=1))
        return logits, attention


class Glass(Aggregator):
    """The whole detector: ``global_model``, ``local_model`` and the aggregator.

    ``forward(global_view, crops)`` takes normalised float32 ``(B, 3, p, p)`` and
    ``(B, n, 3, p, p)`` and returns what :class:`Aggregator` returns. If one module is given as
    both backbones, its weights are shared.
    """

    def __init__(self, global_model: nn.Module, local_model: nn.Module, feature_size: int) -> None:
        super().__init__(feature_size)
        self.feature_size = feature_size
        self.global_model = global_model
        self.local_model = local_model

    @property
    def shares_backbone(self) -> bool:
        """Whether one backbone serves both views."""
        return self.global_model is self.local_model

    def aggregator(self) -> Aggregator:
        """Return the aggregator alone, sharing this model's parameters."""
        alone = Aggregator(self.feature_size)
        alone.attention, alone.classifier = self.attention, self.classifier
        return alone.train(self.training)

    def forward(self, global_view: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
        global_features = self.global_model(global_view)
        local_features = self.local_model(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
        return super().forward(global_features, local_features)

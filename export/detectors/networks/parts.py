"""What families of detectors share: heads of one logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def two_logits(logit: Tensor) -> Tensor:
    """Return a logit z, ``(B, 1)``, as ``(0, z)``, ``(B, 2)``, whose softmax is z's sigmoid."""
    return torch.cat([torch.zeros_like(logit), logit], dim=1)


class TwoLogits(nn.Module):
    """A network of one logit as one of two (see :func:`two_logits`).

    ``forward`` takes what the network takes and returns ``(B, 2)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        return two_logits(self.network(*inputs))

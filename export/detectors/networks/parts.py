"""What families of detectors share: heads of one logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoLogits(nn.Module):
    """A network of one logit ``z`` as one of two: ``(0, z)``, whose softmax is z's sigmoid.

    ``forward`` takes what the network takes and returns ``(B, 2)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        logit: Tensor = self.network(*inputs)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)

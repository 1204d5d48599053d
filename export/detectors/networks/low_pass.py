"""A filter in the frequency domain as products of small matrices, which every engine has."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import CheckpointError


class LowPass(nn.Module):
    """The real part of an image whose discrete Fourier transform was multiplied by a mask.

    Frequencies that the mask drops are not computed: with 32 of 224 kept, the filter is four
    products with matrices of 64 rows. Rows and columns of a transform are sums of cosines and
    sines; the products of these are kept apart until the mask has been applied.

    Args:
        mask: ``(S, S)``, what remains of each frequency; zero frequency is at ``S // 2``.

    Raises:
        CheckpointError: the mask is not square, of even sides, with something to keep.
    """

    down: Tensor
    across: Tensor
    weights: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        if mask.ndim != 2 or mask.shape[0] != mask.shape[1] or len(mask) % 2 or not mask.any():
            raise CheckpointError(
                f"the mask of frequencies is of shape {tuple(mask.shape)}: a square with even "
                "sides that keeps some frequencies is needed."
            )
        self.side = len(mask)
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        weights = mask[rows][:, columns].double() / self.side**2
        for name, values in (
            ("down", _waves(rows)),
            ("across", _waves(columns).T),
            ("weights", weights),
        ):
            self.register_buffer(name, values.float().contiguous(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Filter ``(B, C, S, S)``."""
        waves = self.down @ images @ self.across
        (cos_cos, cos_sin), (sin_cos, sin_sin) = (
            half.chunk(2, dim=-1) for half in waves.chunk(2, dim=-2)
        )
        real = (cos_cos - sin_sin) * self.weights
        imaginary = (cos_sin + sin_cos) * self.weights  # but for its sign
        kept = torch.cat(
            [torch.cat([real, imaginary], dim=-1), torch.cat([imaginary, -real], dim=-1)], dim=-2
        )
        return self.down.T @ kept @ self.across.T


def _waves(kept: Tensor) -> Tensor:
    """Return the cosines of the kept frequencies, then their sines: ``(2 K, S)``, float64."""
    side = len(kept)
    frequencies = torch.arange(side, dtype=torch.float64)[kept] - side // 2
    places = torch.arange(side, dtype=torch.float64)
    # Whole turns are left out, which keeps the angles exact.
    turns = torch.outer(frequencies, places).remainder(side) / side
    angles = 2 * math.pi * turns
    return torch.cat([angles.cos(), angles.sin()])

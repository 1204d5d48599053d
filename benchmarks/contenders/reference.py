"""The reference's views for PyTorch: made as the training code makes them, and normalised."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...runtime.bundle.manifest import Normalisation
from ..measuring.clock import StageClock
from ..views.libraries import pillow_rgb
from ..views.roads import float_crops, float_overview, float_pixels
from .work import Photos

Item: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Normalised global views, crops, and seconds by stage; in batches with one axis more."""
LOADER_STAGES = ("read", "decode", "views")


class ReferenceViews(Dataset[Item]):
    """Views as the training code makes them, in the loader's processes."""

    def __init__(self, photos: Photos, side: int, normalisation: Normalisation) -> None:
        self._photos, self._side, self._normalisation = photos, side, normalisation

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Item:
        photo, clock = self._photos[index], StageClock()
        content = Path(photo.path).read_bytes()
        clock.done("read")
        rgb = pillow_rgb(content)
        clock.done("decode")
        pixels = float_pixels(rgb)
        overview = _normalised(float_overview(pixels, self._side), self._normalisation)
        crops = float_crops(pixels, photo.placements, self._side)
        crops = _normalised(crops, self._normalisation)
        clock.done("views")
        seconds = torch.tensor([clock.seconds[stage] for stage in LOADER_STAGES])
        return overview, crops, seconds


def _normalised(pixels: Tensor, normalisation: Normalisation) -> Tensor:
    """Normalise pixels ``(..., 3, height, width)`` in [0, 1]."""
    mean, std = channel_tensors(normalisation, "cpu")
    return (pixels - mean) / std


def channel_tensors(normalisation: Normalisation, device: str) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the channels, ``(3, 1, 1)`` each."""
    mean, std = (
        torch.tensor(each, device=device) for each in (normalisation.mean, normalisation.std)
    )
    return mean.view(3, 1, 1), std.view(3, 1, 1)

"""GLASS by its specification, from torch's generator and torchvision's resize.

Nothing here comes from glass_edge: tests compare the project with this.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
CROP, MAX_GRID = 224, 8


def corners(height: int, width: int, count: int, generator: torch.Generator) -> list[list[int]]:
    """Top and left of each crop, drawn as the reference draws them."""

    def below(bound: int) -> int:
        return int(torch.randint(0, bound, (1,), generator=generator))

    grid = min(min(height, width) // CROP, MAX_GRID)
    found = []
    if grid * grid >= count:
        cell_height, cell_width = height // grid, width // grid
        for cell in torch.randperm(grid * grid, generator=generator)[:count].tolist():
            i, j = divmod(cell, grid)
            dy = below(max(0, cell_height - CROP) + 1)
            dx = below(max(0, cell_width - CROP) + 1)
            top = min(i * cell_height + dy, max(0, height - CROP))
            found.append([top, min(j * cell_width + dx, max(0, width - CROP))])
    else:
        for _ in range(count):
            top = below(max(0, height - CROP) + 1)
            found.append([top, below(max(0, width - CROP) + 1)])
    return found


def overview(rgb: np.ndarray) -> Tensor:
    """The global view on [0, 1], ``(3, 224, 224)``."""
    pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1).to(torch.float32).div(255)
    return TF.resize(pixels, [CROP, CROP], antialias=True)


def views(rgb: np.ndarray, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Normalised global view and crops of one image."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1).to(torch.float32).div(255)
    crops = torch.zeros(count, 3, CROP, CROP)
    for crop, (top, left) in zip(crops, corners(*rgb.shape[:2], count, generator), strict=True):
        part = pixels[:, top : top + CROP, left : left + CROP]
        crop[:, : part.shape[1], : part.shape[2]] = part
    return (overview(rgb) - MEAN) / STD, (crops - MEAN) / STD


@torch.inference_mode()
def judge(model: torch.nn.Module, path: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits and attention of an image file, as PyTorch gives them."""
    rgb = np.asarray(Image.open(path).convert("RGB"))
    global_view, crops = views(rgb, count, seed)
    logits, attention = model(global_view[None], crops[None])
    return logits[0], attention[0]

"""Machine-made twins of photographs: a small convolutional autoencoder.

Image generators end in a decoder that upsamples a small latent picture to pixels, and
that decoder leaves traces. This one has the same build at a fraction of the size: a
strided encoder to a quarter of the resolution, a decoder of nearest-neighbour upsampling
and convolutions. Passing a photograph through it gives a picture with the same content
and the traces of a decoder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_CHANNELS = 12
STRIDE = 4
TILE, MARGIN = 1024, 64  # the margin exceeds the receptive field, so tiles leave no seams


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.SiLU())


class Autoencoder(nn.Module):
    """Float pixels in [0, 1], ``(B, 3, H, W)`` with sides divisible by 4, to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            _convolution(3, 32),
            _convolution(32, 64, stride=2),
            _convolution(64, 96, stride=2),
            _convolution(96, 96),
            nn.Conv2d(96, LATENT_CHANNELS, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            _convolution(LATENT_CHANNELS, 96),
            _convolution(96, 96),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            _convolution(96, 64),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            _convolution(64, 32),
            nn.Conv2d(32, 3, 3, padding=1),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # without normalisation layers, scale matters
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        reconstruction: Tensor = self.decoder(self.encoder(pixels - 0.5)) + 0.5
        return reconstruction


def train_autoencoder(
    photographs: list[np.ndarray], *, steps: int, seed: int, patch: int = 128, batch: int = 8
) -> Autoencoder:
    """Train on random patches of RGB uint8 photographs and return the model in eval mode."""
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    model = Autoencoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for step in range(steps):
        pixels = _random_patches(photographs, patch, batch, draw)
        reconstruction = model(pixels)
        loss = F.l1_loss(reconstruction, pixels) + F.mse_loss(reconstruction, pixels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 200 == 0:
            print(f"autoencoder step {step + 1}/{steps}  loss {loss.item():.4f}", flush=True)
    return model.eval()


def _random_patches(
    photographs: list[np.ndarray], patch: int, batch: int, draw: np.random.Generator
) -> Tensor:
    patches = []
    for index in draw.integers(len(photographs), size=batch):
        picture = photographs[index]
        top = draw.integers(picture.shape[0] - patch + 1)
        left = draw.integers(picture.shape[1] - patch + 1)
        patches.append(picture[top : top + patch, left : left + patch])
    pixels = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2)
    return pixels.to(torch.float32).div(255).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def machine_made(model: Autoencoder, photograph: np.ndarray) -> np.ndarray:
    """Return the machine-made twin of an RGB uint8 photograph, of the same size."""
    height, width = photograph.shape[:2]
    padded = np.pad(
        photograph,
        ((MARGIN, MARGIN + -height % STRIDE), (MARGIN, MARGIN + -width % STRIDE), (0, 0)),
        mode="symmetric",
    )
    twin = np.empty_like(photograph)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = padded[top : top + TILE + 2 * MARGIN, left : left + TILE + 2 * MARGIN]
            pixels = torch.from_numpy(tile.copy()).permute(2, 0, 1)[None].to(torch.float32)
            made = model(pixels.div(255)).clamp(0, 1).mul(255).round().to(torch.uint8)
            inside = made[0, :, MARGIN:-MARGIN, MARGIN:-MARGIN].permute(1, 2, 0).numpy()
            target = twin[top : top + TILE, left : left + TILE]
            target[...] = inside[: target.shape[0], : target.shape[1]]
    return twin

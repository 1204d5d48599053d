"""FerretNet: a small network on what a median filter takes away (arXiv 2509.20890).

Its checkpoints do not say which filter they were trained with: the published S model's, a median
of 3x3 neighbours, is built.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CheckpointError
from ..families.registry import count_blocks
from .networks.parts import TwoLogits
from .networks.weights import filled
from .presets import CLIP, STREAM, centre, one_view
from .registry import Classes, Detector, Family, Preset, Source

_CODE = "xigua7105/FerretNet@e92796c"
_SETTINGS = f"{_CODE}: configs/cfgs/FerretNet-S-Median-3.yaml"
_MIDDLE = 4
# Each pair puts the smaller value first. In the end the median of nine is in the middle.
# Source: J. L. Smith, "Implementing median filters in XC4000E FPGAs", Xcell 23, 1996.
_EXCHANGES = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3)),
    *((5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)


class MedianResidual(nn.Module):
    """Views ``(B, C, p, p)`` minus the median of each pixel's neighbours and a zero.

    The zero stands in the pixel's own place. Beyond the border all is zero. Minima and maxima
    give the median exactly, and engines have no other operator for it.
    """

    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(1), persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        height, width = views.shape[2:]
        padded = F.pad(views, (1, 1, 1, 1))
        values = [
            padded[:, :, top : top + height, left : left + width]
            for top in range(3)
            for left in range(3)
        ]
        values[_MIDDLE] = self.zero
        for low, high in _EXCHANGES:
            one, other = values[low], values[high]
            values[low], values[high] = torch.minimum(one, other), torch.maximum(one, other)
        return views - values[_MIDDLE]


class TwoScales(nn.Module):
    """The sum of two convolutions of each channel, one of them dilated, then a mix of channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=inputs, bias=False)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, stride, 2, 2, groups=inputs, bias=False)
        self.conv3 = nn.Conv2d(outputs, outputs, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        mixed: Tensor = self.conv3(self.conv1(maps) + self.conv2(maps))
        return mixed


class Separable(nn.Sequential):
    """A convolution of each channel, then a mix of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depth_wise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.point_wise = nn.Conv2d(channels, channels, 1, bias=False)


class FerretBlock(nn.Module):
    """A residual block from ``(B, inputs, h, w)`` to ``(B, outputs, h / stride, w / stride)``."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            TwoScales(inputs, outputs, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            Separable(outputs),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            project = nn.Conv2d(inputs, outputs, 1, stride)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.layers(maps) + self.shortcut(maps))


class FerretNet(nn.Module):
    """FerretNet, from normalised views ``(B, 3, p, p)`` to one logit ``(B, 1)``.

    The stem gives ``width`` channels, and each stage, of ``depths`` blocks, twice those of the one
    before. Parameters have the names of the published checkpoints.
    """

    def __init__(self, width: int, depths: Sequence[int]) -> None:
        super().__init__()
        self.front = MedianResidual()
        self.cbr1 = _stem(3, width // 2, 1)
        self.cbr2 = _stem(width // 2, width, 2)
        stages: list[nn.Module] = []
        for depth in depths:
            following = (FerretBlock(2 * width, 2 * width, 1) for _ in range(depth - 1))
            stages.append(nn.Sequential(FerretBlock(width, 2 * width, 2), *following))
            width *= 2
        self.feature = nn.Sequential(*stages, nn.Conv2d(width, width, 1, bias=False))
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.logit = nn.Sequential(nn.Flatten(1), nn.Linear(width, 1))

    def forward(self, views: Tensor) -> Tensor:
        maps = self.cbr2(self.cbr1(self.front(views)))
        logit: Tensor = self.logit(self.avg_pool(self.feature(maps)))
        return logit


def _stem(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _presets(source: Source) -> tuple[Preset, ...]:
    return (one_view(centre(256), CLIP, _SETTINGS),)


def _load(source: Source, preset: Preset) -> Detector:
    return Detector(
        name="FerretNet, median of 3x3",
        streams={STREAM: TwoLogits(filled(_sized(source), source.state, "FerretNet"))},
        aggregator=None,
        classes=Classes(("real", "fake"), "fake", f"{_CODE}: README.md"),
    )


def _sized(source: Source) -> FerretNet:
    state = source.state
    try:
        stages = count_blocks(state, r"feature\.(\d+)\.0\.")
        depths = [count_blocks(state, rf"feature\.{at}\.(\d+)\.") for at in range(stages)]
        return FerretNet(len(state["cbr2.0.weight"]), depths)
    except (KeyError, ValueError, TypeError, RuntimeError):
        raise CheckpointError(
            "this is no checkpoint of FerretNet, which has cbr2.0.weight and stages feature.N.*: "
            "give the whole network's, as its authors save it."
        ) from None


FAMILY = Family(
    name="ferretnet",
    title="FerretNet",
    keys=(r"cbr1\.0\.weight$", r"feature\.0\.0\.layers\.0\.conv1\.weight$", r"logit\.1\.weight$"),
    licence="Apache-2.0",
    presets=_presets,
    load=_load,
)

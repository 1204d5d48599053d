"""NPR: what nearest-neighbour upsampling leaves between neighbours (Tan et al., arXiv 2312.10461).

The network is the first half of a ResNet-50 with a smaller stem.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from ..errors import CheckpointError
from ..families.registry import count_blocks
from ..tensors import StateDict
from .networks.parts import TwoLogits
from .networks.weights import filled
from .presets import IMAGENET, STREAM, centre, one_view, stretched
from .registry import Classes, Detector, Family, Preset, Source

_CODE = "chuangchuangtan/NPR-DeepfakeDetection@73cde1c"
_FEATURES = 512
_STAGES = (1, 2)


class NeighbourResidual(nn.Module):
    """Each pixel of ``(B, 3, p, p)`` minus the top left one of its 2x2 block, times 2/3.

    ``p`` is even.
    """

    def forward(self, views: Tensor) -> Tensor:
        corners = views[:, :, ::2, ::2]
        return (views - F.interpolate(corners, scale_factor=2.0, mode="nearest")) * (2.0 / 3.0)


class Npr(nn.Module):
    """NPR's network, from normalised views ``(B, 3, p, p)`` to one logit ``(B, 1)``.

    ``depths`` counts the blocks of its two stages. Parameters have the names of the published
    checkpoint.
    """

    def __init__(self, depths: Sequence[int]) -> None:
        super().__init__()
        whole = ResNet(Bottleneck, [*depths, 1, 1])
        self.front = NeighbourResidual()
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1, self.relu, self.maxpool = whole.bn1, whole.relu, whole.maxpool
        self.layer1, self.layer2, self.avgpool = whole.layer1, whole.layer2, whole.avgpool
        self.fc1 = nn.Linear(_FEATURES, 1)

    def forward(self, views: Tensor) -> Tensor:
        maps = self.maxpool(self.relu(self.bn1(self.conv1(self.front(views)))))
        pooled = self.avgpool(self.layer2(self.layer1(maps)))
        logit: Tensor = self.fc1(pooled.flatten(1))
        return logit


_SMALL = "but for images below 224, which that tiles"


def _presets(source: Source) -> tuple[Preset, ...]:
    return (
        one_view(stretched(256), IMAGENET, f"{_CODE}: test.py"),
        one_view(
            centre(224),
            IMAGENET,
            f"{_CODE}: its test on GenImage, but for images below 224, which it tiles",
        ),
    )


def _fits(source: Source) -> bool:
    deeper = any(key.startswith(("layer3.", "layer4.")) for key in source.state)
    return source.state["fc1.weight"].shape == (1, _FEATURES) and not deeper


def _load(source: Source, preset: Preset) -> Detector:
    network = filled(Npr(_depths(source.state)), source.state, "NPR")
    return Detector(
        name="NPR, the first half of a ResNet-50",
        streams={STREAM: TwoLogits(network)},
        aggregator=None,
        classes=Classes(("real", "fake"), "fake", f"{_CODE}: test.py"),
    )


def _depths(state: StateDict) -> list[int]:
    try:
        return [count_blocks(state, rf"layer{stage}\.(\d+)\.conv3\.") for stage in _STAGES]
    except ValueError as error:
        raise CheckpointError(
            f"this is no checkpoint of NPR, which has stages layer1 and layer2 ({error}): give the "
            "whole network's, as its authors save it."
        ) from None


FAMILY = Family(
    name="npr",
    title="NPR",
    keys=(r"conv1\.weight$", r"layer1\.0\.conv3\.weight$", r"layer2\.0\.", r"fc1\.weight$"),
    licence="none stated",
    presets=_presets,
    load=_load,
    fits=_fits,
)

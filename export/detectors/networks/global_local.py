"""What Fusing and GLFF share: a ResNet for all views, and attention whose last token decides.

Sources: littlejuyan/FusingGlobalandLocal@0cb3d26 and littlejuyan/GLFF@a042102.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from ....runtime.views.places import Guided
from ....runtime.views.spec import StreamViews
from ...families.registry import count_blocks
from ...simplify import simplified
from ...tensors import StateDict
from ..presets import IMAGENET, short_side
from ..registry import Classes, Detector, Preset
from .keys import without_prefix
from .parts import two_logits
from .weights import filled, sizes_of

Layers = TypeVar("Layers", bound="Whole")

_SIDE = 224
_HEADS = 4
_STAGES = (1, 2, 3, 4)
_KERNELS = (3, 2)  # cells of the map that a crop of 224, and one of 112 pixels, covers
_UNUSED = ("resnet.fc.", "MultiFusion.project_middle.")  # in checkpoints, but in no forward pass


class AttentionLayer(nn.Module):
    """Self-attention and two linear layers; each sum is normalised afterwards.

    ``forward(queries, tokens)`` takes ``(B, q, D)`` and ``(B, n, D)`` and returns ``(B, q, D)``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(width, _HEADS, batch_first=True)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        mixed, _ = self.mha(queries, tokens, tokens, need_weights=False)
        queries = self.ln1(queries + mixed)
        result: Tensor = self.ln2(queries + self.fc2(functional.relu(self.fc1(queries))))
        return result


class LastToken(nn.ModuleList):
    """Layers of self-attention; only the last token of the last one is read.

    ``forward(tokens)`` takes ``(B, n, D)`` and returns ``(B, D)``.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__(AttentionLayer(width) for _ in range(layers))

    def forward(self, tokens: Tensor) -> Tensor:
        last = len(self) - 1
        for number, layer in enumerate(self):
            tokens = layer(tokens[:, -1:] if number == last else tokens, tokens)
        return tokens[:, 0]


class Trunk(nn.Module):
    """A ResNet's maps: after its first layer, and after its last."""

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.resnet = resnet

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        resnet: Any = self.resnet
        shallow = resnet.relu(resnet.bn1(resnet.conv1(views)))
        maps = resnet.maxpool(shallow)
        for stage in _STAGES:
            maps = getattr(resnet, f"layer{stage}")(maps)
        return shallow, maps


class PooledFeatures(nn.Module):
    """Features ``(B, D)`` of a view: the mean of the last maps, through one layer."""

    def __init__(self, trunk: Trunk, layer: nn.Linear) -> None:
        super().__init__()
        self.trunk, self.layer = trunk, layer

    def forward(self, views: Tensor) -> Tensor:
        _, maps = self.trunk(views)
        return functional.relu(self.layer(maps.mean(dim=(2, 3))))


class Verdict(nn.Module):
    """Joins the views: ``forward(global_features, local_features)`` gives logits ``(B, 2)``.

    It takes ``(B, D)`` and ``(B, n, D)`` with any ``n >= 1``.
    """

    def __init__(self, attention: nn.Module, layer: nn.Linear) -> None:
        super().__init__()
        self.attention, self.layer = attention, layer

    def forward(self, global_features: Tensor, local_features: Tensor) -> Tensor:
        tokens = torch.cat([local_features, global_features.unsqueeze(1)], dim=1)
        return two_logits(self.layer(self.attention(tokens)))


class Whole(nn.Module):
    """All layers by the keys of Fusing's checkpoints; GLFF adds one.

    Args:
        state: whose shapes tell the sizes.

    Raises:
        KeyError, IndexError, ValueError: the state dict is incomplete.
    """

    def __init__(self, state: StateDict) -> None:
        super().__init__()
        depths = [count_blocks(state, rf"resnet\.layer{s}\.(\d+)\.conv1\.") for s in _STAGES]
        width, pooled = state["fc1.weight"].shape
        self.resnet: nn.Module = ResNet(Bottleneck, depths)
        self.resnet.fc = nn.Identity()
        self.fc1 = nn.Linear(pooled, width)
        self.mha_list = attention_of(state, "mha_list.")
        self.fc = nn.Linear(width, 1)

    @property
    def depths(self) -> list[int]:
        """How many blocks each stage of the ResNet has."""
        stages: list[Any] = [getattr(self.resnet, f"layer{stage}") for stage in _STAGES]
        return [len(stage) for stage in stages]


def attention_of(state: StateDict, prefix: str) -> LastToken:
    """Return blank layers of the sizes that keys with this prefix have."""
    layers = without_prefix(state, prefix)
    return LastToken(len(layers["0.ln1.weight"]), count_blocks(layers, r"(\d+)\."))


def whole(kind: type[Layers], state: StateDict, title: str) -> Layers:
    """Build all layers, with their weights.

    Raises:
        CheckpointError: tensors are missing, surplus, of another shape, or not finite.
    """
    with sizes_of(title):
        network = kind(state)
    return filled(network, without_prefix(state, "", _UNUSED), title)


def score_maps(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much a crop of each size would see: ``(B, 5, 5)`` and ``(B, 6, 6)``.

    Args:
        maps: ``(B, C, 7, 7)``.
    """
    large, small = (functional.avg_pool2d(maps, k, stride=1).sum(dim=1) for k in _KERNELS)
    return large, small


def detector(title: str, network: Whole, overall: nn.Module, source: str) -> Detector:
    """Put a detector together.

    Args:
        title: for its name.
        network: all its layers.
        overall: the module of the global view, to features and both score maps.
        source: says what the classes mean.
    """
    return Detector(
        name=f"{title}, ResNet {network.depths}",
        streams={
            "global": overall.eval(),
            "local": PooledFeatures(Trunk(network.resnet), network.fc1).eval(),
        },
        aggregator=Verdict(simplified(network.mha_list), network.fc).eval(),
        classes=Classes(("real", "fake"), "fake", source),
        shares_weights=True,
    )


def presets(source: str) -> tuple[Preset, ...]:
    """Return the views: the image's middle, and six crops where its score maps peak."""
    views = {
        "global": short_side(_SIDE, _SIDE),
        "local": StreamViews(_SIDE, "float32", places=Guided(by="global")),
    }
    return (Preset("guided", source, views, IMAGENET),)

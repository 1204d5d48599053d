"""Small GLASS networks of each family, built from torchvision's and timm's own classes."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import reference
import timm
import torch
from glass_edge.export.detectors.registry import Classes, Detector
from glass_edge.export.model import Glass
from PIL import Image
from random_checkpoints import as_if_trained, backbone
from torch import nn
from torchvision.models import ConvNeXt, ResNet, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock

TIMM_NAME = "mobilenetv3_small_050"
TIMM_CONVNEXT = "test_convnext"  # timm's own test network: a ConvNeXt of 270,000 weights
ROLES = ("global", "local", "aggregator")
"""The graphs of a GLASS."""
BACKBONES = ROLES[:2]
PHOTOGRAPHS = sorted((Path(__file__).parent.parent / "examples" / "images").rglob("*.jpg"))


def _headless(model: nn.Module, head: str, stand_in: nn.Module) -> nn.Module:
    setattr(model, head, stand_in)
    return model


def small_vit() -> nn.Module:
    return _headless(VisionTransformer(224, 32, 2, 2, 128, 256), "heads", nn.Identity())


def small_convnext() -> nn.Module:
    stages = [
        CNBlockConfig(16, 32, 1),
        CNBlockConfig(32, 48, 2),
        CNBlockConfig(48, 64, 1),
        CNBlockConfig(64, None, 1),
    ]
    return _headless(ConvNeXt(stages), "classifier", nn.Flatten(1))


def small_resnet() -> nn.Module:
    return _headless(ResNet(BasicBlock, [1, 1, 1, 1]), "fc", nn.Identity())


def small_timm() -> nn.Module:
    return timm.create_model(TIMM_NAME, num_classes=0)


# Backbone, its feature size, and the paper's number of crops for the family.
SMALL = {
    "vit": (small_vit, 128, 10),
    "convnext": (small_convnext, 64, 4),
    "resnet": (small_resnet, 512, 6),
    "timm": (small_timm, 1024, 6),
}
FULL = {
    "vit": (partial(backbone, "gl_vit"), 768, 10),
    "convnext": (partial(backbone, "gl_convnext"), 768, 4),
    "resnet": (partial(backbone, "gl_resnet50"), 2048, 6),
}


# Standard deviation, over the example photographs, of the margin (logit of fake minus real).
# MobileNet's random features vary so little that INT8's steps show in them.
SPREAD = {"vit": 2.0, "convnext": 2.0, "resnet": 2.0, "timm": 1.0}


def random_glass(
    family: str, *, full: bool = False, shared: bool = False, spread: bool = True
) -> Glass:
    """A GLASS in eval mode with random weights.

    Random features hardly vary from image to image, so a random classifier's scores are those of
    a graph that ignores its input. A small network's classifier looks where they vary most: its
    scores tell photographs apart.

    Args:
        family: of both backbones.
        full: of the paper's size, with a random classifier.
        shared: one backbone for both views.
        spread: whether a small network's scores spread over most of 0 to 1.
    """
    model = _random(family, full, shared)
    if spread and not full:
        model.load_state_dict(_spread(family, shared))
    return model


def timm_convnext() -> Glass:
    """A GLASS of timm's smallest ConvNeXts, which :func:`random_glass` has none of."""
    torch.manual_seed(0)
    one, other = (timm.create_model(TIMM_CONVNEXT, num_classes=0) for _ in range(2))
    return Glass(one, other, one.num_features)


def detector_of(model: Glass) -> Detector:
    """A GLASS as a detector, as the export hands it on."""
    return Detector(
        name="a GLASS",
        streams={"global": model.global_model, "local": model.local_model},
        aggregator=model.aggregator(),
        classes=Classes(("fake", "real"), "fake", "the test's"),
        shares_weights=model.shares_backbone,
    )


def _random(family: str, full: bool, shared: bool) -> Glass:
    """Always the same weights, which do not leave logits at zero."""
    torch.manual_seed(len(family))
    build, features, _ = (FULL if full else SMALL)[family]
    one = build()
    return as_if_trained(Glass(one, one if shared else build(), features))


@cache
def _spread(family: str, shared: bool) -> dict[str, torch.Tensor]:
    model = _random(family, False, shared)
    _turn_classifier(model, SPREAD[family])
    return model.state_dict()


@torch.no_grad()
def _turn_classifier(model: Glass, margin: float) -> None:
    normalise, _, linear = model.classifier
    features = torch.stack([normalise(_features(model, path)) for path in PHOTOGRAPHS])
    _, _, directions = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    most = directions[0] * directions[0].sum().sign()
    turned = most * margin / (features @ most).std()
    linear.weight[0] += turned / 2
    linear.weight[1] -= turned / 2
    linear.bias -= linear(features).mean(0)


def _features(model: Glass, path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        image.draft("RGB", (600, 600))
        overview, crops = reference.views(np.asarray(image.convert("RGB")), 2, seed=0)
    return torch.cat([model.global_model(overview[None])[0], model.local_model(crops).mean(0)])

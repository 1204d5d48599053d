"""Small GLASS networks of each family, built from torchvision's and timm's own classes."""

from __future__ import annotations

from functools import partial

import timm
import torch
from glass_edge.export.model import Glass
from random_checkpoints import as_if_trained, backbone
from torch import nn
from torchvision.models import ConvNeXt, ResNet, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock

TIMM_NAME = "mobilenetv3_small_050"


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


def random_glass(family: str, *, full: bool = False, shared: bool = False) -> Glass:
    """A GLASS in eval mode with random weights, always the same."""
    torch.manual_seed(len(family))
    build, features, _ = (FULL if full else SMALL)[family]
    one = build()
    return as_if_trained(Glass(one, one if shared else build(), features))

"""Write full-size GLASS checkpoints with random weights, for benchmarks.

Speed does not depend on the weights. Those written are always the same and leave no logit at
zero, so that reports name the same bundles and numeric errors are those of real values:
``gl_resnet50.pt``, ``gl_convnext.pt`` (ConvNeXt-T) and ``gl_vit.pt`` (ViT-B/16), and of one-view
detectors' shapes ``commfor.pt`` (ViT-S/16-384) and ``cnnspot.pt`` (ResNet-50).

    python examples/random_checkpoints.py checkpoints
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import timm
import torch
from glass_edge.export.model import Glass
from torch import Tensor, nn
from torchvision.models import convnext_tiny, resnet50, vit_b_16
from torchvision.models.convnext import CNBlock

Module = TypeVar("Module", bound=nn.Module)

# Of each file the seed, the backbone, the name of its head and what stands there, and the features.
NETWORKS: dict[str, tuple[int, Callable[[], nn.Module], str, Callable[[], nn.Module], int]] = {
    "gl_resnet50": (6, resnet50, "fc", nn.Identity, 2048),
    "gl_convnext": (8, convnext_tiny, "classifier", lambda: nn.Flatten(1), 768),
    "gl_vit": (3, vit_b_16, "heads", nn.Identity, 768),
}


def backbone(name: str) -> nn.Module:
    """Make a backbone of one of the networks, without its head."""
    _, build, head, stand_in, _ = NETWORKS[name]
    model = build()
    setattr(model, head, stand_in())
    return model


def random_glass(name: str) -> Glass:
    """Make one of the networks, always the same, in eval mode."""
    torch.manual_seed(NETWORKS[name][0])
    features = NETWORKS[name][-1]
    return as_if_trained(Glass(backbone(name), backbone(name), features))


def random_detectors() -> dict[str, dict[str, Tensor]]:
    """Make the state dicts of detectors of one view, always the same."""
    torch.manual_seed(11)
    vit = as_if_trained(timm.create_model("vit_small_patch16_384", num_classes=1))
    resnet = as_if_trained(resnet50(num_classes=1))
    return {
        "commfor": {f"vit.{key}": tensor for key, tensor in vit.state_dict().items()},
        "cnnspot": resnet.state_dict(),
    }


def as_if_trained(model: Module) -> Module:
    """Give a new network what training changes most, and put it in eval mode.

    Normalisation layers get random parameters and statistics, so that folding and fusing them
    wrongly shows, and attention gets biases. ConvNeXt's blocks start with hardly any weight beside
    what passes them by; they get as much as training gives them.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
        if isinstance(module, CNBlock):
            nn.init.uniform_(module.layer_scale, 0.2, 1.0)
        if isinstance(module, nn.MultiheadAttention):
            nn.init.uniform_(module.in_proj_bias, -0.1, 0.1)
            nn.init.uniform_(module.out_proj.bias, -0.1, 0.1)
    return model.eval()


def main() -> None:
    """Write all five, 1.3 GB together."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        torch.save(random_glass(name).state_dict(), folder / f"{name}.pt")
    for name, state in random_detectors().items():
        torch.save({"model": state}, folder / f"{name}.pt")


if __name__ == "__main__":
    main()

"""Fusing: a global view says where to look closer, and attention joins what is seen there.

Source: "Fusing Global and Local Features for Generalized AI-Synthesized Image Detection",
arXiv 2203.13964.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .networks.global_local import Trunk, Whole, detector, presets, score_maps, whole
from .registry import Detector, Family, Preset, Source

_TITLE = "Fusing"
_CODE = "littlejuyan/FusingGlobalandLocal@0cb3d26"
_SOURCE, _VIEWS = f"{_CODE}: networks/trainer.py", f"{_CODE}: Eval.py"


class GlobalView(nn.Module):
    """The features ``(B, D)`` of a global view, and score maps ``(B, 5, 5)``, ``(B, 6, 6)``."""

    def __init__(self, trunk: Trunk, layer: nn.Linear) -> None:
        super().__init__()
        self.trunk, self.layer = trunk, layer

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, maps = self.trunk(views)
        features = functional.relu(self.layer(maps.mean(dim=(2, 3))))
        return features, *score_maps(maps)


def _load(source: Source, _: Preset) -> Detector:
    network = whole(Whole, source.state, _TITLE)
    return detector(_TITLE, network, GlobalView(Trunk(network.resnet), network.fc1), _SOURCE)


FAMILY = Family(
    name="fusing",
    title=_TITLE,
    keys=(r"resnet\.conv1\.weight$", r"mha_list\.0\.mha\.in_proj_weight$"),
    licence="CC BY-NC-SA 4.0",
    presets=lambda source: presets(_VIEWS),
    load=_load,
    fits=lambda source: not any(key.startswith("MultiFusion.") for key in source.state),
)

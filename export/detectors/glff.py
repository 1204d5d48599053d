"""GLFF: as Fusing, with a global view that joins shallow and deep features cell by cell.

Source: "GLFF: Global and Local Feature Fusion for AI-synthesized Image Detection",
arXiv 2211.08615.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..simplify import simplified
from ..tensors import StateDict
from .networks.global_local import Trunk, Whole, attention_of, detector, presets, score_maps, whole
from .registry import Detector, Family, Preset, Source

_TITLE = "GLFF"
_SOURCE = "littlejuyan/GLFF@a042102: networks/trainer.py"


class MultiLevelFusion(nn.Module):
    """Joins maps of two levels by attention within each cell of the deeper one.

    ``forward(shallow, deep)`` takes ``(B, C, s h, s w)`` and ``(B, E, h, w)`` and returns
    ``(B, D, h, w)``. A cell's tokens are its deep vector, then its s x s shallow ones row by row;
    the last one is read.
    """

    def __init__(self, state: StateDict) -> None:
        super().__init__()
        width, deep = state["MultiFusion.project_high.weight"].shape
        self.project_high = nn.Linear(deep, width)
        self.project_shallow = nn.Linear(
            state["MultiFusion.project_shallow.weight"].shape[1], width
        )
        self.mha_list = attention_of(state, "MultiFusion.mha_list.")

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        channels, height, width = deep.shape[1:]
        edge = shallow.shape[-1] // width
        cells = shallow.reshape(-1, shallow.shape[1], height, edge, width, edge)
        cells = cells.permute(0, 2, 4, 3, 5, 1).reshape(-1, edge * edge, shallow.shape[1])
        first = deep.permute(0, 2, 3, 1).reshape(-1, 1, channels)
        tokens = torch.cat([self.project_high(first), self.project_shallow(cells)], dim=1)
        fused: Tensor = self.mha_list(tokens)
        return fused.reshape(-1, height, width, fused.shape[-1]).permute(0, 3, 1, 2)


class WholeGlff(Whole):
    """All layers by the keys of GLFF's checkpoints."""

    def __init__(self, state: StateDict) -> None:
        super().__init__(state)
        self.MultiFusion: nn.Module = MultiLevelFusion(state)


class GlobalView(nn.Module):
    """The features ``(B, D)`` of a global view, and score maps ``(B, 5, 5)``, ``(B, 6, 6)``."""

    def __init__(self, trunk: Trunk, fusion: nn.Module) -> None:
        super().__init__()
        self.trunk, self.fusion = trunk, fusion

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.fusion(*self.trunk(views))
        return functional.relu(maps.mean(dim=(2, 3))), *score_maps(maps)


def _load(source: Source, _: Preset) -> Detector:
    network = whole(WholeGlff, source.state, _TITLE)
    overall = GlobalView(Trunk(network.resnet), simplified(network.MultiFusion))
    return detector(_TITLE, network, overall, _SOURCE)


FAMILY = Family(
    name="glff",
    title=_TITLE,
    keys=(
        r"resnet\.conv1\.weight$",
        r"mha_list\.0\.mha\.in_proj_weight$",
        r"MultiFusion\.project_high\.weight$",
    ),
    licence="none stated",
    presets=lambda source: presets(_SOURCE),
    load=_load,
)

"""Reads the reports in docs/reports."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

ROOT = Path(__file__).parent.parent.parent
REPORTS = ROOT / "docs" / "reports"
TRAINED = {
    "demo": "EfficientNet-lite0, both backbones trained (the demo)",
    "efficientnet": "EfficientNet-lite0 with ImageNet weights, shared by both views; only the "
    "aggregator was trained",
    "vit": "ViT with 6 layers of width 192, trained from scratch",
}
"""The networks of the evaluations, by file name."""
NETWORKS = {"resnet50": "ResNet-50", "convnext": "ConvNeXt-T", "vit": "ViT-B/16"}
"""Those of the speed reports, by file name."""
GPU_NETWORKS = ("vit", "resnet50")
"""Of those, the ones that were measured on a GPU."""
Report = TypeVar("Report")


def read(name: str, kind: type[Report]) -> Report:
    """Read a report from docs/reports."""
    return msgspec.json.decode((REPORTS / f"{name}.json").read_bytes(), type=kind)

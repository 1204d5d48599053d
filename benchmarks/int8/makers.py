"""What every maker of INT8 graphs is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import onnx
from onnx import ModelProto

from ...calibration.images import ImageSets
from ...calibration.int8.observe import CalibrationViews
from ...calibration.making.variants import Made
from ...calibration.options import CalibrationOptions
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.streams import Role
from ...runtime.machine.progress import Progress


@dataclass(frozen=True)
class Given:
    """What all makers start from.

    Attributes:
        bundle: in FP32.
        sets: the images to calibrate on.
        views: of these images.
        options: the user's, which are the defaults of ``glass-quantize`` but for the images.
        progress: is told how far the work has come.
    """

    bundle: Bundle
    sets: ImageSets
    views: CalibrationViews
    options: CalibrationOptions
    progress: Progress

    def model(self, role: Role) -> ModelProto:
        """Load a backbone's graph in FP32, with its weights inside."""
        return onnx.load(self.bundle.graph_path(role))


Make: TypeAlias = Callable[[Given], Made]
"""Makes INT8 graphs of both backbones.

It raises a :class:`~glass_edge.runtime.machine.errors.GlassError` if that is not possible.
"""


@dataclass(frozen=True)
class Maker:
    """A way to make INT8 graphs.

    Attributes:
        name: as ``--makers`` takes it.
        how: what it calls with which settings, for the report.
        make: does the work.
        reads_images: whether it reads the images itself, instead of taking the views given.
    """

    name: str
    how: str
    make: Make
    reads_images: bool = False

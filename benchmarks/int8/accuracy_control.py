"""What NNCF's accuracy control is asked to hold: our yardstick, one backbone at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import numpy as np
from onnx import ModelProto

from ...calibration.errors import CalibrationError
from ...calibration.int8.layers import find_layers, form_of
from ...calibration.judging.graphs import Graph, open_graph
from ...calibration.judging.trial import ERROR_AIMED_AT, Trial
from ...runtime.bundle.streams import Role
from .makers import Given

MOST_ERROR = ERROR_AIMED_AT / math.sqrt(2)  # of each backbone: errors of both add up as squares
RANKED_ON = 16  # images
LIMIT = 120.0  # seconds for one backbone


def trial_of(given: Given) -> Trial:
    """Draw other crops of the calibration images, as ``glass-quantize`` does.

    Raises:
        CalibrationError: the margins do not vary, so that no error can be measured in their noise.
    """
    backbone = given.bundle.manifest.backbone
    streams, form = given.bundle.manifest.streams, form_of("fp32")
    layers = [find_layers(given.model(role).graph, backbone, form) for role in streams]
    to_try_on = given.views.suited_to(*layers).drawn
    trial = Trial(given.bundle, to_try_on, progress=given.progress)
    if not trial.noise.size:
        raise CalibrationError("the margins of all trial views are alike.")
    return trial


class Validation:
    """The metric of a changed graph: one minus its error, so that FP32's is 1 and more is better.

    It is what NNCF calls a validation function: it takes a graph with its weights inside and the
    numbers of images, and returns the metric over these and that of each. NNCF divides by FP32's
    metric, which therefore must not be 0.

    NNCF has no limit of time. When ``LIMIT`` is over every graph is as good as FP32's, so that NNCF
    ends with the layers that it has in floating point by then.
    """

    def __init__(self, trial: Trial, role: Role, model: ModelProto) -> None:
        """Judge all images of the trial with the backbone in FP32."""
        self._trial, self._role = trial, role
        graph = open_graph(model)
        self._expected = [self._margin(graph, image) for image in range(trial.images)]
        self._until = time.monotonic() + LIMIT

    def __call__(self, model: ModelProto, images: Iterable[int]) -> tuple[float, list[float]]:
        """Return one minus the root mean square change of the margin, and one minus each change.

        Changes are absolute and in draw noise.
        """
        numbers = list(images)
        if time.monotonic() >= self._until:
            return 1.0, [1.0] * len(numbers)
        graph = open_graph(model)
        found = [self._margin(graph, image) - self._expected[image] for image in numbers]
        changes = np.abs(found) / self._trial.noise.size
        return 1 - float(np.sqrt(np.mean(changes**2))), (1 - changes).tolist()

    def _margin(self, graph: Graph, image: int) -> float:
        features = graph(self._trial.views_of(image)[self._role])
        (margin,) = self._trial.margins_of_image(image, self._role, features[np.newaxis])
        return float(margin)

"""Which nodes compute in FP16 or BF16: found by judging real views and comparing verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.streams import Role
from ...runtime.engines.base import Array
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.views.batch import DrawnViews, Sampling
from ..images import ImageSets
from ..int8.observe import Observer
from ..judging.trial import ERROR_AIMED_AT, Trial, holds
from ..judging.views import drawn_views, trial_views
from ..judging.yardstick import Deviation
from ..photographs import own_images
from .mixed import LowType, Plan, float_tensors, kept_nodes, lowered
from .simulated import simulated

_FRONTS = (0, 1, 2, 4, 8, 16, 24, 32, 40, 48)  # numbers of first products to try in FP32
_SEED = 20_610  # not one of the comparison
_DRAWS = 12  # of the package's photographs
_OBSERVED = 4  # views at a time, because all their inner tensors are in memory
_CROPS = 4  # of each image


@dataclass(frozen=True)
class Lowered:
    """Graphs in a low type with their weights inside, and which nodes measurement left in FP32."""

    graphs: dict[Role, ModelProto]
    kept: dict[Role, tuple[str, ...]]


def lower(
    reference: Bundle, precision: LowType, images: ImageSets | None, progress: Progress = silent
) -> Lowered:
    """Return the backbones of an FP32 bundle in a low type.

    Args:
        reference: in FP32.
        precision: the low type.
        images: the user's; ``None`` takes photographs that come with the package.
        progress: is told how far the work has come.

    Raises:
        CalibrationError: the images cannot be read or show nothing.
    """
    trial = Trial(reference, _trial_views(reference, images, progress), progress)
    return FloatSearch(reference, trial, progress).lower(precision)


class FloatSearch:
    """Finds how many of the first products must stay in FP32, for one low type after the other."""

    def __init__(self, reference: Bundle, trial: Trial, progress: Progress = silent) -> None:
        """Measure the largest values of all inner tensors on the trial's views.

        Args:
            reference: in FP32.
            trial: its margins, with which others are compared.
            progress: is told how far the work has come.
        """
        self._trial = trial
        self._models = {role: onnx.load(reference.graph_path(role)) for role in trial.roles}
        views = [trial.views_of(image) for image in range(trial.images)]
        self._largest = {
            role: _largest(
                reference, role, np.concatenate([each[role][:_CROPS] for each in views]), progress
            )
            for role in trial.roles
        }

    def lower(self, precision: LowType) -> Lowered:
        """Return the backbones in a low type."""
        return self._run(precision, self._models, holds)

    def lower_rest(self, quantised: Mapping[Role, ModelProto]) -> Lowered:
        """Return backbones with INT8 layers, with the rest of them in FP16.

        A tiny change of a value can round to another INT8 step, so the margins of single views
        move. Together with INT8 they may move as far as with INT8 alone.

        Args:
            quantised: the backbones with INT8 layers and the rest in FP32.
        """
        limit = max(ERROR_AIMED_AT, self._trial.deviation(quantised).error)
        return self._run("fp16", quantised, lambda found: found.error <= limit)

    def _run(
        self,
        precision: LowType,
        models: Mapping[Role, ModelProto],
        accepts: Callable[[Deviation], bool],
    ) -> Lowered:
        """Try ever more products in FP32 until the deviation is accepted.

        If it never is, the most are kept, and the gate decides.
        """
        for front in _FRONTS:
            plans = {role: Plan(precision, self._largest[role], front) for role in models}
            graphs = {role: lowered(models[role], plans[role]) for role in models}
            tried = {role: simulated(graph) for role, graph in graphs.items()}
            what = f"trying {precision.upper()}, {front} first products in FP32"
            if accepts(self._trial.deviation(tried, what)):
                break
        return Lowered(graphs, {role: kept_nodes(models[role], plans[role]) for role in models})


def _trial_views(reference: Bundle, images: ImageSets | None, progress: Progress) -> DrawnViews:
    """Make the views to try on: of the user's images, or of the package's with more draws.

    Raises:
        CalibrationError: the images cannot be read or show nothing.
    """
    if images is not None:
        return trial_views(reference, images.calibration, progress)
    spec = reference.manifest.views
    sampling = Sampling(spec, _SEED, draws=_DRAWS if spec.drawn else 1)
    tried_on, _ = own_images(spec)
    return drawn_views(reference, tried_on, sampling)


def _largest(
    reference: Bundle, role: Role, pixels: Array, progress: Progress
) -> Mapping[str, float]:
    """Return the largest magnitude that each inner tensor of a graph takes on the views."""
    path = reference.graph_path(role)
    observer = Observer(path, float_tensors(onnx.load(path, load_external_data=False)))
    largest: dict[str, float] = {}
    starts = range(0, len(pixels), _OBSERVED)
    for start in track(starts, f"largest values of the {role} graph", len(starts), progress):
        for name, values in observer.run(pixels[start : start + _OBSERVED]).items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max(initial=0.0)))
    return largest

"""Which nodes compute in FP16 or BF16: found by judging real views and comparing verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Role
from ...runtime.engines.base import Array
from ...runtime.images.reading import ImageSource
from ...runtime.judging.pipeline import PipelineOptions
from ...runtime.judging.stream import PreparedBatch, stream_views
from ...runtime.views.batch import Sampling
from ..images import ImageSets, Suitability
from ..int8.observe import Observer
from ..int8.search import CHANGE_AIMED_AT as INT8_AIM
from ..judging.trial import BACKBONES, Outcome, Trial
from ..photographs import photographs
from .mixed import LowType, Plan, float_tensors, kept_nodes, lowered
from .simulated import simulated

# The largest change of P(fake) at 0.5 that is allowed on the views tried. FP16's is half of what is
# promised for other views; BF16's steps are eight times as wide.
CHANGE_AIMED_AT: Mapping[LowType, float] = {"fp16": 0.0025, "bf16": 0.02}
TRIED_ON = 2  # of the package's photographs, if the user gives none; the others are for the gate
_FRONTS = (0, 1, 2, 4, 8, 16, 24, 32, 40, 48)  # numbers of first products to try in FP32
_SEEDS = range(20_610, 20_622)  # not those of the comparison
_IMAGES = 32
_SEEDS_EACH = 4  # of the user's images: the largest of few changes says little about many
_OBSERVED = 4  # views at a time, because all their inner tensors are in memory
_CROPS = 4


@dataclass(frozen=True)
class Lowered:
    """Graphs in a low type with their weights inside, and which nodes measurement left in FP32."""

    graphs: dict[Role, ModelProto]
    kept: dict[str, tuple[str, ...]]


def lower(reference: Bundle, precision: LowType, images: ImageSets | None) -> Lowered:
    """Return the backbones of an FP32 bundle in a low type.

    Args:
        reference: in FP32.
        precision: the low type.
        images: the user's; ``None`` takes photographs that come with the package.

    Raises:
        CalibrationError: the images cannot be read or show nothing.
    """
    models = {role: onnx.load(reference.graph_path(role)) for role in BACKBONES}
    limit = CHANGE_AIMED_AT[precision]
    search = _Search(reference, precision, images)
    return search.run(models, lambda outcome: outcome.largest_change <= limit)


def lower_rest(
    reference: Bundle, quantised: Mapping[Role, ModelProto], images: ImageSets
) -> Lowered:
    """Return backbones with INT8 layers, with the rest of them in FP16.

    A tiny change of a value can round to another INT8 step, so the verdicts of single views move.
    The mean change is what is limited, as for INT8 itself.

    Args:
        reference: in FP32.
        quantised: its backbones with INT8 layers and the rest in FP32.
        images: the user's.

    Raises:
        CalibrationError: the images cannot be read or show nothing.
    """
    search = _Search(reference, "fp16", images)
    limit = max(INT8_AIM, search.trial.outcome(quantised).mean_change)
    return search.run(quantised, lambda outcome: outcome.mean_change <= limit)


class _Search:
    """Finds how many of the first products must stay in FP32.

    Attributes:
        trial: FP32's verdicts, with which others are compared.
    """

    def __init__(self, reference: Bundle, precision: LowType, images: ImageSets | None) -> None:
        views = _trial_views(reference, images)
        self._precision = precision
        self._largest = {role: _largest(reference, role, views) for role in BACKBONES}
        self.trial = Trial(reference, views)

    def run(self, models: Mapping[Role, ModelProto], holds: Callable[[Outcome], bool]) -> Lowered:
        """Try ever more products in FP32 until the outcome holds.

        If it never does, the most are kept, and the gate decides.
        """
        for front in _FRONTS:
            plans = {role: Plan(self._precision, self._largest[role], front) for role in BACKBONES}
            graphs = {role: lowered(models[role], plans[role]) for role in BACKBONES}
            tried = {role: simulated(graph) for role, graph in graphs.items()}
            if holds(self.trial.outcome(tried)):
                break
        return Lowered(graphs, {role: kept_nodes(models[role], plans[role]) for role in BACKBONES})


def _trial_views(reference: Bundle, images: ImageSets | None) -> PreparedBatch:
    """Make the views to try on: of the user's images, or of the package's with more seeds.

    Raises:
        CalibrationError: the images cannot be read or show nothing.
    """
    spec = reference.manifest.views
    if images:
        chosen: Sequence[ImageSource] = images.calibration[:_IMAGES]
        seeds: Iterable[int] = _SEEDS[:_SEEDS_EACH]
    else:
        chosen, seeds = photographs()[:TRIED_ON], _SEEDS
    parts: list[PreparedBatch] = []
    for seed in seeds:
        options = PipelineOptions(len(chosen))
        with closing(stream_views(chosen, Sampling(spec, seed), options)) as batches:
            parts.extend(batches)
    suitability = Suitability()
    for part in parts:
        suitability.add(part)
    suitability.check()
    return PreparedBatch(
        tuple(outcome for part in parts for outcome in part.outcomes),
        np.concatenate([part.overviews for part in parts]),
        np.concatenate([part.crops for part in parts]),
    )


def _largest(reference: Bundle, role: Role, views: PreparedBatch) -> Mapping[str, float]:
    """Return the largest magnitude that each inner tensor of a graph takes on the views."""
    path = reference.graph_path(role)
    observer = Observer(path, float_tensors(onnx.load(path, load_external_data=False)))
    pixels: Array = views.overviews
    if role == "local":
        pixels = views.crops[:, :_CROPS].reshape(-1, *views.crops.shape[2:])
    largest: dict[str, float] = {}
    for start in range(0, len(pixels), _OBSERVED):
        for name, values in observer.run(pixels[start : start + _OBSERVED]).items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max(initial=0.0)))
    return largest

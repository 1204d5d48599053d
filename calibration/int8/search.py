"""Turns an FP32 bundle's backbones into INT8 graphs that give the same verdicts.

Ranges and rounded weights come from the user's images. The verdicts decide which method clips
ranges, and which layers stay in FP32.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Calibration, Role
from ...runtime.judging.pipeline import PipelineOptions
from ...runtime.judging.stream import PreparedBatch, stream_views
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.views.batch import Sampling
from ..errors import CalibrationError
from ..images import ImageSets
from ..judging.trial import BACKBONES, Outcome, Trial
from ..options import CalibrationOptions
from .fitting import FittedWeight, fit_weights
from .histogram import Method
from .layers import Layer, find_layers
from .products import find_products
from .quantise import quantise
from .ranges import Ranges, RangesFile, collect_ranges

# If scores are spread evenly between 0 and 1, the share of verdicts that flip equals the mean
# change of P(fake) at 0.5. The gate allows 0.005; a good detector has fewer scores near 0.5.
CHANGE_AIMED_AT = 0.005
_TRIAL_IMAGES = 48
_TRIAL_SEED = 20_602  # draws other crops than those whose ranges were measured


@dataclass(frozen=True)
class LayerError:
    """How far the logits move if one layer alone is quantised (mean absolute change)."""

    role: Role
    layer: Layer
    logit_error: float


@dataclass(frozen=True)
class Quantised:
    """INT8 graphs with their weights inside, how they were made, and what stayed in FP32."""

    graphs: dict[Role, ModelProto]
    calibration: Calibration
    kept: dict[str, tuple[str, ...]]


class Int8Search:
    """Finds the INT8 graphs of a bundle whose verdicts stay close to FP32's.

    Attributes:
        layers: what can be quantised in each backbone.
        methods: the method chosen for each backbone.
        notes: what the user should know about the images.
    """

    def __init__(
        self,
        bundle: Bundle,
        sets: ImageSets,
        options: CalibrationOptions,
        progress: Progress = silent,
    ) -> None:
        """Measure ranges, choose methods and round weights.

        Raises:
            CalibrationError: the images are unreadable or show too little, or a backbone has
                nothing to quantise.
        """
        self._sets = sets
        self._progress = progress
        self._models: dict[Role, ModelProto] = {
            role: onnx.load(bundle.graph_path(role)) for role in BACKBONES
        }
        backbone = bundle.manifest.backbone
        self.layers = {
            role: find_layers(model.graph, backbone) for role, model in self._models.items()
        }
        for role, layers in self.layers.items():
            if not layers:
                raise CalibrationError(f"the {role} graph has no layer that INT8 can compute.")
        self._files = collect_ranges(bundle, self.layers, sets, progress)
        self.notes = next(iter(self._files.values())).notes
        self._trial = Trial(bundle, _trial_views(bundle, sets))
        self.methods = {role: self._choose(role, options.method) for role in BACKBONES}
        self._fitted = self._fit(bundle)

    def sensitivity(self) -> list[LayerError]:
        """Quantise each layer alone; return the errors, largest first."""
        everything = [(role, layer) for role in BACKBONES for layer in self.layers[role]]
        errors = [
            LayerError(role, layer, self._try({role: [layer]}).logit_error)
            for role, layer in track(
                everything, "measuring layers", len(everything), self._progress
            )
        ]
        return sorted(errors, key=lambda error: -error.logit_error)

    def search(self, budget: float) -> Quantised:
        """Quantise everything; if the verdicts move too far, leave the worst layers in FP32.

        Ever more layers are left until the verdicts hold or the budget is spent. The gate checks
        them on other images.
        """
        layers: Mapping[Role, Sequence[Layer]] = self.layers
        most = int(budget * sum(map(len, layers.values())))
        if most and not _holds(self._try(layers)):
            ranked = self.sensitivity()
            for count in _counts(most):
                layers = self._without(ranked[:count])
                if _holds(self._try(layers)):
                    break
        return self._result(layers)

    def _choose(self, role: Role, named: Method | None) -> Method:
        if named:
            return named
        model, layers = self._models[role], self.layers[role]
        # Weights are rounded to the nearest here: only ranges are compared.
        errors = {
            method: self._trial.outcome({role: quantise(model, layers, ranges, {})}).logit_error
            for method, ranges in self._files[role].ranges.items()
        }
        return min(errors, key=lambda method: errors[method])

    def _fit(self, bundle: Bundle) -> dict[Role, dict[str, FittedWeight]]:
        products = {
            role: find_products(model.graph, self.layers[role])
            for role, model in self._models.items()
        }
        ranges = {role: self._ranges(role) for role in BACKBONES}
        return fit_weights(bundle, products, ranges, self._sets, self._progress)

    def _ranges(self, role: Role) -> Ranges:
        return self._files[role].ranges[self.methods[role]]

    def _try(self, layers: Mapping[Role, Sequence[Layer]]) -> Outcome:
        return self._trial.outcome(self._quantised(layers))

    def _quantised(self, layers: Mapping[Role, Sequence[Layer]]) -> dict[Role, ModelProto]:
        return {
            role: quantise(self._models[role], chosen, self._ranges(role), self._fitted[role])
            for role, chosen in layers.items()
        }

    def _without(self, kept: Sequence[LayerError]) -> dict[Role, list[Layer]]:
        nodes = {(error.role, error.layer.node) for error in kept}
        return {
            role: [layer for layer in layers if (role, layer.node) not in nodes]
            for role, layers in self.layers.items()
        }

    def _result(self, layers: Mapping[Role, Sequence[Layer]]) -> Quantised:
        file: RangesFile = next(iter(self._files.values()))
        return Quantised(
            graphs=self._quantised(layers),
            calibration=Calibration(
                file.images,
                self._sets.digest,
                {str(role): str(method) for role, method in self.methods.items()},
                self.notes,
            ),
            kept={
                role: tuple(x.node for x in self.layers[role] if x not in chosen)
                for role, chosen in layers.items()
            },
        )


def _trial_views(bundle: Bundle, sets: ImageSets) -> PreparedBatch:
    images = sets.calibration[:_TRIAL_IMAGES]
    sampling = Sampling(bundle.manifest.views, _TRIAL_SEED)
    with closing(stream_views(images, sampling, PipelineOptions(len(images)))) as batches:
        views = next(batches)
    if not views.infos:
        raise CalibrationError(
            f"none of the first {len(images)} calibration images can be read: give others."
        )
    return views


def _holds(outcome: Outcome) -> bool:
    return outcome.mean_change <= CHANGE_AIMED_AT


def _counts(largest: int) -> Iterator[int]:
    """Yield how many layers to leave: 1, 2, 3, 4, 6, 8, 12, … and finally the most allowed."""
    octaves = ((2**i, 3 * 2 ** (i - 1)) for i in itertools.count(1))
    steps = itertools.chain([1], itertools.chain.from_iterable(octaves))
    yield from itertools.takewhile(lambda count: count < largest, steps)
    yield largest

"""Turns an FP32 bundle's backbones into INT8 graphs whose verdicts are as good.

Ranges and rounded weights come from the user's images. If the margins then move by too much of the
noise that they have anyway, the layers that move them most for their work stay in floating point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Calibration
from ...runtime.engines.base import BackboneRole
from ...runtime.machine.progress import Progress, silent, track
from ..errors import CalibrationError
from ..images import ImageSets
from ..judging.trial import BACKBONES, ERROR_AIMED_AT, Trial, holds
from ..judging.views import trial_views
from ..judging.yardstick import Deviation
from ..options import CalibrationOptions
from .fitting import FittedWeight, fit_weights
from .grid import Grid
from .layers import Layer, find_layers, form_of
from .observe import CalibrationViews, calibration_views
from .products import find_products
from .quantise import quantise
from .ranges import activations_of, collect_ranges
from .sensitivity import layer_features
from .signs import never_negative

RANGES_BY = "least squared error"
_MEASURED_VIEWS = 64  # crops on which single layers are measured


@dataclass(frozen=True)
class LayerError:
    """How far the margin moves if one layer alone is in INT8.

    Attributes:
        role: the layer's graph.
        layer: which.
        error: root mean square change of the margin, as a share of the draw noise.
    """

    role: BackboneRole
    layer: Layer
    error: float

    @property
    def gain(self) -> float:
        """What keeping the layer is worth for its work: errors of layers add up as squares."""
        return self.error**2 / max(self.layer.work, 1.0)


@dataclass(frozen=True)
class Quantised:
    """INT8 graphs with their weights inside, how they were made, and what stayed as it was."""

    graphs: dict[BackboneRole, ModelProto]
    calibration: Calibration
    kept: dict[BackboneRole, tuple[str, ...]]


@dataclass(frozen=True)
class _Backbone:
    """What is known of one backbone."""

    model: ModelProto
    layers: list[Layer]
    grids: Mapping[str, Grid]
    fitted: Mapping[str, FittedWeight]

    def quantised(self, kept: Iterable[Layer]) -> ModelProto:
        left = {layer.node for layer in kept}
        chosen = [layer for layer in self.layers if layer.node not in left]
        return quantise(self.model, chosen, self.grids, self.fitted)


class Int8Search:
    """Finds the INT8 graphs of a bundle whose verdicts stay close to FP32's.

    Attributes:
        trial: on other crops of the calibration images.
        notes: what the user should know about the images.
    """

    def __init__(
        self,
        bundle: Bundle,
        sets: ImageSets,
        options: CalibrationOptions,
        progress: Progress = silent,
    ) -> None:
        """Measure ranges and round weights.

        Raises:
            CalibrationError: the images are unreadable or show too little, or a backbone has
                nothing to quantise.
        """
        self._sets, self._options, self._progress = sets, options, progress
        views = calibration_views(bundle, sets, progress)
        self.notes, self._images = views.notes, views.images
        self._backbones = {role: self._prepared(bundle, role, views) for role in BACKBONES}
        self.trial = Trial(bundle, *trial_views(bundle, sets.calibration, progress), progress)

    @property
    def layers(self) -> dict[BackboneRole, list[Layer]]:
        """What can be quantised in each backbone."""
        return {role: backbone.layers for role, backbone in self._backbones.items()}

    def kept(self) -> list[LayerError]:
        """Choose the layers to keep: none if the margins hold with all in INT8.

        Otherwise ever more are kept until the error is what is aimed at or the budget is spent.
        """
        found = self.deviation(())
        most = int(self._options.budget * sum(map(len, self.layers.values())))
        if not most or holds(found):
            return []
        for count in _counts(self.ranked, found.error, most):
            if holds(self.deviation(self.ranked[:count])):
                return self.ranked[:count]
        return self.ranked[:most]

    def search(self) -> Quantised:
        """Quantise all layers but those to keep; the gate checks the verdicts on other images."""
        kept = self.kept()
        return Quantised(
            graphs=self.graphs(kept),
            calibration=Calibration(
                images=self._images,
                data=self._sets.digest,
                methods=dict.fromkeys(BACKBONES, RANGES_BY),
                notes=self.notes,
            ),
            kept={
                role: tuple(name for each in kept if each.role == role for name in each.layer.nodes)
                for role in BACKBONES
            },
        )

    @cached_property
    def ranked(self) -> list[LayerError]:
        """Each layer measured alone; those first whose keeping is worth most for its work."""
        changes = {role: self._changes(role) for role in BACKBONES}
        errors = [
            LayerError(role, layer, error)
            for role in BACKBONES
            for layer, error in zip(self.layers[role], changes[role], strict=True)
        ]
        return sorted(errors, key=lambda error: -error.gain)

    def deviation(self, kept: Sequence[LayerError]) -> Deviation:
        """Judge the trial's images with all layers but these in INT8."""
        return self.trial.deviation(self.graphs(kept), f"trying INT8, {len(kept)} layers kept")

    def graphs(self, kept: Sequence[LayerError]) -> dict[BackboneRole, ModelProto]:
        """Return the graphs with all layers but these in INT8."""
        return {
            role: backbone.quantised(each.layer for each in kept if each.role == role)
            for role, backbone in self._backbones.items()
        }

    def _prepared(self, bundle: Bundle, role: BackboneRole, views: CalibrationViews) -> _Backbone:
        model = onnx.load(bundle.graph_path(role))
        form = form_of(self._options.rest)
        layers = find_layers(model.graph, bundle.manifest.backbone, form)
        if not layers:
            raise CalibrationError(f"the {role} graph has no layer that INT8 can compute.")
        unsigned = never_negative(model.graph) if form.unsigned else frozenset()
        activations = activations_of(layers, unsigned)
        ranges = collect_ranges(bundle, role, activations, views, self._sets, self._progress)
        products = find_products(model.graph, layers)
        fitted = fit_weights(bundle, role, products, ranges.grids, views, self._progress)
        return _Backbone(model, layers, ranges.grids, fitted)

    def _changes(self, role: BackboneRole) -> list[float]:
        """Return each layer's root mean square change of the margin, as a share of the noise."""
        backbone = self._backbones[role]
        measured = layer_features(backbone.model, backbone.layers, backbone.grids, backbone.fitted)
        crops = len(self.trial.views_of(0)["local"])
        images = range(min(self.trial.images, max(4, _MEASURED_VIEWS // crops)))
        squares = np.zeros(len(backbone.layers))
        for image in track(images, f"layers of the {role} graph", len(images), self._progress):
            views = self.trial.views_of(image)
            features = [measured.of(view[np.newaxis]) for view in views[role]]
            margins = self.trial.margins_of_image(image, role, np.stack(features, axis=1))
            squares += (margins[1:] - margins[0]) ** 2
        shares: list[float] = (np.sqrt(squares / len(images)) / self.trial.noise.size).tolist()
        return shares


def _counts(ranked: Sequence[LayerError], error: float, most: int) -> Iterator[int]:
    """Yield how many of the ranked layers to keep: what should do first, then ever more.

    The squares of all layers' errors are taken to add up to the square of the error found.
    """
    squares = np.array([each.error**2 for each in ranked])
    total = squares.sum() or 1.0
    left = error * np.sqrt(np.maximum(0.0, 1.0 - squares.cumsum() / total))
    enough = np.flatnonzero(left <= ERROR_AIMED_AT)
    count = int(enough[0]) + 1 if enough.size else most
    while count < most:
        yield count
        count += max(1, count // 3)
    yield most

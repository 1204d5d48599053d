"""Turns an FP32 bundle's backbones into INT8 graphs whose verdicts are as good.

Ranges and rounded weights come from the user's images. If the margins then move by too much of the
noise that they have anyway, the layers that move them most for their work stay in floating point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Calibration
from ...runtime.bundle.streams import Role
from ...runtime.machine.progress import Progress, silent, track
from ..errors import CalibrationError
from ..images import ImageSets
from ..judging.trial import ERROR_AIMED_AT, Trial, excess, holds
from ..judging.yardstick import Deviation
from ..options import CalibrationOptions
from .channels import with_equal_channels
from .fitting import FittedWeight, fit_weights
from .grid import Grid
from .layers import Layer, find_layers, form_of
from .observe import CalibrationViews, calibration_views, heavy
from .products import find_products
from .quantise import quantise
from .ranges import activations_of, collect_ranges
from .rounding import Float64
from .sensitivity import layer_features
from .signs import never_negative

RANGES_BY = "least squared error"
_MEASURED_VIEWS = 12  # of each graph, on which single layers are measured
_FEWER_MEASURED = 3  # of a heavy network's
_CLOSE = 8  # of so many kept layers, one too many is not worth another trial


@dataclass(frozen=True)
class LayerError:
    """How far the margin moves if one layer alone is in INT8.

    Attributes:
        role: the layer's graph.
        layer: which.
        error: root mean square change of the margin, as a share of the draw noise.
    """

    role: Role
    layer: Layer
    error: float

    @property
    def gain(self) -> float:
        """What keeping the layer is worth for its work: errors of layers add up as squares."""
        return self.error**2 / max(self.layer.work, 1.0)


@dataclass(frozen=True)
class Quantised:
    """INT8 graphs with their weights inside, how they were made, and what stayed as it was."""

    graphs: dict[Role, ModelProto]
    calibration: Calibration
    kept: dict[Role, tuple[str, ...]]


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
        self._backbones = {
            role: self._prepared(bundle, role, views) for role in bundle.manifest.streams
        }
        backbones = self.layers.values()
        self._measured_views = _FEWER_MEASURED if any(map(heavy, backbones)) else _MEASURED_VIEWS
        to_try_on = views.suited_to(*backbones).drawn
        self.trial = Trial(bundle, to_try_on, progress=progress)

    @property
    def layers(self) -> dict[Role, list[Layer]]:
        """What can be quantised in each backbone."""
        return {role: backbone.layers for role, backbone in self._backbones.items()}

    def kept(self) -> list[LayerError]:
        """Choose the layers to keep: as many as asked for, or none if the margins hold so.

        Otherwise ever more are kept until the error is what is aimed at, then about as few as that
        takes. If the budget is spent before, those that came closest.

        Raises:
            CalibrationError: there are fewer layers than asked for.
        """
        if self._options.keep is not None:
            return self._first(self._options.keep)
        most = int(self._options.budget * sum(map(len, self.layers.values())))
        if not most or not self.trial.noise.size:
            return []
        found = self.deviation(())
        if holds(found):
            return []
        excesses, count = {0: excess(found)}, 0
        while count < most:
            before, count = count, _next_count(self.ranked, count, found.error, most)
            found = self.deviation(self.ranked[:count])
            excesses[count] = excess(found)
            if excesses[count] <= 1.0:
                return self.ranked[: self._fewest(before, count)]
        return self.ranked[: min(excesses, key=excesses.__getitem__)]

    def _fewest(self, failing: int, holding: int) -> int:
        """Halve the distance of two numbers of layers, of which the second is enough."""
        while holding - failing > max(1, holding // _CLOSE):
            middle = (failing + holding) // 2
            if self._excess(middle) <= 1.0:
                holding = middle
            else:
                failing = middle
        return holding

    def _excess(self, count: int) -> float:
        return excess(self.deviation(self.ranked[:count]))

    def _first(self, count: int) -> list[LayerError]:
        total = sum(map(len, self.layers.values()))
        if count > total:
            raise CalibrationError(
                f"{count} layers cannot be kept, because only {total} can be quantised: give fewer."
            )
        return self.ranked[:count] if count else []

    def search(self) -> Quantised:
        """Quantise all layers but those to keep; the gate checks the verdicts on other images."""
        kept = self.kept()
        return Quantised(
            graphs=self.graphs(kept),
            calibration=Calibration(
                images=self._images,
                data=self._sets.digest,
                methods=dict.fromkeys(self.layers, RANGES_BY),
                notes=self.notes,
            ),
            kept={
                role: tuple(name for each in kept if each.role == role for name in each.layer.nodes)
                for role in self.layers
            },
        )

    @cached_property
    def ranked(self) -> list[LayerError]:
        """Each layer measured alone; those first whose keeping is worth most for its work.

        Raises:
            CalibrationError: margins do not vary, so that there is nothing to measure errors in.
        """
        if not self.trial.noise.size:
            raise CalibrationError(
                "no layer's error can be measured, because all views that graphs are tried on give "
                "the same margin: give more images, and larger ones."
            )
        errors = [
            LayerError(role, layer, float(error))
            for role in self.layers
            for layer, error in zip(self.layers[role], self._errors(role), strict=True)
        ]
        return sorted(errors, key=lambda error: -error.gain)

    def deviation(self, kept: Sequence[LayerError]) -> Deviation:
        """Judge the trial's images with all layers but these in INT8."""
        return self.trial.deviation(self.graphs(kept), f"trying INT8, {len(kept)} layers kept")

    def graphs(self, kept: Sequence[LayerError]) -> dict[Role, ModelProto]:
        """Return the graphs with all layers but these in INT8."""
        return {
            role: backbone.quantised(each.layer for each in kept if each.role == role)
            for role, backbone in self._backbones.items()
        }

    def _prepared(self, bundle: Bundle, role: Role, views: CalibrationViews) -> _Backbone:
        exported = onnx.load(bundle.graph_path(role))
        with self._progress(f"channels of the {role} graph"):
            model = with_equal_channels(exported, views.batches(role))
        form = form_of(self._options.rest)
        layers = find_layers(model.graph, bundle.manifest.backbone, form)
        if not layers:
            raise CalibrationError(f"the {role} graph has no layer that INT8 can compute.")
        views = views.suited_to(layers)
        unsigned = never_negative(model.graph) if form.unsigned else frozenset()
        activations = activations_of(layers, unsigned)
        ranges = collect_ranges(bundle, role, model, activations, views, self._sets, self._progress)
        products = find_products(model.graph, layers)
        fitted = fit_weights(model, role, products, ranges.grids, views, self._progress)
        return _Backbone(model, layers, ranges.grids, fitted)

    def _errors(self, role: Role) -> Float64:
        """Return each layer's root mean square change of the margin, as a share of the noise.

        One view at a time is looked at by the changed layer: a crop of each of many images tells
        more than all crops of two, and takes less than half the time.
        """
        backbone = self._backbones[role]
        measured = layer_features(backbone.model, backbone.layers, backbone.grids, backbone.fitted)
        views = self.trial.single_views(role, self._measured_views)
        changes = []
        for view in track(views, f"layers of the {role} graph", len(views), self._progress):
            margins = self.trial.margins_of_view(view, measured.of(view.pixels))
            changes.append(margins[1:] - margins[0])
        squares = together(np.stack(changes), self.trial.views_per_image(role))
        return np.sqrt(squares) / self.trial.noise.size


def together(changes: Float64, views: int) -> Float64:
    """Return the mean squared change of the margin if a layer looks at all of an image's views.

    What differs from view to view adds up as squares, and what all have in common as it is.

    Args:
        changes: of the margin if it looks at one view alone, ``(n, layers)``.
        views: of an image.

    Returns:
        ``(layers,)``.
    """
    count = len(changes)
    spread = changes.var(axis=0, ddof=1) if count > 1 else (changes**2).mean(axis=0)
    common = changes.mean(axis=0) ** 2 - spread / count  # below 0 by chance only
    squares: Float64 = np.maximum(spread, views * spread + views**2 * common)
    return squares


def _next_count(ranked: Sequence[LayerError], count: int, error: float, most: int) -> int:
    """Return how many of the ranked layers to try to keep after ``count``, which leave an error.

    The squares of single errors are taken to add up: what is left of them falls as the square of
    the error found. At least a quarter more is tried, and never more than ``most``.
    """
    squares = np.array([each.error**2 for each in ranked])
    left = np.maximum(0.0, squares.sum() - squares.cumsum())  # after 1, 2, 3 … layers are kept
    now = left[count - 1] if count else squares.sum()
    enough = np.flatnonzero(left * error**2 <= now * ERROR_AIMED_AT**2)
    wanted = int(enough[0]) + 1 if enough.size else most
    return min(most, max(wanted, count + max(1, count // 4)))

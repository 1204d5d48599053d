"""What each part of our INT8 is worth: rounding, bias correction, equalisation; no layer is kept.

Layers, views, ranges and grids are those of ``glass-quantize``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from onnx import ModelProto

from ...calibration.errors import CalibrationError
from ...calibration.int8.channels import with_equal_channels
from ...calibration.int8.fitting import FittedWeight, fit_weights
from ...calibration.int8.grid import Grids
from ...calibration.int8.layers import find_layers, form_of
from ...calibration.int8.observe import Observer
from ...calibration.int8.products import Matrices, Product, find_products
from ...calibration.int8.quantise import quantise
from ...calibration.int8.ranges import activations_of, collect_ranges
from ...calibration.int8.rounding import Float64, round_to_nearest
from ...calibration.int8.signs import never_negative
from ...calibration.making.variants import Made, write_variant
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.streams import Role
from ...runtime.engines.base import Float32
from ...runtime.machine.progress import track
from .equalisation import equalise
from .makers import Given, Maker

_ROWS = 64  # of inputs for each product, from each view

_Fitted: TypeAlias = dict[str, FittedWeight]
_Rounding: TypeAlias = Callable[["Part", Sequence[Product], Grids], _Fitted]


@dataclass(frozen=True)
class Part:
    """A backbone in FP32 to be rounded."""

    given: Given
    role: Role
    model: ModelProto


def gptq(part: Part, products: Sequence[Product], grids: Grids, corrected: bool) -> _Fitted:
    """Round weights together. Without bias correction the errors' means count, too."""
    asked = products if corrected else [replace(each, bias=None) for each in products]
    fitted = fit_weights(part.model, part.role, asked, grids, part.given.views, part.given.progress)
    if corrected:
        return fitted
    return {each.node: replace(fitted[each.node], bias=each.bias) for each in products}


def nearest(part: Part, products: Sequence[Product], grids: Grids, corrected: bool) -> _Fitted:
    """Round each weight alone."""
    fitted = {each.node: _nearest(each) for each in products}
    if corrected:
        means = MeanInputs(part, products, grids)
        for each in products:
            if each.bias is not None:
                bias = each.bias + means.missed(each, fitted[each.node])
                fitted[each.node] = replace(fitted[each.node], bias=bias.astype(np.float32))
    return fitted


def _nearest(product: Product) -> FittedWeight:
    rounded = round_to_nearest(product.matrices())
    return FittedWeight(
        values=product.folded(rounded.values()),
        scales=rounded.scales.ravel().astype(np.float32),
        axis=product.axis,
        bias=product.bias,
        bias_reader=product.bias_reader,
    )


class MeanInputs:
    """The mean inputs of products, before and after they are rounded, ``(groups, inputs)``."""

    def __init__(self, part: Part, products: Sequence[Product], grids: Grids) -> None:
        random = np.random.default_rng(0)
        sources = list(dict.fromkeys(each.source for each in products))
        observer = Observer(part.model, sources)
        self._before: dict[str, list[Float64]] = {each.node: [] for each in products}
        self._after: dict[str, list[Float64]] = {each.node: [] for each in products}
        batches = list(part.given.views.batches(part.role))
        for batch in track(
            batches, f"mean inputs, {part.role} graph", len(batches), part.given.progress
        ):
            values = observer.run(batch)
            for product in products:
                rows = product.unfolding.rows(values[product.source], _ROWS, random)
                grid = grids[product.source]
                self._before[product.node].append(_mean(rows))
                self._after[product.node].append(_mean(grid.steps(rows) * grid.scale))

    def missed(self, product: Product, fitted: FittedWeight) -> Float64:
        """Return by how much the mean outputs of a product have fallen, one for each."""
        before, after = (
            np.mean(each[product.node], axis=0) for each in (self._before, self._after)
        )
        rounded = replace(product, weight=fitted.values)
        return _outputs(product.matrices(), before) - _outputs(rounded.matrices(), after)


def _mean(rows: Float32) -> Float64:
    mean: Float64 = rows.mean(axis=1, dtype=np.float64)
    return mean


def _outputs(weights: Matrices, inputs: Float64) -> Float64:
    outputs: Float64 = np.einsum("goi,gi->go", weights, inputs)
    return outputs.ravel()


def _made(given: Given, rounding: _Rounding, *, equal_channels: bool = False) -> Made:
    graphs = {}
    for role in given.bundle.manifest.streams:
        model, bundle = given.model(role), given.bundle
        if equal_channels:
            model = with_equal_channels(model, given.views.batches(role))
        layers = find_layers(model.graph, bundle.manifest.backbone, form_of("fp32"))
        suited = replace(given, views=given.views.suited_to(layers))
        activations = activations_of(layers, never_negative(model.graph))
        ranges = collect_ranges(
            bundle, role, model, activations, suited.views, given.sets, given.progress
        )
        fitted = rounding(
            Part(suited, role, model), find_products(model.graph, layers), ranges.grids
        )
        graphs[role] = quantise(model, layers, ranges.grids, fitted)
    return Made(graphs, {}, rest="fp32")


def _equalised(given: Given, rounding: _Rounding) -> Made:
    with tempfile.TemporaryDirectory() as folder:
        return _made(replace(given, bundle=equalised_bundle(given, Path(folder))), rounding)


def equalised_bundle(given: Given, folder: Path) -> Bundle:
    """Write the FP32 bundle with equalised weights into an empty folder.

    Raises:
        CalibrationError: no two layers of a backbone can be equalised.
    """
    graphs = {}
    for role in given.bundle.manifest.streams:
        graphs[role], pairs = equalise(given.model(role))
        if not pairs:
            raise CalibrationError(
                f"the {role} graph has no two convolutions with nothing but a ReLU or ReLU6 "
                "between them, so there is nothing to equalise."
            )
    return write_variant(given.bundle, folder, Made(graphs, {}), "fp32")


MAKERS = (
    Maker(
        "nearest",
        "each weight rounded to the nearest step; biases as they are",
        partial(_made, rounding=partial(nearest, corrected=False)),
    ),
    Maker(
        "nearest-bias",
        "the same with biases corrected for the mean error",
        partial(_made, rounding=partial(nearest, corrected=True)),
    ),
    Maker(
        "gptq",
        "weights rounded together (GPTQ); biases as they are",
        partial(_made, rounding=partial(gptq, corrected=False)),
    ),
    Maker(
        "gptq-bias",
        "the same with biases corrected for the mean error",
        partial(_made, rounding=partial(gptq, corrected=True)),
    ),
    Maker(
        "channels-gptq-bias",
        "`gptq-bias` after channels of linear bottlenecks were given equal ranges, as in "
        "`glass-quantize-all`",
        partial(_made, rounding=partial(gptq, corrected=True), equal_channels=True),
    ),
    Maker(
        "equalised-nearest-bias",
        "`nearest-bias` after equalisation across layers (Nagel et al. 2019). The limits of ReLU6 "
        "are scaled with their channels: a Clip becomes a Min with constants and a Relu",
        partial(_equalised, rounding=partial(nearest, corrected=True)),
    ),
    Maker(
        "equalised-gptq-bias",
        "`gptq-bias` after the same equalisation",
        partial(_equalised, rounding=partial(gptq, corrected=True)),
    ),
)

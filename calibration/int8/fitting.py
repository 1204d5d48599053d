"""Rounds the weights of a bundle's backbones for the user's images."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from ...runtime.bundle.streams import Role
from ...runtime.engines.base import Float32
from ...runtime.machine.progress import Progress, silent, track
from .grid import Grids
from .observe import CalibrationViews, Observer
from .parallel import in_parallel
from .products import Matrices, Product, Unfolding
from .rounding import Float64, Moments, round_together

_ROWS = 4_096  # of inputs for each product, from all views together
_ROUNDED_AT_ONCE = 2  # products: a wide one takes a gigabyte
_Key = tuple[str, Unfolding]  # products that read the same tensor in the same way share moments


@dataclass(frozen=True)
class FittedWeight:
    """The rounded weights of one product, and its corrected bias.

    Attributes:
        values: in the shape of the graph's weight, whole multiples of the scales.
        scales: one for each output.
        axis: the axis of the values that counts outputs.
        bias: corrected by the mean error; ``None`` if the product has none.
        bias_reader: the name of the node that adds it.
    """

    values: Float32
    scales: Float32
    axis: int
    bias: Float32 | None
    bias_reader: str


def fit_weights(
    model: ModelProto,
    role: Role,
    products: Sequence[Product],
    grids: Grids,
    views: CalibrationViews,
    progress: Progress = silent,
) -> dict[str, FittedWeight]:
    """Round the weights of a backbone's products for the calibration images.

    Args:
        model: a backbone in FP32 with its weights inside.
        role: which it is.
        products: of the backbone.
        grids: of their inputs in INT8.
        views: of the images.
        progress: is told how far the work has come.

    Returns:
        The weights by the name of their product's node.
    """
    moments = _collect(model, role, _empty(products, grids), views, progress)
    purpose = f"rounding weights of the {role} graph"
    rounded = in_parallel(
        lambda product: fit(product, moments[_key(product)]), products, _ROUNDED_AT_ONCE
    )
    fitted = track(rounded, purpose, len(products), progress)
    return {product.node: weight for product, weight in zip(products, fitted, strict=True)}


def fit(product: Product, moments: Moments) -> FittedWeight:
    """Round one product's weights for inputs with these moments."""
    weights = product.matrices()
    # Without a bias to correct, the error's mean counts as much as its variance.
    inputs = moments.second() if product.bias is None else moments.covariance()
    rounded = round_together(weights, inputs)
    values = rounded.values()
    bias = product.bias
    if bias is not None:
        missed = _outputs(weights - values, moments.mean()) + _outputs(weights, moments.lost())
        bias = (bias + missed).astype(np.float32)
    return FittedWeight(
        values=product.folded(values),
        scales=rounded.scales.ravel().astype(np.float32),
        axis=product.axis,
        bias=bias,
        bias_reader=product.bias_reader,
    )


def _outputs(weights: Matrices, inputs: Float64) -> Float64:
    """Multiply one row of inputs ``(groups, inputs)``; return the outputs of all groups, flat."""
    outputs: Float64 = np.einsum("goi,gi->go", weights, inputs)
    return outputs.ravel()


def _collect(
    model: ModelProto,
    role: Role,
    moments: dict[_Key, Moments],
    views: CalibrationViews,
    progress: Progress,
) -> dict[_Key, Moments]:
    # Any seeds will do, but every run must use the same, whatever is done first.
    randoms = {key: np.random.default_rng([0, number]) for number, key in enumerate(moments)}
    wanted = -(-_ROWS // len(views.of(role)))
    observer = Observer(model, list(dict.fromkeys(name for name, _ in moments)))
    batches = list(views.batches(role))
    for batch in track(batches, f"inputs of the {role} graph", len(batches), progress):
        values = observer.run(batch)

        def add(key: _Key, values: dict[str, Float32] = values) -> None:
            source, unfolding = key
            moments[key].add(unfolding.rows(values[source], wanted, randoms[key]))

        deque(in_parallel(add, moments), maxlen=0)
    return moments


def _empty(products: Iterable[Product], grids: Grids) -> dict[_Key, Moments]:
    shapes = {_key(product): product.matrices().shape for product in products}
    return {
        (source, unfolding): Moments(groups, inputs, grids[source])
        for (source, unfolding), (groups, _, inputs) in shapes.items()
    }


def _key(product: Product) -> _Key:
    return product.source, product.unfolding

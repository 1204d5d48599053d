"""Rounds the weights of a bundle's backbones for the user's images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Role
from ...runtime.engines.base import Float32
from ...runtime.machine.progress import Progress, silent, track
from ..images import ImageSets
from .observe import CROPS, Observer, backbone_views, calibration_batches
from .products import Matrices, Product, Unfolding
from .ranges import Ranges
from .rounding import Float64, Moments, round_together

_ROWS = 16_384  # of inputs for each product, from all views together
_VIEWS: Mapping[Role, int] = {"global": 1, "local": CROPS}  # of each image
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
    bundle: Bundle,
    products: Mapping[Role, Sequence[Product]],
    ranges: Mapping[Role, Ranges],
    sets: ImageSets,
    progress: Progress = silent,
) -> dict[Role, dict[str, FittedWeight]]:
    """Round the weights of both backbones' products for the calibration images.

    Args:
        bundle: in FP32.
        products: of each backbone.
        ranges: of their inputs in INT8.
        sets: the images.
        progress: is told how far the work has come.

    Returns:
        For each backbone, the weights by the name of their product's node.
    """
    moments = _collect(bundle, products, ranges, sets, progress)
    everything = [(role, product) for role in products for product in products[role]]
    fitted: dict[Role, dict[str, FittedWeight]] = {role: {} for role in products}
    for role, product in track(everything, "rounding weights", len(everything), progress):
        fitted[role][product.node] = fit(product, moments[role][_key(product)])
    return fitted


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
    bundle: Bundle,
    products: Mapping[Role, Sequence[Product]],
    ranges: Mapping[Role, Ranges],
    sets: ImageSets,
    progress: Progress,
) -> dict[Role, dict[_Key, Moments]]:
    random = np.random.default_rng(0)  # any seed will do, but every export must use the same
    wanted = {role: -(-_ROWS // (len(sets.calibration) * _VIEWS[role])) for role in products}
    moments = {role: _empty(products[role], ranges[role]) for role in products}
    observers = {
        role: Observer(bundle.graph_path(role), list(dict.fromkeys(name for name, _ in keys)))
        for role, keys in moments.items()
    }
    with closing(calibration_batches(bundle, sets, "looking at inputs", progress)) as batches:
        for batch in batches:
            for role, views in backbone_views(batch):
                values = observers[role].run(views)
                for (source, unfolding), sums in moments[role].items():
                    sums.add(unfolding.rows(values[source], wanted[role], random))
    return moments


def _empty(products: Iterable[Product], ranges: Ranges) -> dict[_Key, Moments]:
    shapes = {_key(product): product.matrices().shape for product in products}
    return {
        (source, unfolding): Moments(groups, inputs, ranges[source])
        for (source, unfolding), (groups, _, inputs) in shapes.items()
    }


def _key(product: Product) -> _Key:
    return product.source, product.unfolding

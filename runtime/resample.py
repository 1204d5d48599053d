"""The global view: the whole image, bilinear with antialiasing, in float.

The filter is the one that the model was trained with: a triangle whose support grows
with the scale, weights normalised at the borders, rows and columns separately (what
``torch.nn.functional.interpolate(mode="bilinear", antialias=True)`` computes on floats).
Weights are computed in float64 and applied in float32; nothing is rounded to integers.

Each output row is a weighted sum of a short band of input rows, so a few neighbouring
output rows are one small matrix product. Only such a band is ever converted to float:
there is no float copy of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .decode import Rgb

_OUTPUTS_PER_BAND = 4
_BAND_BYTES = 1 << 20  # of float32 input held at once, to stay in a core's cache
_CHANNELS = 3


@dataclass(frozen=True)
class _Band:
    """Outputs ``first .. last`` (exclusive) as a product with inputs ``start .. stop``."""

    first: int
    last: int
    start: int
    stop: int
    weights: npt.NDArray[np.float32]  # (last - first, stop - start)


def resample(rgb: Rgb, size: int) -> npt.NDArray[np.float32]:
    """Resize to ``(size, size, 3)`` float32 in 0..255; the aspect ratio is not kept."""
    height, width = rgb.shape[:2]
    rows = np.empty((size, width * _CHANNELS), np.float32)
    pixels = rgb.reshape(height, width * _CHANNELS)
    for band in _bands(height, size):
        for columns in _column_blocks(width * _CHANNELS, band.stop - band.start):
            block = pixels[band.start : band.stop, columns].astype(np.float32)
            np.matmul(band.weights, block, out=rows[band.first : band.last, columns])
    view = np.empty((size, size * _CHANNELS), np.float32)
    for band in _bands(width, size):
        inputs = slice(band.start * _CHANNELS, band.stop * _CHANNELS)
        outputs = slice(band.first * _CHANNELS, band.last * _CHANNELS)
        view[:, outputs] = rows[:, inputs] @ _interleaved(band.weights)
    return view.reshape(size, size, _CHANNELS)


def _column_blocks(length: int, band_rows: int) -> Iterator[slice]:
    step = max(256, _BAND_BYTES // (4 * band_rows))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _interleaved(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Expand ``(outputs, inputs)`` to a right-hand factor over interleaved channels."""
    return np.kron(weights.T, np.eye(_CHANNELS, dtype=np.float32))


@lru_cache(maxsize=256)
def _bands(length: int, size: int) -> tuple[_Band, ...]:
    """Cut the resampling of ``length`` samples to ``size`` into bands."""
    scale = length / size
    support = max(scale, 1.0)
    centres = (np.arange(size) + 0.5) * scale
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    stops = np.minimum((centres + support + 0.5).astype(np.int64), length)
    bands = []
    for first in range(0, size, _OUTPUTS_PER_BAND):
        last = min(first + _OUTPUTS_PER_BAND, size)
        start, stop = int(starts[first]), int(stops[last - 1])
        samples = np.arange(start, stop)
        distances = np.abs(samples[None, :] + 0.5 - centres[first:last, None]) / support
        inside = (samples >= starts[first:last, None]) & (samples < stops[first:last, None])
        weights = np.where(inside, np.maximum(1.0 - distances, 0.0), 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        bands.append(_Band(first, last, start, stop, weights.astype(np.float32)))
    return tuple(bands)

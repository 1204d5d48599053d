"""The global view: the whole image, bilinear with antialiasing, in float.

The filter is the one that the model was trained with: a triangle whose support grows
with the scale, weights normalised at the borders, rows and columns separately (what
``torch.nn.functional.interpolate(mode="bilinear", antialias=True)`` computes on floats).
Weights are computed in float64 and applied in float32; nothing is rounded to integers.

The input rows are cut into bands at the centres of the output rows. Where the image
shrinks, a row between two centres adds to these two outputs and to no other, so a band
contributes by one small matrix product, and each row is converted to float once, in blocks
of a few bands. There is no float copy of the image. Columns follow in the same way.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .decode import Rgb

_CHANNELS = 3
_ROWS_PER_BAND = 16  # so that small images take few steps
_LARGEST_COLUMN_BAND = 8  # centres
_BLOCK_BYTES = 1_400_000  # of rows converted to float at a time, to stay near the core
# Multiply-adds of one matrix product. OpenBLAS computes up to a million where it is called;
# larger products go to threads of its own, for which callers in several threads queue.
_LARGEST_PRODUCT = 1_000_000

_Float32 = npt.NDArray[np.float32]
_scratch = threading.local()


@dataclass(frozen=True)
class _Band:
    """Inputs ``start .. stop`` and what they add to outputs ``first .. last`` (exclusive).

    ``weights`` are ``(outputs, inputs)``. In a band of rows they begin with a column for each
    output to which an earlier band has added: the sum so far is an input, too.
    """

    start: int
    stop: int
    first: int
    last: int
    weights: _Float32

    @property
    def begun(self) -> int:
        """How many outputs earlier bands have added to."""
        return int(self.weights.shape[1]) - (self.stop - self.start)


def resample(rgb: Rgb, size: int) -> _Float32:
    """Resize to ``(size, size, 3)`` float32 in 0..255; the aspect ratio is not kept."""
    height, width = rgb.shape[:2]
    pixels = rgb.reshape(height, width * _CHANNELS)
    view = np.zeros((size, size * _CHANNELS), np.float32)
    for strip in _strips(width, height, size):
        left = strip[0].start * _CHANNELS
        right = strip[-1].stop * _CHANNELS
        rows = _filter_rows(pixels[:, left:right], size)
        for band in strip:
            inputs = slice(band.start * _CHANNELS - left, band.stop * _CHANNELS - left)
            outputs = slice(band.first * _CHANNELS, band.last * _CHANNELS)
            view[:, outputs] += rows[:, inputs] @ band.weights
    return view.reshape(size, size, _CHANNELS)


def _filter_rows(pixels: Rgb, size: int) -> _Float32:
    """Reduce ``(height, n)`` uint8 to ``(size, n)`` float32."""
    height, length = pixels.shape
    bands = _row_bands(height, size)
    groups = _groups(bands, max(1, _BLOCK_BYTES // (4 * length)))
    above = max(band.begun for band in bands)  # room for what the first band goes on from
    tallest = max(group[-1].stop - group[0].start for group in groups)
    block = _room("block", above + tallest, length)
    rows = _room("rows", size, length)
    for group in groups:
        start, stop = group[0].start, group[-1].stop
        converted = block[above : above + stop - start]
        # A running average of which the new value is all: OpenCV's fastest way to float.
        cv2.accumulateWeighted(pixels[start:stop], converted, 1.0)
        for band in group:
            # The sums so far take the place of the inputs just used.
            inputs = block[above + band.start - start - band.begun : above + band.stop - start]
            inputs[: band.begun] = rows[band.first : band.first + band.begun]
            np.matmul(band.weights, inputs, out=rows[band.first : band.last])
    return rows


def _groups(bands: tuple[_Band, ...], largest: int) -> list[list[_Band]]:
    """Put neighbouring bands together while they have at most ``largest`` inputs."""
    groups: list[list[_Band]] = [[]]
    for band in bands:
        if groups[-1] and band.stop - groups[-1][0].start > largest:
            groups.append([])
        groups[-1].append(band)
    return groups


def _room(name: str, height: int, width: int) -> _Float32:
    """Return this thread's scratch array of that name, finite numbers left by earlier use.

    Fresh memory of this size would be fetched from the system, cleared, and returned for
    each image.
    """
    room: _Float32 | None = getattr(_scratch, name, None)
    if room is None or room.size < height * width:
        room = np.zeros(height * width, np.float32)
        setattr(_scratch, name, room)
    return room[: height * width].reshape(height, width)


@lru_cache(maxsize=16)
def _row_bands(height: int, size: int) -> tuple[_Band, ...]:
    bands = []
    done = 0  # outputs to which the bands before add
    for band in _bands(height, size, max(1, round(_ROWS_PER_BAND * size / height))):
        sums = np.eye(band.last - band.first, done - band.first, dtype=np.float32)
        bands.append(replace(band, weights=np.hstack([sums, band.weights])))
        done = band.last
    return tuple(bands)


def _column_bands(width: int, size: int) -> tuple[_Band, ...]:
    """Choose bands whose product with all rows and interleaved channels stays small."""
    for centres in range(_LARGEST_COLUMN_BAND, 1, -1):
        inputs, outputs = centres * max(width / size, 1.0), centres + 1
        if size * inputs * outputs * _CHANNELS**2 <= _LARGEST_PRODUCT:
            return _bands(width, size, centres)
    return _bands(width, size, 1)


@lru_cache(maxsize=16)
def _strips(width: int, height: int, size: int) -> tuple[tuple[_Band, ...], ...]:
    """Group the columns' bands into strips that are filtered at a time.

    Strips bound the memory of wide images and the products of the row bands. The bands'
    weights act on interleaved channels, from the right.
    """
    largest = max(band.weights.size for band in _row_bands(height, size))
    columns = _LARGEST_PRODUCT // (largest * _CHANNELS)
    identity = np.eye(_CHANNELS, dtype=np.float32)
    strips = _groups(_column_bands(width, size), columns)
    return tuple(
        tuple(replace(band, weights=np.kron(band.weights.T, identity)) for band in strip)
        for strip in strips
    )


@lru_cache(maxsize=16)
def _bands(length: int, size: int, centres_per_band: int) -> tuple[_Band, ...]:
    """Cut the resampling of ``length`` samples to ``size`` at every n-th output's centre."""
    scale = length / size
    support = max(scale, 1.0)
    centres = (np.arange(size) + 0.5) * scale
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    stops = np.minimum((centres + support + 0.5).astype(np.int64), length)
    totals = np.array(
        [
            _triangle(np.arange(start, stop), centre, support).sum()
            for start, stop, centre in zip(starts, stops, centres, strict=True)
        ]
    )
    cuts = np.unique([0, *np.rint(centres[::centres_per_band]).astype(np.int64), length])
    bands = []
    for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        (touched,) = np.nonzero((starts < stop) & (stops > start))
        first, last = int(touched[0]), int(touched[-1]) + 1
        samples = np.arange(start, stop)
        weights = _triangle(samples, centres[first:last, None], support)
        weights *= (samples >= starts[first:last, None]) & (samples < stops[first:last, None])
        weights /= totals[first:last, None]
        bands.append(_Band(start, stop, first, last, weights.astype(np.float32)))
    return tuple(bands)


def _triangle(
    samples: npt.NDArray[np.int64], centres: npt.NDArray[np.floating[Any]], support: float
) -> npt.NDArray[np.float64]:
    """Height of a triangle of half-width ``support`` at the samples' own centres."""
    distances = np.abs(samples + 0.5 - centres) / support
    return np.asarray(np.maximum(1.0 - distances, 0.0))

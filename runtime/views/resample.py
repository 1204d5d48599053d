"""The global view: the whole image, bilinear with antialiasing, in float.

The filter is the one that the model was trained with: a triangle whose support grows
with the scale, weights normalised at the borders, rows and columns separately (what
``torch.nn.functional.interpolate(mode="bilinear", antialias=True)`` computes on floats).
Weights are computed in float64 and applied in float32; nothing is rounded to integers.

The input rows are cut into bands at the centres of the output rows. Where the image
shrinks, a row between two centres adds to these two outputs and to no other, so a band
contributes by one small matrix product, and each row is converted to float once, in blocks
of a few bands. There is no float copy of the image. Columns follow in the same way.

Folders hold images of many sizes, so that what is computed for a size must not cost much:
the weights of all bands are computed together, and the products take slices of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..images.encoded import Rgb

_CHANNELS = 3
_ROWS_PER_BAND = 16  # so that small images take few steps
_LARGEST_COLUMN_BAND = 8  # centres
_BLOCK_BYTES = 1_400_000  # of rows converted to float at a time, to stay near the core
# Multiply-adds of one matrix product. OpenBLAS computes up to a million where it is called;
# larger products go to threads of its own, for which callers in several threads queue.
_LARGEST_PRODUCT = 1_000_000

_Float32 = npt.NDArray[np.float32]
_scratch = threading.local()


class _Band(NamedTuple):
    """Inputs ``start .. stop`` and what they add to outputs ``first .. last`` (exclusive).

    ``weights`` are ``(outputs, inputs)``. In a band of rows they begin with a column for each
    of the ``begun`` outputs to which an earlier band has added: the sum so far is an input, too.
    A band of columns acts on interleaved channels from the right: ``(inputs * 3, outputs * 3)``.
    """

    start: int
    stop: int
    first: int
    last: int
    begun: int
    weights: _Float32


class Filters(NamedTuple):
    """The bands of an image's rows, and those of its columns in strips filtered at a time."""

    rows: tuple[_Band, ...]
    strips: tuple[tuple[_Band, ...], ...]


def resample(rgb: Rgb, size: int) -> _Float32:
    """Resize to ``(size, size, 3)`` float32 in 0..255; the aspect ratio is not kept."""
    height, width = rgb.shape[:2]
    filters = make_filters(height, width, size)
    pixels = rgb.reshape(height, width * _CHANNELS)
    view = np.zeros((size, size * _CHANNELS), np.float32)
    for strip in filters.strips:
        left = strip[0].start * _CHANNELS
        right = strip[-1].stop * _CHANNELS
        rows = _filter_rows(pixels[:, left:right], filters.rows, size)
        for band in strip:
            inputs = slice(band.start * _CHANNELS - left, band.stop * _CHANNELS - left)
            outputs = slice(band.first * _CHANNELS, band.last * _CHANNELS)
            view[:, outputs] += rows[:, inputs] @ band.weights
    return view.reshape(size, size, _CHANNELS)


@lru_cache(maxsize=8)
def make_filters(height: int, width: int, size: int) -> Filters:
    """Return what resizes images of this size; the last few are kept.

    They take up to 400 bytes for each column and row of small images, 150 of large ones.
    """
    rows = _row_bands(height, size)
    return Filters(rows, _strips(width, max(band.weights.size for band in rows), size))


def _filter_rows(pixels: Rgb, bands: tuple[_Band, ...], size: int) -> _Float32:
    """Reduce ``(height, n)`` uint8 to ``(size, n)`` float32."""
    length = pixels.shape[1]
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


def _groups(bands: Sequence[_Band], largest: int) -> list[list[_Band]]:
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


def _row_bands(height: int, size: int) -> tuple[_Band, ...]:
    cut = _Cut(height, size, max(1, round(_ROWS_PER_BAND * size / height)))
    # Outputs to which the bands before add: in each band the first ones.
    begun = np.maximum(np.concatenate([[0], cut.last[:-1]]) - cut.first, 0)
    room = int(begun.max())
    outputs, sums = np.arange(cut.outputs)[:, None], np.arange(room)
    identity = outputs == sums - (room - begun)[:, None, None]
    weights = np.concatenate([identity.astype(np.float32), cut.weights()], axis=2)
    bands = []
    for place, own, matrix in zip(cut.places(), begun.tolist(), weights, strict=True):
        start, stop, first, last = place
        used = matrix[: last - first, room - own : room + stop - start]
        bands.append(_Band(*place, own, used))
    return tuple(bands)


def _column_bands(width: int, size: int) -> list[_Band]:
    cut = _Cut(width, size, _centres_per_column_band(width, size))
    plain = cut.weights().transpose(0, 2, 1)
    spread = np.zeros((len(plain), cut.inputs, _CHANNELS, cut.outputs, _CHANNELS), np.float32)
    for channel in range(_CHANNELS):
        spread[:, :, channel, :, channel] = plain
    weights = spread.reshape(len(plain), cut.inputs * _CHANNELS, cut.outputs * _CHANNELS)
    bands = []
    for place, matrix in zip(cut.places(), weights, strict=True):
        start, stop, first, last = place
        used = matrix[: (stop - start) * _CHANNELS, : (last - first) * _CHANNELS]
        bands.append(_Band(*place, 0, used))
    return bands


def _centres_per_column_band(width: int, size: int) -> int:
    """Choose bands whose product with all rows and interleaved channels stays small."""
    for centres in range(_LARGEST_COLUMN_BAND, 1, -1):
        inputs, outputs = centres * max(width / size, 1.0), centres + 1
        if size * inputs * outputs * _CHANNELS**2 <= _LARGEST_PRODUCT:
            return centres
    return 1


def _strips(width: int, largest: int, size: int) -> tuple[tuple[_Band, ...], ...]:
    """Group the columns' bands into strips that are filtered at a time.

    Strips bound the memory of wide images and the products of the row bands, whose weights
    are ``largest`` numbers at most.
    """
    columns = _LARGEST_PRODUCT // (largest * _CHANNELS)
    return tuple(map(tuple, _groups(_column_bands(width, size), columns)))


class _Cut:
    """The resampling of ``length`` samples to ``size``, cut at every n-th output's centre.

    Attributes:
        start, stop: each band's inputs, ``(bands,)``.
        first, last: the outputs that they add to.
        inputs, outputs: how many of each the largest bands have.
    """

    def __init__(self, length: int, size: int, centres_per_band: int) -> None:
        scale = length / size
        self._support = max(scale, 1.0)
        self._centres = (np.arange(size) + 0.5) * scale
        # The samples of each output.
        self._starts = np.maximum((self._centres - self._support + 0.5).astype(np.int64), 0)
        self._stops = np.minimum((self._centres + self._support + 0.5).astype(np.int64), length)
        inner = np.rint(self._centres[::centres_per_band]).astype(np.int64)
        cuts = np.unique(np.concatenate([[0], inner, [length]]))
        self.start, self.stop = cuts[:-1], cuts[1:]
        self.first = np.searchsorted(self._stops, self.start, side="right")
        self.last = np.searchsorted(self._starts, self.stop, side="left")
        self.inputs = int((self.stop - self.start).max())
        self.outputs = int((self.last - self.first).max())

    def places(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield start, stop, first and last of each band."""
        arrays = (self.start, self.stop, self.first, self.last)
        return zip(*(array.tolist() for array in arrays), strict=True)

    def weights(self) -> _Float32:
        """Return ``(bands, outputs, inputs)``; what a band has no use for is to be left out."""
        totals = self._totals()
        samples = (self.start[:, None] + np.arange(self.inputs))[:, None, :]
        outputs = np.minimum(self.first[:, None] + np.arange(self.outputs), len(totals) - 1)
        weights = self._triangle(samples, self._centres[outputs][..., None])
        weights *= samples >= self._starts[outputs][..., None]
        weights *= samples < self._stops[outputs][..., None]
        weights /= totals[outputs][..., None]
        return weights.astype(np.float32)

    def _totals(self) -> npt.NDArray[np.float64]:
        """Return the sum of each output's triangle; those with as many samples are summed at once.

        Padded to one length, they would be summed in another order.
        """
        counts = self._stops - self._starts
        totals = np.empty(len(counts))
        for count in np.unique(counts).tolist():
            (alike,) = np.nonzero(counts == count)
            samples = self._starts[alike, None] + np.arange(count)
            totals[alike] = self._triangle(samples, self._centres[alike, None]).sum(axis=1)
        return totals

    def _triangle(
        self, samples: npt.NDArray[np.int64], centres: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.float64]:
        """Height at the samples' own centres of triangles around ``centres``."""
        distances = np.abs(samples + 0.5 - centres) / self._support
        return np.asarray(np.maximum(1.0 - distances, 0.0))

"""Where the crops of an image lie: the reference sampler, bit for bit, without torch.

The reference draws from PyTorch's CPU generator, a Mersenne Twister (mt19937) seeded
with 32 bits. NumPy carries the same generator, so one seed gives the same crops here
and there. An image's seed comes from its pixels; everything else is arithmetic on sizes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

_Corner: TypeAlias = tuple[int, int]
"""The top and the left of a crop."""

_HASHED_ROWS = 16
_BLOCK = 128  # words; an image needs at most 63 + 2 for each crop


class Placement(NamedTuple):
    """One crop, in image pixels.

    ``height`` and ``width`` count the rows and columns that hold image pixels; they are
    smaller than the crop size only where the image is, and the rest is zero padding.
    """

    top: int
    left: int
    height: int
    width: int


class ReferenceGenerator:
    """The stream of integers that ``torch.Generator().manual_seed(seed)`` yields on the CPU.

    Only the low 32 bits of ``seed`` count, as in PyTorch.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed & 0xFFFFFFFF
        self._words = _words(np.random.RandomState(self.seed))

    def below(self, bound: int) -> int:
        """Draw one integer in ``0 .. bound - 1`` (``torch.randint(bound, ())``)."""
        return next(self._words) % bound

    def permutation(self, length: int) -> list[int]:
        """Draw a permutation of ``0 .. length - 1`` (``torch.randperm(length)``)."""
        items = list(range(length))
        for i in range(length - 1):
            j = i + self.below(length - i)
            items[i], items[j] = items[j], items[i]
        return items


def _words(generator: np.random.RandomState) -> Iterator[int]:
    """Yield the generator's 32-bit words; drawn in blocks, because calls cost more than words."""
    while True:
        yield from generator.randint(0, 2**32, size=_BLOCK, dtype=np.uint32).tolist()


def place_crops(
    height: int,
    width: int,
    *,
    num_crops: int,
    crop_size: int,
    max_grid: int,
    generator: ReferenceGenerator,
) -> list[Placement]:
    """Draw ``num_crops`` crops of an image, stratified over a grid where it is large enough.

    The image is divided into ``G x G`` cells, ``G`` being the number of whole crops that
    fit along its shorter side, at most ``max_grid``; each crop falls into a cell of its
    own. An image with fewer cells than crops is sampled freely instead.
    """
    grid = _Grid.over(height, width, crop_size, max_grid)
    stratified = grid.cells >= num_crops
    corners = grid.draw_round(generator) if stratified else grid.draw_freely(generator)
    return grid.placed(islice(corners, num_crops))


def crop_sequence(
    height: int,
    width: int,
    *,
    most: int,
    crop_size: int,
    max_grid: int,
    generator: ReferenceGenerator,
) -> list[Placement]:
    """Draw an image's crops one after the other, where their number is not known beforehand.

    They come in rounds over the grid of :func:`place_crops`, each with a crop in every cell, in
    an order of its own; in an image smaller than a crop they are drawn freely. No place comes
    twice. So the first ``n`` are those that :func:`place_crops` draws, if there are as many cells
    or none, and if it draws none twice.

    Returns:
        ``most`` crops, or as many as the image has places for.
    """
    grid = _Grid.over(height, width, crop_size, max_grid)
    count = min(most, grid.places)
    corners: dict[_Corner, None] = {}  # in order
    while len(corners) < count:
        drawn = grid.draw_round(generator) if grid.cells else grid.draw_freely(generator)
        for corner in islice(drawn, grid.cells or count):
            corners[corner] = None
            if len(corners) == count:
                break
    return grid.placed(corners)


@dataclass(frozen=True)
class _Grid:
    """Where the crops of an image may lie.

    The image is divided into ``side x side`` cells; ``side`` is 0 where it is smaller than a crop.
    """

    height: int
    width: int
    crop_size: int
    side: int

    @classmethod
    def over(cls, height: int, width: int, crop_size: int, max_grid: int) -> _Grid:
        return cls(height, width, crop_size, min(min(height, width) // crop_size, max_grid))

    @property
    def cells(self) -> int:
        return self.side * self.side

    @property
    def places(self) -> int:
        """How many different crops can be drawn."""
        if not self.cells:
            return (self._last_top + 1) * (self._last_left + 1)
        down, right = self._slack
        return self.cells * (down + 1) * (right + 1)

    def draw_round(self, generator: ReferenceGenerator) -> Iterator[_Corner]:
        """Draw a corner in each cell."""
        down, right = self._slack
        for cell in generator.permutation(self.cells):
            row, column = divmod(cell, self.side)
            top = row * (self.height // self.side) + generator.below(down + 1)
            yield top, column * (self.width // self.side) + generator.below(right + 1)

    def draw_freely(self, generator: ReferenceGenerator) -> Iterator[_Corner]:
        """Draw corners anywhere, without end."""
        while True:
            top = generator.below(self._last_top + 1)
            yield top, generator.below(self._last_left + 1)

    def placed(self, corners: Iterable[_Corner]) -> list[Placement]:
        """Return the crops at some corners."""
        rows, columns = min(self.height, self.crop_size), min(self.width, self.crop_size)
        return [Placement(top, left, rows, columns) for top, left in corners]

    @property
    def _slack(self) -> _Corner:
        """How far a crop can move in its cell: down, and to the right."""
        down = self.height // self.side - self.crop_size
        return down, self.width // self.side - self.crop_size

    @property
    def _last_top(self) -> int:
        return max(0, self.height - self.crop_size)

    @property
    def _last_left(self) -> int:
        return max(0, self.width - self.crop_size)


def image_seed(run_seed: int, rgb: npt.NDArray[np.uint8], key: bytes = b"") -> int:
    """Derive the generator seed of one image from the run's seed and the image's pixels.

    The rule is kept stable across releases. The seed is the first four bytes, little-endian, of a
    SHA-256, or with a key of an HMAC-SHA-256. Hashed are ``run_seed``, height and width, each as
    eight little-endian bytes (the seed in two's complement), and then 16 rows of pixels: row
    ``(2 i + 1) * height // 32`` for ``i`` from 0 to 15. In an image of fewer than 16 rows some
    are hashed repeatedly. File format, metadata, path, order, batch, thread and machine play no
    part.

    The seed only chooses crops, so images may share one, and some rows tell images apart at a
    small part of the cost of hashing all pixels.

    Args:
        run_seed: a signed integer of 64 bits.
        rgb: pixels ``(height, width, 3)``, uint8.
        key: a secret, without which nobody can tell which crops an image gets; empty for none.
    """
    height, width = rgb.shape[:2]
    digest = hmac.new(key, digestmod="sha256") if key else hashlib.sha256()
    digest.update(run_seed.to_bytes(8, "little", signed=True))
    for size in (height, width):
        digest.update(size.to_bytes(8, "little"))
    for index in range(_HASHED_ROWS):
        digest.update(rgb[(2 * index + 1) * height // (2 * _HASHED_ROWS)].tobytes())
    return int.from_bytes(digest.digest()[:4], "little")

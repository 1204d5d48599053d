"""Where the crops of an image lie: the reference sampler, bit for bit, without torch.

The reference draws from PyTorch's CPU generator, a Mersenne Twister (mt19937) seeded
with 32 bits. NumPy carries the same generator, so one seed gives the same crops here
and there. Everything in this module is arithmetic on sizes: no pixel is touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_HASHED_END = 1 << 16  # bytes
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
    last_top, last_left = max(0, height - crop_size), max(0, width - crop_size)
    grid = min(min(height, width) // crop_size, max_grid)
    corners: list[tuple[int, int]] = []
    if grid * grid >= num_crops and grid > 0:
        cell_height, cell_width = height // grid, width // grid
        for cell in generator.permutation(grid * grid)[:num_crops]:
            row, column = divmod(cell, grid)
            top = row * cell_height + generator.below(max(0, cell_height - crop_size) + 1)
            left = column * cell_width + generator.below(max(0, cell_width - crop_size) + 1)
            corners.append((min(top, last_top), min(left, last_left)))
    else:
        for _ in range(num_crops):
            top = generator.below(last_top + 1)
            corners.append((top, generator.below(last_left + 1)))
    rows, columns = min(height, crop_size), min(width, crop_size)
    return [Placement(top, left, rows, columns) for top, left in corners]


def image_seed(run_seed: int, content: bytes | memoryview) -> int:
    """Derive the generator seed of one image from the run's seed and the image's content.

    The rule, kept stable across releases: the first four bytes, little-endian, of
    SHA-256 over ``run_seed`` and the content's length, each as eight little-endian bytes
    (the seed in two's complement), and the content's first and last 64 KiB (all of it, once,
    if it is no longer than both). The content is the encoded file; for an RGB array, see
    :func:`array_content`. Path, order, batch, thread and machine play no part.

    The seed only chooses crops, so images may share one; the ends of a file tell images
    apart at a small part of the cost of reading all of it again.
    """
    digest = hashlib.sha256(run_seed.to_bytes(8, "little", signed=True))
    digest.update(len(content).to_bytes(8, "little"))
    if len(content) <= 2 * _HASHED_END:
        digest.update(content)
    else:
        digest.update(content[:_HASHED_END])
        digest.update(content[-_HASHED_END:])
    return int.from_bytes(digest.digest()[:4], "little")


def array_content(rgb: npt.NDArray[np.uint8]) -> memoryview:
    """Return what stands for a contiguous RGB array's content: its bytes, row by row."""
    return rgb.data.cast("B")

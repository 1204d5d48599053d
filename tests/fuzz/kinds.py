"""The kinds of files that are damaged, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image
from tiffs import THUMBNAIL, Page, written

from . import images
from .bombs import bombs
from .cut import cut_short
from .seeds import PHOTOGRAPH, seeds

Damage = Callable[[str, Sequence[bytes], int, int], Iterator[bytes]]
"""Yields inputs, given the kind's name, its files, how many inputs, and a seed."""


@dataclass(frozen=True)
class Kind:
    """Some files, how they are damaged, and what reads them."""

    files: Sequence[bytes]
    damage: Damage = images.damaged
    target: str = images.TARGET


def kinds() -> Mapping[str, Kind]:
    """Return every kind by its name."""
    known = seeds()
    with Image.open(PHOTOGRAPH) as image:
        picture = image.convert("RGB").resize((64, 48))
    return {
        **{name: Kind(files) for name, files in known.items()},
        **{f"{name}, cut": Kind(files, _cut, images.CUT_TARGET) for name, files in known.items()},
        **{name: Kind(files) for name, files in bombs(picture).items()},
        "raw": Kind(raw_files(np.asarray(picture))),
    }


def raw_files(picture: np.ndarray) -> list[bytes]:
    """Files as cameras write them: thumbnails of the picture, and what the sensor measured."""
    sensor = picture[..., 1].astype(np.uint16) << 6
    mosaic, dng = {262: (32803,)}, {50706: (1, 4, 0, 0)}
    thumbnail = Page(picture[::4, ::4], THUMBNAIL)
    return [
        written(Page(picture[::4, ::4], THUMBNAIL | dng, [Page(sensor, mosaic)])),
        written(Page(picture, dng | {262: (34892,)})),
        written(Page(picture[::4, ::4], THUMBNAIL, [Page(sensor, mosaic), Page(picture)])),
        written(Page(sensor, mosaic), thumbnail),
        written(thumbnail, Page(picture)),
    ]


def _cut(name: str, files: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield files of which a part of the picture is missing, each with the whole one."""
    for index in range(count):
        chance = Random(f"{seed} {name} {index}")
        whole = chance.choice(files)
        yield images.paired(whole, cut_short(whole, chance.random()))

"""The photographs of the package: what graphs are compared on where the user gives none."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from ..runtime.images.decode import decode
from ..runtime.images.encoded import DecodeOptions, Rgb
from ..runtime.images.reading import ImageSource, read_image
from ..runtime.machine.errors import ImageError
from ..runtime.views.batch import Pixels, Sampling, ViewBatch, Views, open_image
from ..runtime.views.guided import GUIDED_VIEWS, SCORE_MAPS, guided_views, guided_windows
from ..runtime.views.spec import ViewSpec

_FOLDER = "pictures"
_SEED = 20_601
_FEW = 4
_FEWEST = 8  # images, so that their margins have a spread
_TRIED_ON = 2  # of the photographs; the others are for the gate


def reference_views(spec: ViewSpec, images: int | None = None) -> Views:
    """Make views of the package's photographs, or of the first ``images`` of them.

    Where an image's views are as many as its size asks for, there are a few of each. Where another
    stream chooses their places, they lie anywhere.
    """
    encoded = photographs()[:images]
    batch = ViewBatch(len(encoded), spec)
    apart = []
    for slot, photograph in enumerate(encoded):
        rgb = decode(photograph)
        info = batch.fill(slot, rgb, Sampling(spec, _SEED + slot, fixed=True))
        if info.own is not None:
            apart.append(info.own[:_FEW])
        elif spec.guided is not None:
            apart.append(_anywhere(rgb, spec.crop_size, _SEED + slot))
    if not apart or spec.several is None:
        return batch.views
    count = min(map(len, apart))
    several = np.stack([views[:count] for views in apart])
    return {name: batch.views.get(name, several) for name in spec.streams}


def _anywhere(rgb: Rgb, size: int, seed: int) -> Pixels:
    """Return the views that a stream would choose whose score maps are noise."""
    generator = np.random.default_rng(seed)
    maps = [generator.random((side, side), np.float32) for side in SCORE_MAPS]
    views = np.empty((GUIDED_VIEWS, size, size, 3), np.float32)
    height, width = rgb.shape[:2]
    guided_views(views, rgb, guided_windows(height, width, maps))
    return views


def own_images(spec: ViewSpec) -> tuple[list[ImageSource], list[ImageSource]]:
    """Return images to try changes on, and others for the gate, where the user gives none.

    They are the package's photographs. A photograph is judged many times if its crops are drawn;
    if not, it is turned and mirrored, so that margins have a spread to compare errors with.
    """
    files = photographs()
    if spec.drawn:
        return [*files[:_TRIED_ON]], [*files[_TRIED_ON:]]
    turned = [side for rgb in map(decode, files) for side in _turned(rgb)]
    return [*turned[::2]], [*turned[1::2]]


def with_a_spread(images: Sequence[ImageSource], spec: ViewSpec) -> Sequence[ImageSource]:
    """Return images to compare verdicts on, enough for their margins to have a spread.

    A few images are enough if their crops are drawn. If not, they are turned and mirrored, too.
    """
    if spec.drawn or len(images) >= _FEWEST:
        return images
    turned: list[ImageSource] = []
    for image in images:
        try:
            rgb = open_image(read_image(image), DecodeOptions()).decode().rgb
        except ImageError:
            turned.append(image)  # who judges it says why
        else:
            turned += _turned(rgb)
    return turned


def _turned(rgb: Rgb) -> list[Rgb]:
    """Return an image in all eight positions, as it is first."""
    quarters = [np.rot90(rgb, number) for number in range(4)]
    both = [each for quarter in quarters for each in (quarter, quarter[:, ::-1])]
    return [np.ascontiguousarray(each) for each in both]


def photographs() -> list[bytes]:
    """Return the JPEG files of the photographs that come with the package."""
    folder = files(__package__) / _FOLDER
    items = sorted(folder.iterdir(), key=lambda item: item.name)
    return [item.read_bytes() for item in items if item.name.endswith(".jpg")]

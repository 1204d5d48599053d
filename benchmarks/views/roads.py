"""The roads from an encoded image to views that are compared, each in its plainest form.

A road is a function from a file's bytes and the crops' placements to what the model
would see, and it tells how long each stage took.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ...export.paper import GLOBAL, LOCAL
from ...runtime.images.decode import read_header
from ...runtime.views.batch import Sampling, ViewBatch, plan
from ...runtime.views.later import cut_crops
from ...runtime.views.placement import Placement
from ...runtime.views.resample import make_filters
from ...runtime.views.spec import ViewSpec
from ...runtime.views.streams import write_views
from ..measuring.clock import StageClock
from .libraries import DECODERS, opencv_crops, opencv_rgb, pillow_rgb

_OPENCV_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
Float32 = npt.NDArray[np.float32]


class Run(StageClock):
    """One passage along a road: seconds by stage, and the global view in 0..255."""

    overview: Float32 | None = None

    @property
    def total(self) -> float:
        """The seconds of all stages together."""
        return sum(self.seconds.values())


Road = Callable[[bytes, Sequence[Placement], ViewSpec], Run]


def reference(content: bytes, places: Sequence[Placement], spec: ViewSpec) -> Run:
    """The training code's way: Pillow, float tensors, torchvision's resize, slices."""
    run = Run()
    rgb = pillow_rgb(content)
    run.done("decode")
    pixels = float_pixels(rgb)
    run.done("to float")
    overview = float_overview(pixels, spec.crop_size)
    run.done("global view")
    float_crops(pixels, places, spec.crop_size)
    run.done("crops")
    run.overview = overview.mul(255).permute(1, 2, 0).numpy()
    return run


def float_pixels(rgb: npt.NDArray[np.uint8]) -> Tensor:
    """Return pixels as float32 ``(3, height, width)`` in [0, 1]."""
    return torch.from_numpy(rgb).permute(2, 0, 1).to(torch.float32).div(255)


def float_overview(pixels: Tensor, side: int) -> Tensor:
    """Resize ``(3, height, width)`` to a global view ``(3, side, side)``."""
    overview: Tensor = TF.resize(pixels, [side, side], antialias=True)
    return overview


def float_crops(pixels: Tensor, places: Sequence[Placement], side: int) -> Tensor:
    """Cut crops ``(n, 3, side, side)`` out of ``(3, height, width)``, zeros beyond its edge."""
    crops = torch.zeros(len(places), 3, side, side)
    for crop, place in zip(crops, places, strict=True):
        bottom, right = place.top + place.height, place.left + place.width
        crop[:, : place.height, : place.width] = pixels[:, place.top : bottom, place.left : right]
    return crops


def _opencv(rule: int) -> Road:
    def road(content: bytes, places: Sequence[Placement], spec: ViewSpec) -> Run:
        run = Run()
        bgr: Any = cv2.imdecode(np.frombuffer(content, np.uint8), _OPENCV_FLAGS)
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        run.done("decode")
        overview = cv2.resize(rgb, (spec.crop_size, spec.crop_size), interpolation=rule)
        run.done("global view")
        opencv_crops(rgb, places, spec.crop_size)
        run.done("crops")
        run.overview = overview.astype(np.float32)
        return run

    return road


def glass_edge() -> Road:
    """The runtime's own code with what a worker thread keeps: a buffer and a batch.

    What resampling keeps for images of the same size is dropped, for not all folders hold such.
    """
    buffer = np.empty(0, np.uint8)
    batch: ViewBatch | None = None

    def road(content: bytes, places: Sequence[Placement], spec: ViewSpec) -> Run:
        nonlocal buffer, batch
        batch = batch or ViewBatch(1, spec)
        make_filters.cache_clear()
        run = Run()
        image = read_header(content)
        if buffer.size < image.decoded_bytes:
            buffer = np.empty(image.decoded_bytes, np.uint8)
        rgb = image.decode(buffer).rgb
        run.done("decode")
        seed = Sampling(spec).generator_seed(rgb)
        places = plan(image.height, image.width, seed, spec)
        run.done("seed and placement")
        write_views(batch.views[GLOBAL], rgb, spec.streams[GLOBAL])
        run.done("global view")
        cut_crops(batch.views[LOCAL][0, : len(places)], rgb, places)
        run.done("crops")
        run.overview = batch.views[GLOBAL][0].copy()
        return run

    return road


def _decoder(decode: Callable[[bytes], object]) -> Road:
    def road(content: bytes, places: Sequence[Placement], spec: ViewSpec) -> Run:
        del places, spec
        run = Run()
        decode(content)
        run.done("decode")
        return run

    return road


def view_roads(content: bytes) -> Mapping[str, Road]:
    """Return the roads that make views of a file, by name; reference first, glass-edge last."""
    by_opencv = {
        "OpenCV INTER_LINEAR": _opencv(cv2.INTER_LINEAR),
        "OpenCV INTER_AREA": _opencv(cv2.INTER_AREA),
    }
    return {
        "reference (Pillow, torchvision)": reference,
        **(by_opencv if opencv_rgb(content) is not None else {}),
        "glass-edge": glass_edge(),
    }


def decoder_roads(content: bytes) -> Mapping[str, Road]:
    """Return the decoders alone that read a file, by name: nothing that decodes can be faster."""
    return {
        f"{name}, decoding only": _decoder(decode)
        for name, decode in DECODERS.items()
        if decode(content) is not None
    }

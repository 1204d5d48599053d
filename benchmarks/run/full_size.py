"""Full-size PyTorch: every tile of an image through the local backbone.

What GLASS would cost if it looked at everything at native resolution, and what it would say.
"""

from __future__ import annotations

from dataclasses import replace

from ...runtime.commands.progress import on_console
from ..contenders.pytorch import PyTorchContender
from ..contenders.work import Photos, Runner, Setup, spread_out, tiled
from ..measuring.process import OwnProcess
from .report import FullSize
from .turns import Entry

_TILES_AT_ONCE = 32
_SHORT = 60.0  # seconds


def measure_full_size(
    plain: PyTorchContender, paper: Entry, photos: Photos, setup: Setup, images: int
) -> FullSize | None:
    """Judge some images, spread over the list, by every tile, and right before by crops.

    Both once, tiles one image at a time. They may take minutes, and then no warm-up is worth
    its time; a short passage is repeated.

    Raises:
        EngineError: PyTorch failed.
    """
    if not images:
        return None
    some = spread_out(photos, images)
    every = replace(plain, crops_at_once=_TILES_AT_ONCE)
    alone = replace(setup, batch_size=1)
    with (
        on_console("judging every tile"),
        OwnProcess("full-size PyTorch", Runner, every, alone) as whole,
    ):
        paper.process.ask(Runner.judge, some)  # its loader starts
        by_crops = paper.process.ask(Runner.judge, some)
        tiles = tiled(some, setup.views.crop_size)
        by_tiles = whole.ask(Runner.judge, tiles)
        if by_tiles.seconds < _SHORT:
            by_tiles = whole.ask(Runner.judge, tiles)
    positions = {photo: index for index, photo in enumerate(photos)}
    return FullSize(
        images=tuple(positions[photo] for photo in some),
        tiles=tuple(len(photo.placements) for photo in tiles),
        seconds=by_tiles.seconds,
        crops_seconds=by_crops.seconds,
        scores=by_tiles.scores,
        crops_scores=by_crops.scores,
    )

"""What ``glass-bench run`` measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """What is measured and how.

    Attributes:
        backbone: ``auto`` or ``timm/NAME``, as the export takes it.
        engines: names of engines; none means all that can run here.
        batches: images in a batch whose views lie ready.
        rounds: rounds that count.
        seconds: how long calls on one batch are repeated in each round.
        full_size_images: images judged in full size; 0 leaves that out.
        compiled: whether ``torch.compile`` takes part.
        scale_crops: numbers of crops, and
        scale_megapixels: sizes of generated images, to measure the cost of one more by.
    """

    backbone: str
    engines: tuple[str, ...]
    batches: tuple[int, ...]
    rounds: int
    seconds: float
    full_size_images: int
    compiled: bool
    scale_crops: tuple[int, ...]
    scale_megapixels: tuple[float, ...]

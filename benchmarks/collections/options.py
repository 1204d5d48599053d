"""What a run of the benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CollectionsOptions:
    """What is measured.

    Attributes:
        engine: what executes the graphs.
        rounds: that count; one more warms up.
        repeat: how often each image is in the collection.
        bucket: whether object storage takes part.
        cluster: whether a Ray cluster takes part.
        records: that each writer is given.
        read_images: in the tar along which memory is measured; 0 leaves that out.
        judged_images: how many of those are also judged.
    """

    engine: str = "auto"
    rounds: int = 5
    repeat: int = 10
    bucket: bool = True
    cluster: bool = False
    records: int = 10_000
    read_images: int = 100_000
    judged_images: int = 2_000

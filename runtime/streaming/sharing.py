"""What a pipeline does at its end, and how its work is shared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..claims.claims import ClaimOptions
from ..images.encoded import DecodeOptions
from ..machine.cpus import available_cpus
from ..machine.timings import Timings
from ..views.batch import ViewInfo, Views
from .view_maker import DEFAULT_MEMORY

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class More:
    """What is left to compute of an image.

    Attributes:
        rows: how many views that is.
        state: what whoever computes it must know of the image.
    """

    rows: int
    state: Any


@dataclass(frozen=True)
class LastStage(Generic[_Result]):
    """What is done with the views of a batch: an engine judges them, for one.

    Attributes:
        run: is given what the views come from, the views of all draws and the timings to add to;
            returns a result for each image, or what is left to compute of it.
            The arrays are used again for other images when it returns.
        lanes: how many threads may run it at once.
        on_host: whether it takes the host's CPUs.
        go_on: is given what was left to compute of some images; returns as ``run`` does.
        batch: how many rows it is given then, if there are so many.
    """

    run: Callable[[Sequence[ViewInfo], Views, Timings], Sequence[_Result | More]]
    lanes: int
    on_host: bool
    go_on: Callable[[Sequence[More], Timings], Sequence[_Result | More]] | None = None
    batch: int = 1


@dataclass(frozen=True)
class PipelineOptions:
    """How the work is shared out.

    Attributes:
        images: images whose views make one batch.
        workers: threads that compute on the CPU; 0 takes one per CPU available.
        memory: bytes that decoded images may take at once; a larger image goes alone.
        decode: which images are decoded, and how.
        isolate: decode in processes of their own, which may crash.
        window: the most images begun and not given back; ``None`` lets workers run well
            ahead of an image that takes long.
        thumbnails: whether a small picture of each image is made.
        claims: what files are asked of themselves.
    """

    images: int
    workers: int = 0
    memory: int = DEFAULT_MEMORY
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    isolate: bool = False
    window: int | None = None
    thumbnails: bool = False
    claims: ClaimOptions = field(default_factory=ClaimOptions)

    def __post_init__(self) -> None:
        if not self.workers:
            object.__setattr__(self, "workers", available_cpus())


def batches_at_once(options: PipelineOptions, lanes: int) -> int:
    """Return how many batches of views there are at most.

    That is one for each run of the last stage, enough open ones for all workers, and one more.
    """
    return lanes + -(-options.workers // options.images) + 1

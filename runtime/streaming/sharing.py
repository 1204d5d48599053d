"""What a pipeline does at its end, and how its work is shared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..images.encoded import DecodeOptions
from ..machine.cpus import available_cpus
from ..machine.timings import Timings
from .orders import More
from .view_maker import DEFAULT_MEMORY

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class LastStage(Generic[_Result]):
    """How the last stage runs, in which roads end: an engine judges views there, for one.

    Attributes:
        lanes: how many threads may run it at once.
        on_host: whether it takes the host's CPUs.
        together: whether images cost much less together than one by one.
        go_on: is given what was left to compute of some images; returns as a road's ``run`` does.
        batch: how many rows it is given then, if there are so many.
    """

    lanes: int
    on_host: bool
    together: bool = False
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
        prompt: give each image back as soon as its outcome is known, in no order, and hold none
            back: whatever can be judged is judged as soon as there is nothing better to do.
    """

    images: int
    workers: int = 0
    memory: int = DEFAULT_MEMORY
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    isolate: bool = False
    window: int | None = None
    prompt: bool = False

    def __post_init__(self) -> None:
        if not self.workers:
            object.__setattr__(self, "workers", available_cpus())


def batches_at_once(options: PipelineOptions, lanes: int) -> int:
    """Return how many batches of views there are at most.

    That is one for each run of the last stage, enough open ones for all workers, and one more. A
    prompt pipeline judges an image before the others of its batch, if those take long: each worker
    may keep a batch for the one that it is at.
    """
    for_views = options.workers if options.prompt else -(-options.workers // options.images)
    return lanes + for_views + 1

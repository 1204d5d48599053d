"""What a pipeline is asked for: an image, what is made of it, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from ..claims.claims import ClaimOptions
from ..images.reading import ImageSource
from ..machine.timings import Timings
from ..views.batch import Sampling, ViewInfo, Views

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


Judging: TypeAlias = Callable[[Sequence[ViewInfo], Views, Timings], Sequence[_Result | More]]
"""Judges a batch: is given what the views come from, the views of all draws and the timings to add
to; returns a result for each image, or what is left to compute of it. The arrays are used again for
other images when it returns."""


@dataclass(frozen=True)
class Look:
    """What is made of an image.

    Attributes:
        sampling: which views.
        thumbnails: whether a small picture is made, too.
        claims: what the file is asked of itself.
    """

    sampling: Sampling
    thumbnails: bool = False
    claims: ClaimOptions = field(default_factory=ClaimOptions)


@dataclass(frozen=True)
class Road(Generic[_Result]):
    """What is made of an image, and what judges it.

    Attributes:
        look: what is made of it.
        images: images whose views make one batch.
        run: judges them.
    """

    look: Look
    images: int
    run: Judging[_Result]

    @property
    def room(self) -> tuple[int, int]:
        """What sizes a batch's arrays: its images, and the views of several that each has in it."""
        return self.images, self.look.sampling.draws * self.look.sampling.laid

    def joins(self, other: Road[_Result]) -> bool:
        """Whether images of both may share a batch."""
        return self.room == other.room and self.run == other.run


class Asker(Protocol):
    """Whoever waits for an image."""

    @property
    def left(self) -> bool:
        """Whether they wait no longer, so that nothing need be computed for them."""


@dataclass(frozen=True)
class Order(Generic[_Result]):
    """An image that takes another road than the others, or that somebody waits for.

    Attributes:
        image: as users give it.
        road: what becomes of it.
        name: by which whoever sent it calls it.
        asker: who waits for it.
    """

    image: ImageSource
    road: Road[_Result]
    name: str | None = None
    asker: Asker | None = None

"""What every engine is to the rest of the runtime."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..bundle.manifest import Manifest
from ..bundle.streams import GraphEntry, Role
from ..machine.errors import EngineError
from ..machine.progress import Progress, silent
from ..machine.timings import Timings
from ..views.batch import DrawnViews, Views

Array: TypeAlias = npt.NDArray[Any]
Float32: TypeAlias = npt.NDArray[np.float32]
X86 = ("x86_64", "AMD64")  # what platform.machine() calls it
Found: TypeAlias = tuple[str, str | None, list[int | None]]
"""A tensor as an engine sees it: name, element type, and sizes, ``None`` where open."""


@dataclass(frozen=True)
class EngineOptions:
    """How an engine shall run.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: bound of the CPU threads that one run takes; 0 leaves it to the engine.
        batch_size: the most rows that a graph computes at once.
        images: how many images' views are given at once when all goes well: the rows of graphs
            that look at one view of each, while those of one that looks at several are
            ``batch_size``. ``None`` if that is not known beforehand.
        folder: where built engines are kept; ``None`` is the user's cache.
        lanes: how many runs may go on at once, each from a thread of its own.
        keep: whether compiled graphs may be kept for the next start. They are found again by
            the bundle's path, so that those of a bundle about to move would only fill the cache.
        progress: is told how far the building of engines is.
    """

    device: str = "auto"
    threads: int = 0
    batch_size: int = 16
    images: int | None = None
    folder: Path | None = None
    lanes: int = 1
    keep: bool = True
    progress: Progress = silent


@dataclass(frozen=True)
class Judgement:
    """What the model says of ``n`` images: logits ``(n, 2)``, attention ``(n, crops)``.

    Of several draws of their crops: logits ``(n, draws, 2)``, attention ``(n, draws, crops)``.
    Attention is ``None`` where the model has none.
    """

    logits: Float32
    attention: Float32 | None


class Engine(Protocol):
    """Executes the graphs of one bundle.

    Attributes:
        name: by which the registry has it.
        description: what records say, for example ``onnxruntime 1.24.0 cpu``.
        precision: the type that the engine really computes in.
        lanes: how many threads may judge at once.
        on_host: whether judging takes the host's CPUs.
        largest: the most rows of each graph that are computed at once.
        several: the stream that may have several views of an image, see
            :attr:`..views.spec.ViewSpec.several`.
    """

    name: str
    description: str
    precision: str
    lanes: int
    on_host: bool
    largest: Mapping[Role, int]
    several: str | None

    def judge(self, views: Views, timings: Timings | None = None) -> Judgement:
        """Run all graphs on the views of any number of images, which have as many views each.

        Args:
            views: of every stream.
            timings: where the time is added.

        Raises:
            EngineError: the engine failed, for example for lack of memory.
            ValueError: a graph gave arrays of other shapes than it declares.
        """
        drawn = dict(views)
        if self.several is not None:
            drawn[self.several] = views[self.several][:, np.newaxis]
        one = self.judge_draws(drawn, timings)
        attention = None if one.attention is None else one.attention[:, 0]
        return Judgement(one.logits[:, 0], attention)

    @abstractmethod
    def judge_draws(self, views: DrawnViews, timings: Timings | None = None) -> Judgement:
        """Run all graphs on several draws of each image's crops; those of other views once.

        Args:
            views: of every stream; where no stream has several views, there is one draw.
            timings: where the time is added.

        Raises:
            EngineError: the engine failed, for example for lack of memory.
            ValueError: a graph gave arrays of other shapes than it declares.
        """

    @abstractmethod
    def outputs(self, stream: str, pixels: Array) -> Sequence[Float32]:
        """Run a stream's graph on any number of views ``(n, p, p, 3)``.

        Returns:
            Features ``(n, D)``, and the score maps of a stream by which another is guided.

        Raises:
            EngineError: the engine failed.
            ValueError: the graph gave features of another number of views.
        """

    def features(self, stream: str, pixels: Array) -> Float32:
        """Return the first of :meth:`outputs`."""
        return self.outputs(stream, pixels)[0]

    @abstractmethod
    def aggregate(self, features: Mapping[str, Float32]) -> Judgement:
        """Judge ``n`` images by features that are there already.

        Args:
            features: of each stream ``(n, D)``, of the one of several views ``(n, views, D)``; in
                the manifest's order.
                Without an aggregator the only stream's are the logits.

        Raises:
            EngineError: the engine failed.
        """


def class_probabilities(
    logits: npt.NDArray[np.floating], manifest: Manifest
) -> npt.NDArray[np.float64]:
    """Return what logits ``(..., 2)`` say of each class, with the temperature of the bundle."""
    return softmax(logits.astype(np.float64) / manifest.temperature)


def class_margins(logits: npt.NDArray[np.floating], manifest: Manifest) -> npt.NDArray[np.float64]:
    """Return the logit of fake minus that of real, of logits ``(..., 2)``."""
    wide = logits.astype(np.float64)
    found: npt.NDArray[np.float64]
    found = wide[..., manifest.fake_index] - wide[..., 1 - manifest.fake_index]
    return found


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return probabilities along the last axis, computed in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    shares: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def check_tensors(
    role: Role, entry: GraphEntry, inputs: Sequence[Found], outputs: Sequence[Found]
) -> None:
    """Compare what a graph really takes and gives with what the manifest says.

    Raises:
        EngineError: they differ.
    """
    for expected, found in ((entry.inputs, inputs), (entry.outputs, outputs)):
        said = [(t.name, t.dtype, _open_dimensions(t.shape)) for t in expected]
        if said != list(found):
            raise EngineError(
                f"the {role} graph does not fit the manifest: it says {said}, the "
                f"graph has {list(found)}; export the bundle again."
            )


def _open_dimensions(shape: Sequence[int | str]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]

"""Shows the inner tensors of a graph on the views of real images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, ValueInfoProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Role
from ...runtime.engines.base import Array, Float32
from ...runtime.engines.onnxruntime import session_options
from ...runtime.judging.pipeline import PipelineOptions
from ...runtime.judging.stream import stream_views
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.progress import Progress, track
from ...runtime.views.batch import Crops, Overviews, Sampling
from ..images import ImageSets, Suitability

CROPS = 2  # of each image: another image tells more than another crop of the same
_BATCH = 4  # images, and views at a time, because all their inner tensors are in memory


@dataclass(frozen=True)
class CalibrationViews:
    """The views of the calibration images, made once for all that looks at them.

    Attributes:
        overviews: global views, float32 ``(n, p, p, 3)``.
        crops: ``CROPS`` of each image, uint8 ``(n * CROPS, p, p, 3)``.
        notes: what the user should know about the images.
    """

    overviews: Overviews
    crops: Crops
    notes: tuple[str, ...]

    @property
    def images(self) -> int:
        """The number of images that could be read."""
        return len(self.overviews)

    def of(self, role: Role) -> Array:
        """Return what a backbone looks at."""
        return self.overviews if role == "global" else self.crops

    def batches(self, role: Role) -> Iterator[Array]:
        """Yield a few of a backbone's views at a time."""
        views = self.of(role)
        for start in range(0, len(views), _BATCH):
            yield views[start : start + _BATCH]


def calibration_views(bundle: Bundle, sets: ImageSets, progress: Progress) -> CalibrationViews:
    """Read the calibration images.

    Raises:
        CalibrationError: they are unreadable or show too little.
    """
    images = track(sets.calibration, "reading images", len(sets.calibration), progress)
    suitability = Suitability()
    overviews: list[Overviews] = []
    crops: list[Crops] = []
    sampling = Sampling(bundle.manifest.views)
    with closing(stream_views(images, sampling, PipelineOptions(_BATCH))) as batches:
        for batch in batches:
            suitability.add(batch)
            overviews.append(batch.overviews)
            crops.append(batch.crops[:, :CROPS].reshape(-1, *batch.crops.shape[2:]))
    notes = (*sets.notes(), *suitability.check())
    return CalibrationViews(np.concatenate(overviews), np.concatenate(crops), notes)


class Observer:
    """A graph that also returns inner tensors."""

    def __init__(self, graph: Path, tensors: Sequence[str]) -> None:
        """Load an ONNX file with one input; ``tensors`` names float32 tensors in it."""
        self._tensors = list(tensors)
        self._session = _session(graph, tensors)
        self._source = self._session.get_inputs()[0].name

    def run(self, views: Array) -> dict[str, Float32]:
        """Run the graph on views ``(n, p, p, 3)`` and return the tensors' values."""
        values = self._session.run(self._tensors, {self._source: views})
        return dict(zip(self._tensors, values, strict=True))


def _session(graph: Path, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    """Load a graph with the tensors among its outputs; weights may lie in a file beside it."""
    model = onnx.load(graph, load_external_data=False)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        ValueInfoProto(name=name, type=onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        for name in tensors
        if name not in known
    )
    settings = session_options(available_cpus())
    settings.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(graph.parent)
    )
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )

"""Shows the inner tensors of a graph on real views."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto, ValueInfoProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Role
from ...runtime.engines.base import Array, Float32
from ...runtime.engines.onnxruntime import session_options
from ...runtime.judging.pipeline import PipelineOptions
from ...runtime.judging.stream import PreparedBatch, stream_views
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.progress import Progress, track
from ...runtime.views.batch import Sampling
from ..images import ImageSets

CROPS = 2  # of each image: another image tells more than another crop of the same
_BATCH = 4  # images, and views at a time, because all their inner tensors are in memory


def calibration_batches(
    bundle: Bundle, sets: ImageSets, purpose: str, progress: Progress
) -> Generator[PreparedBatch, None, None]:
    """Make the calibration images' views as they are needed; progress shows the purpose."""
    images = track(sets.calibration, purpose, len(sets.calibration), progress)
    sampling = Sampling(bundle.manifest.views)
    with closing(stream_views(images, sampling, PipelineOptions(_BATCH))) as batches:
        yield from batches


def backbone_views(batch: PreparedBatch) -> Iterator[tuple[Role, Array]]:
    """Divide a batch into pieces for each backbone: global views, and crops."""
    crops = batch.crops[:, :CROPS].reshape(-1, *batch.crops.shape[2:])
    views: tuple[tuple[Role, Array], ...] = (("global", batch.overviews), ("local", crops))
    for role, pixels in views:
        for start in range(0, len(pixels), _BATCH):
            yield role, pixels[start : start + _BATCH]


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

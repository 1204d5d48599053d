"""Shows the inner tensors of a graph on the views of real images."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, ValueInfoProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.streams import Role
from ...runtime.engines.base import Array, Float32
from ...runtime.engines.onnxruntime import session_options
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.progress import Progress, track
from ...runtime.streaming.draws import DrawnBatch
from ...runtime.views.batch import DrawnViews, Sampling, Views
from ...runtime.views.spec import ViewSpec
from ..errors import CalibrationError
from ..images import ImageSets, Suitability
from ..judging.views import suitable_draws, trial_size
from .layers import Layer

CROPS = 2  # of each image: another image tells more than another crop of the same
_TRIED_OF_FEWER = 0.3
_HEAVY = 6e9  # multiply-adds for a view, from which on fewer views are looked at
_BATCH = 4  # views at a time, because all their inner tensors are in memory


@dataclass(frozen=True)
class CalibrationViews:
    """The views of the calibration images, made once for all that looks at them.

    Attributes:
        images: the number of images that could be read.
        views: of each stream, one image's after the other's, as many of each, ``(m, p, p, 3)``. Of
            a stream of several there are ``CROPS`` of each image, or one of fewer views and of a
            bundle that has one.
        drawn: the first images' views, with other draws, to try graphs on; where nothing is
            drawn, the same views.
        notes: what the user should know about the images.
    """

    images: int
    views: Views
    drawn: DrawnViews
    notes: tuple[str, ...]

    def suited_to(self, *backbones: Iterable[Layer]) -> CalibrationViews:
        """Return these views, or :meth:`fewer` if one of some backbones is heavy."""
        return self.fewer() if any(map(heavy, backbones)) else self

    def fewer(self) -> CalibrationViews:
        """Return one view of each image, and other draws of three tenths of the images tried on."""
        tried = math.ceil(_TRIED_OF_FEWER * len(next(iter(self.drawn.values()))))
        return replace(
            self,
            views={name: each[:: len(each) // self.images] for name, each in self.views.items()},
            drawn={name: each[:tried] for name, each in self.drawn.items()},
        )

    def of(self, role: Role) -> Array:
        """Return what a stream's graph looks at."""
        return self.views[role]

    def batches(self, role: Role) -> Iterator[Array]:
        """Yield a few of a stream's views at a time."""
        views = self.of(role)
        for start in range(0, len(views), _BATCH):
            yield views[start : start + _BATCH]


def heavy(layers: Iterable[Layer]) -> bool:
    """Whether a backbone takes minutes for all views, so that fewer must do: ViT-B/16 is heavy."""
    return sum(layer.work for layer in layers) > _HEAVY


def calibration_views(bundle: Bundle, sets: ImageSets, progress: Progress) -> CalibrationViews:
    """Read the calibration images, each once.

    Raises:
        CalibrationError: they are unreadable or show too little.
    """
    spec, files = bundle.manifest.views, sets.calibration
    tried, draws = trial_size(spec, len(files))
    images = track(files, "reading images", len(files), progress)
    first, others = Sampling(spec, draws=spec.drawn + draws), Sampling(spec)
    suitability = Suitability()
    to_try_on = list(suitable_draws(bundle, islice(images, tried), first, suitability))
    few = [_few(batch, spec) for batch in to_try_on]
    few += [_few(batch, spec) for batch in suitable_draws(bundle, images, others, suitability)]
    notes = (*sets.notes(), *suitability.check())
    drawn = _joined([_other_draws(batch, spec) for batch in to_try_on])
    if not len(next(iter(drawn.values()))):
        raise CalibrationError(f"none of the first {tried} calibration images can be read.")
    readable = suitability.images
    return CalibrationViews(readable, _joined(few), drawn, notes)


def _few(batch: DrawnBatch, spec: ViewSpec) -> Views:
    """Return a few views of each image's first draw."""
    few = dict(batch.views)
    if spec.several is not None:
        crops = few[spec.several][:, 0, :CROPS]
        few[spec.several] = crops.reshape(-1, *crops.shape[2:])
    return few


def _other_draws(batch: DrawnBatch, spec: ViewSpec) -> DrawnViews:
    """Return the draws after the first, if anything is drawn."""
    if spec.several is None or not spec.drawn:
        return batch.views
    return {**batch.views, spec.several: batch.views[spec.several][:, 1:]}


def _joined(batches: Sequence[Views]) -> Views:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


class Observer:
    """A graph that also returns inner tensors."""

    def __init__(self, graph: Path | ModelProto, tensors: Sequence[str]) -> None:
        """Load an ONNX file, or a graph with its weights inside.

        It has one input; ``tensors`` names float32 tensors in it.
        """
        self._tensors = list(tensors)
        self._session = _session(graph, tensors)
        self._source = self._session.get_inputs()[0].name

    def run(self, views: Array) -> dict[str, Float32]:
        """Run the graph on views ``(n, p, p, 3)`` and return the tensors' values."""
        values = self._session.run(self._tensors, {self._source: views})
        return dict(zip(self._tensors, values, strict=True))


def _session(graph: Path | ModelProto, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    """Load a graph with the tensors among its outputs; a file's weights may lie beside it."""
    settings = session_options(available_cpus())
    if isinstance(graph, Path):
        model = onnx.load(graph, load_external_data=False)
        settings.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(graph.parent)
        )
    else:
        model = copy.deepcopy(graph)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        ValueInfoProto(name=name, type=onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        for name in tensors
        if name not in known
    )
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )

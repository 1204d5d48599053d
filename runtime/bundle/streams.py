"""The streams of a bundle: what each looks at, its graph, and how the graphs fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

import msgspec

from ..views.guided import SCORE_MAPS
from ..views.places import Guided
from ..views.spec import ElementType, StreamViews
from .fields import LARGEST_WIDTH, GraphName, Sha256, Strict

AGGREGATOR: Final = "aggregator"
CLASSES: Final = 2
StreamName = Annotated[str, msgspec.Meta(pattern=r"^(?!aggregator\Z)[a-z][a-z0-9_]{0,30}\Z")]
Role: TypeAlias = str
"""A graph's part in a model: the name of its stream, or ``aggregator``."""
Tensors: TypeAlias = "tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]"
"""The inputs and the outputs of a graph."""

_SCORES = ("scores_3", "scores_2")
"""Names of the maps by which a stream guides another, see :mod:`..views.guided`."""


class TensorSpec(Strict, frozen=True):
    """A graph's input or output. A string in ``shape`` names a dimension left open."""

    name: str
    dtype: ElementType
    shape: tuple[int | str, ...]


class GraphEntry(Strict, frozen=True):
    """One ONNX graph: its file and what goes in and out."""

    file: GraphName
    sha256: Sha256
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Stream(Strict, frozen=True):
    """A stream: how an image becomes its views, and the graph that looks at them."""

    views: StreamViews
    graph: GraphEntry

    @property
    def width(self) -> int:
        """How many numbers its graph gives for each view."""
        return _width(self.graph)


def stream_tensors(name: str, views: Mapping[str, StreamViews], width: int | None) -> Tensors:
    """Return the inputs and outputs of a stream's graph: the contract of export and runtime.

    Args:
        name: of the stream.
        views: of all streams of the bundle, by their names.
        width: of its features; ``None`` if there is no aggregator, so that it gives the logits.
    """
    own = views[name]
    pixels = TensorSpec("pixels", own.dtype, ("batch", own.size, own.size, 3))
    if width is None:
        return (pixels,), (TensorSpec("logits", "float32", ("batch", CLASSES)),)
    outputs = [TensorSpec("features", "float32", ("batch", width))]
    guides = any(
        isinstance(each.places, Guided) and each.places.by == name for each in views.values()
    )
    if guides:
        outputs += [
            TensorSpec(each, "float32", ("batch", n, n))
            for each, n in zip(_SCORES, SCORE_MAPS, strict=True)
        ]
    return (pixels,), tuple(outputs)


def aggregator_tensors(
    views: Mapping[str, StreamViews], widths: Mapping[str, int], *, attention: bool
) -> Tensors:
    """Return the inputs and outputs of the aggregator, in the order of the streams.

    ``attention`` is that of the stream that may have several views.
    """
    inputs = []
    for name, own in views.items():
        shape = ("batch", "crops", widths[name]) if own.several else ("batch", widths[name])
        inputs.append(TensorSpec(features_name(name), "float32", shape))
    outputs = [TensorSpec("logits", "float32", ("batch", CLASSES))]
    if attention:
        outputs.append(TensorSpec("attention", "float32", ("batch", "crops")))
    return tuple(inputs), tuple(outputs)


def inner_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Return the sizes of a tensor that are fixed."""
    return tuple(size for size in spec.shape if isinstance(size, int))


def features_name(stream: str) -> str:
    """Return the name of the aggregator's input for a stream's features."""
    return f"{stream}_features"


def misfit(streams: Mapping[str, Stream], aggregator: GraphEntry | None) -> str | None:
    """Say which part of a bundle does not fit the others; ``None`` if all fit."""
    views = {name: stream.views for name, stream in streams.items()}
    several = [name for name, own in views.items() if own.several]
    if len(several) > 1:
        return f"streams {' and '.join(several)} each have several views, and one may"
    if aggregator is None and (several or len(streams) != 1):
        return "there is no aggregator, and not one stream of one view alone"
    return _views_fault(views) or _graphs_fault(streams, views, aggregator)


def _views_fault(views: Mapping[str, StreamViews]) -> str | None:
    for name, own in views.items():
        if own.fault is not None:
            return f"the views of stream {name} have {own.fault}"
        if isinstance(own.places, Guided) and own.places.by not in set(views) - {name}:
            return f"stream {name} is guided by {own.places.by}, which is no other stream"
    return None


def _graphs_fault(
    streams: Mapping[str, Stream],
    views: Mapping[str, StreamViews],
    aggregator: GraphEntry | None,
) -> str | None:
    widths = {name: stream.width for name, stream in streams.items()}
    for name, stream in streams.items():
        graph = stream.graph
        expected = stream_tensors(name, views, None if aggregator is None else widths[name])
        if (graph.inputs, graph.outputs) != expected or not 1 <= widths[name] <= LARGEST_WIDTH:
            return _unlike(name)
    if aggregator is not None:
        attention = len(aggregator.outputs) > 1 and any(own.several for own in views.values())
        expected = aggregator_tensors(views, widths, attention=attention)
        if (aggregator.inputs, aggregator.outputs) != expected:
            return _unlike(AGGREGATOR)
    return None


def _unlike(role: Role) -> str:
    return (
        f"the {role} graph's inputs and outputs do not fit the other graphs (sizes of views and "
        "of features must agree)"
    )


def _width(graph: GraphEntry) -> int:
    """Return the last size of a graph's first output; 0 if it has none."""
    last = graph.outputs[0].shape[-1:] if graph.outputs else ()
    return last[0] if last and isinstance(last[0], int) else 0

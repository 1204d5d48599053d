"""The graphs of a bundle fit its views and each other, or the bundle is refused."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from glass_edge.export.paper import glass_views
from glass_edge.runtime.bundle.manifest import parse_manifest
from glass_edge.runtime.bundle.streams import (
    GraphEntry,
    Stream,
    TensorSpec,
    aggregator_tensors,
    misfit,
    stream_tensors,
)
from glass_edge.runtime.views.places import Centre, Cover, Five, Guided, Stratified, Ten, Tiles
from glass_edge.runtime.views.spec import FLOAT, Resize, StreamViews, ViewSpec
from test_bundle import change, graph_of, refusal, views_of

WHOLE = StreamViews(224, "float32", resize=Resize(FLOAT, "stretch", 224))
RANDOM = StreamViews(224, "uint8", places=Stratified(10, 8))
MIDDLE = StreamViews(224, "uint8", resize=Resize("pillow-bicubic", "short-side", 224),
                     places=Centre())  # fmt: skip
GUIDED = StreamViews(224, "float32", places=Guided("global"))


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, ("batch", *shape))


def graph(
    inputs: list[TensorSpec], outputs: list[TensorSpec], file: str = "some.onnx"
) -> GraphEntry:
    return GraphEntry(file, "0" * 64, tuple(inputs), tuple(outputs))


def looking(views: StreamViews, *outputs: TensorSpec) -> Stream:
    """A stream whose graph takes what its views are."""
    pixels = tensor("pixels", views.size, views.size, 3, dtype=views.dtype)
    return Stream(views, graph([pixels], [*outputs]))


def features(width: int) -> TensorSpec:
    return tensor("features", width)


def joining(*inputs: TensorSpec, attention: bool = True) -> GraphEntry:
    outputs = [tensor("logits", 2)]
    return graph([*inputs], [*outputs, tensor("attention", "crops")] if attention else outputs)


LOGITS = tensor("logits", 2)
MAPS = (tensor("scores_3", 5, 5), tensor("scores_2", 6, 6))
GLASS = {"global": looking(WHOLE, features(128)), "local": looking(RANDOM, features(128))}
JOINED = joining(tensor("global_features", 128), tensor("local_features", "crops", 128))
FUSING = {
    "global": looking(MIDDLE, features(64), *MAPS),
    "local": looking(GUIDED, features(32)),
}
FUSED = joining(
    tensor("global_features", 64), tensor("local_features", "crops", 32), attention=False
)


# --- what fits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("streams", "aggregator"),
    [
        (GLASS, JOINED),
        ({"whole": looking(MIDDLE, LOGITS)}, None),
        ({"whole": looking(WHOLE, LOGITS)}, None),
        (FUSING, FUSED),
        ({"view": looking(StreamViews(224, "uint8", places=Ten()), features(2))},
         joining(tensor("view_features", "crops", 2), attention=False)),
        ({"tile": looking(StreamViews(224, "uint8", places=Tiles()), features(9))},
         joining(tensor("tile_features", "crops", 9))),
        ({"one": looking(WHOLE, features(8)), "two": looking(MIDDLE, features(9))},
         joining(tensor("one_features", 8), tensor("two_features", 9), attention=False)),
        ({"whole": looking(WHOLE, features(65_536))},
         joining(tensor("whole_features", 65_536), attention=False)),
    ],
    ids=["GLASS", "one view", "one resized view", "guided", "ten", "tiles", "two of one view each",
         "very wide"],
)  # fmt: skip
def test_detectors_of_many_kinds_fit(streams, aggregator):
    assert misfit(streams, aggregator) is None


def test_the_contract_of_a_glass():
    views = glass_views(224, 10).streams
    for name, stream in GLASS.items():
        assert stream_tensors(name, views, 128) == (stream.graph.inputs, stream.graph.outputs)
    widths = dict.fromkeys(views, 128)
    assert aggregator_tensors(views, widths, attention=True) == (JOINED.inputs, JOINED.outputs)


def test_the_contract_of_a_stream_alone_and_of_one_that_guides():
    assert stream_tensors("whole", {"whole": MIDDLE}, None)[1] == (LOGITS,)
    views = {"global": MIDDLE, "local": GUIDED}
    assert stream_tensors("global", views, 64)[1] == (features(64), *MAPS)
    assert stream_tensors("local", views, 64)[1] == (features(64),)


# --- what does not --------------------------------------------------------------------------


def other(stream: Stream, **changes: Any) -> Stream:
    """The same stream with a graph that differs."""
    return Stream(stream.views, msgspec.structs.replace(stream.graph, **changes))


def seen_as(views: StreamViews, **changes: Any) -> dict[str, Stream]:
    """One stream alone, of views that differ."""
    return {"whole": looking(msgspec.structs.replace(views, **changes), LOGITS)}


PIXELS = GLASS["local"].graph.inputs[0]
DIFFERENT = r"^the {} graph's inputs and outputs do not fit the other graphs"


@pytest.mark.parametrize(
    ("streams", "aggregator", "sentence"),
    [
        (GLASS | {"global": looking(RANDOM, features(128))}, JOINED,
         "^streams global and local each have several views, and one may$"),
        (GLASS, None, "^there is no aggregator, and not one stream of one view alone$"),
        ({"view": looking(RANDOM, LOGITS)}, None, "^there is no aggregator"),
        ({"one": looking(WHOLE, LOGITS), "two": looking(MIDDLE, LOGITS)}, None,
         "^there is no aggregator"),
        ({"local": FUSING["local"]}, joining(tensor("local_features", "crops", 32)),
         "^stream local is guided by global, which is no other stream$"),
        (FUSING | {"local": looking(StreamViews(224, "float32", places=Guided("local")),
                                    features(32))}, FUSED,
         "^stream local is guided by local, which is no other stream$"),
        (FUSING | {"global": looking(MIDDLE, features(64))}, FUSED, DIFFERENT.format("global")),
        (FUSING | {"global": looking(MIDDLE, features(64), *MAPS[::-1])}, FUSED,
         DIFFERENT.format("global")),
        ({"whole": looking(MIDDLE, LOGITS, *MAPS)}, None, DIFFERENT.format("whole")),
        ({"whole": looking(MIDDLE, tensor("logits", 1))}, None, DIFFERENT.format("whole")),
        ({"whole": looking(MIDDLE, features(2))}, None, DIFFERENT.format("whole")),
        (GLASS | {"local": looking(RANDOM, features(64))}, JOINED, DIFFERENT.format("aggregator")),
        (GLASS | {"local": other(GLASS["local"], outputs=())}, JOINED, DIFFERENT.format("local")),
        (GLASS | {"local": other(GLASS["local"], outputs=(tensor("features", "wide"),))}, JOINED,
         DIFFERENT.format("local")),
        (GLASS | {"local": looking(RANDOM, features(65_537))},
         joining(tensor("global_features", 128), tensor("local_features", "crops", 65_537)),
         DIFFERENT.format("local")),
        (GLASS | {"local": looking(RANDOM, features(0))},
         joining(tensor("global_features", 128), tensor("local_features", "crops", 0)),
         DIFFERENT.format("local")),
        (GLASS | {"local": other(GLASS["local"], inputs=(PIXELS, PIXELS))}, JOINED,
         DIFFERENT.format("local")),
        (GLASS | {"local": other(GLASS["local"], inputs=())}, JOINED, DIFFERENT.format("local")),
        (GLASS | {"local": Stream(RANDOM, GLASS["global"].graph)}, JOINED,
         DIFFERENT.format("local")),
        (GLASS, joining(*JOINED.inputs[::-1]), DIFFERENT.format("aggregator")),
        (GLASS, joining(*JOINED.inputs[1:]), DIFFERENT.format("aggregator")),
        (GLASS, joining(*JOINED.inputs, tensor("third_features", 128)),
         DIFFERENT.format("aggregator")),
        (GLASS, joining(tensor("whole_features", 128), JOINED.inputs[1]),
         DIFFERENT.format("aggregator")),
        (GLASS, joining(JOINED.inputs[0], tensor("local_features", 10, 128)),
         DIFFERENT.format("aggregator")),
        (GLASS, msgspec.structs.replace(JOINED, outputs=()), DIFFERENT.format("aggregator")),
        (GLASS, msgspec.structs.replace(JOINED, outputs=JOINED.outputs[::-1]),
         DIFFERENT.format("aggregator")),
    ],
    ids=[
        "two streams of several views", "two streams and no aggregator",
        "several views and no aggregator", "two views and no aggregator",
        "a guide that is missing", "its own guide", "a guide without maps",
        "a guide's maps in another order", "maps that guide nothing", "one logit",
        "features for logits", "another width", "no outputs", "an open width", "too wide",
        "no width", "two inputs", "no inputs", "another stream's type of views",
        "other inputs of the aggregator: their order", "one less", "one more", "another name",
        "a fixed number of crops", "no logits", "attention before logits",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(streams, aggregator, sentence):
    assert re.search(sentence, misfit(streams, aggregator) or "it fits")


@pytest.mark.parametrize(
    ("streams", "fault"),
    [
        (seen_as(WHOLE, resize=Resize(FLOAT, "stretch", 256)),
         "no places, and a resize that does not end at 224x224"),
        (seen_as(WHOLE, resize=Resize(FLOAT, "short-side", 224)),
         "no places, and a resize that does not end at 224x224"),
        (seen_as(WHOLE, resize=None), "neither a resize nor places"),
        (seen_as(MIDDLE, dtype="float32"), "views of type float32"),
        (seen_as(WHOLE, dtype="uint8"), "views of type uint8"),
        (seen_as(WHOLE, resize=Resize("pillow-bilinear", "stretch", 224)),
         "views of type float32"),
        (seen_as(WHOLE, places=Centre()), "places in an image that was resized in float"),
    ],
    ids=["another size", "another shape", "nothing", "floats of Pillow's resize",
         "whole numbers of a float resize", "floats of another rule", "places in floats"],
)  # fmt: skip
def test_views_that_contradict_themselves_are_told(streams, fault):
    assert misfit(streams, None) == f"the views of stream whole have {fault}"


@pytest.mark.parametrize("places", [Centre(), Five(14), Ten(), Tiles(), Cover(), RANDOM.places])
def test_squares_of_the_image_itself_are_whole_numbers(places):
    assert StreamViews(224, "uint8", places=places).fault is None
    assert StreamViews(224, "float32", places=places).fault == "views of type float32"


# --- bundles --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda m: m.update(aggregator=None), "there is no aggregator"),
        (lambda m: m["streams"].pop("global"), "the aggregator graph's inputs and outputs"),
        (lambda m: views_of(m, "local").update(dtype="float32"), "views of type float32"),
        (lambda m: views_of(m, "global")["resize"].update(side=256), "does not end at 224x224"),
        (lambda m: views_of(m, "local").update(size=256), "the local graph's inputs and outputs"),
        (lambda m: views_of(m, "local").update(places={"kind": "guided", "by": "nobody"},
                                               dtype="float32"), "guided by nobody"),
        (lambda m: m.update(streams=dict(reversed(m["streams"].items()))),
         "the aggregator graph's inputs and outputs"),
        (lambda m: graph_of(m, "aggregator")["inputs"].pop(), "the aggregator graph's inputs"),
    ],
)  # fmt: skip
def test_a_bundle_that_does_not_fit_is_refused(edit, sentence, copied_bundle):
    change(copied_bundle, edit)
    found = refusal(copied_bundle)
    assert sentence in found
    assert found.endswith("; export the bundle again.")


def test_what_a_manifest_says_is_read_as_it_was_written(vit_bundle):
    manifest = vit_bundle.manifest
    assert parse_manifest(manifest.encode()) == manifest
    assert manifest.roles == ("global", "local", "aggregator")
    assert [manifest.graph(role).file for role in manifest.roles] == [
        "global.onnx", "local.onnx", "aggregator.onnx"
    ]  # fmt: skip
    assert manifest.views == ViewSpec(glass_views(224, 10).streams)
    assert {name: stream.width for name, stream in manifest.streams.items()} == {
        "global": 128, "local": 128
    }  # fmt: skip


def test_places_in_the_image_as_it_is_go_with_no_resize():
    resize = Resize("pillow-bilinear", "short-side", 8)
    for places, dtype in ((Stratified(2, 4), "uint8"), (Guided("whole"), "float32")):
        views = StreamViews(8, dtype, resize=resize, places=places)
        assert views.fault == "places in the image as it is, and a resize"

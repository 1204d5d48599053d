"""Judges images by features of their views, however many views each image has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..engines.base import Engine, Float32
from ..machine.timings import Timings
from ..views.batch import Draw, Pixels, ViewInfo, Views
from ..views.guided import GUIDED_VIEWS, guided_views, guided_windows
from ..views.placement import Placement
from ..views.spec import ViewSpec
from .influence import Influence
from .recording import Judged, rows_of


class Said(NamedTuple):
    """What the model says of one image: logits ``(2,)``, attention ``(views,)`` if it has one."""

    logits: Float32
    attention: Float32 | None


def judge_features(
    engine: Engine, images: Sequence[Mapping[str, Float32]], timings: Timings
) -> list[Said]:
    """Judge images by features of each stream, ``(views, D)``; those with as many views together.

    Raises:
        EngineError: the engine failed.
    """
    several = engine.several
    by_count: dict[int, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        by_count[1 if several is None else len(image[several])].append(place)
    found: dict[int, Said] = {}
    for places in by_count.values():
        some = [images[place] for place in places]
        features = {
            name: (np.stack if name == several else np.concatenate)([each[name] for each in some])
            for name in some[0]
        }
        with timings.stage("aggregate"):
            judged = engine.aggregate(features)
        found |= zip(places, map(Said, *rows_of(judged)), strict=True)
    return [found[place] for place in range(len(images))]


def features_of(
    engine: Engine, stream: str, views: Sequence[Pixels], timings: Timings
) -> list[Float32]:
    """Compute the features of several images' views ``(n, p, p, 3)`` together, ``(n, D)`` each.

    Raises:
        EngineError: the engine failed.
    """
    with timings.stage("infer"):
        features = engine.features(stream, np.concatenate(views))
    return np.split(features, np.cumsum([len(own) for own in views])[:-1])


class Joining:
    """Judges images by the features of their views.

    The last stage of a pipeline where the number of views varies, where another stream chooses
    their places, or where features are needed once more, for each crop's influence.
    """

    def __init__(self, engine: Engine, spec: ViewSpec, influence: Influence | None = None) -> None:
        """Judge with an engine; with ``influence`` also without each crop."""
        if spec.several is None:
            raise ValueError("no stream has several views")
        self._engine, self._spec, self._several = engine, spec, spec.several
        self._influence = influence

    def judge(self, infos: Sequence[ViewInfo], views: Views, timings: Timings) -> list[Judged]:
        """Judge images.

        Args:
            infos: what their views come from, and those that are in no batch.
            views: of the streams that have one.
            timings: where the time is added.

        Raises:
            EngineError: the engine failed.
        """
        with timings.stage("infer"):
            outputs = {name: self._engine.outputs(name, views[name]) for name in self._spec.singles}
        with timings.stage("views"):
            laid = views.get(self._several)
            placed = (
                place_views(infos, outputs, self._spec)
                if laid is None
                else list(map(_laid, infos, laid))
            )
        own = features_of(self._engine, self._several, [each.views for each in placed], timings)
        images = [
            {
                name: own[row] if name == self._several else outputs[name][0][row : row + 1]
                for name in self._spec.streams
            }
            for row in range(len(infos))
        ]
        said = judge_features(self._engine, images, timings)
        judged = list(map(_judged, infos, placed, said))
        if self._influence is None:
            return judged
        return [
            self._influence.added(each, features, timings)
            for each, features in zip(judged, images, strict=True)
        ]


class Placed(NamedTuple):
    """An image's views ``(n, p, p, 3)``, and where in the image they lie, if they do."""

    views: Pixels
    placements: tuple[Placement, ...]


def place_views(
    infos: Sequence[ViewInfo], outputs: Mapping[str, Sequence[Float32]], spec: ViewSpec
) -> list[Placed]:
    """Return the views of each image that are in no batch.

    Args:
        infos: what they come from.
        outputs: of the other streams' graphs, for places that one of them chooses.
        spec: how the views of the bundle are made.
    """
    if spec.guided is None:
        return [_already_made(info) for info in infos]
    _, *maps = outputs[spec.guided.by]
    return [
        _guided(info, scores, spec.crop_size) for info, *scores in zip(infos, *maps, strict=True)
    ]


def _laid(info: ViewInfo, views: Pixels) -> Placed:
    return Placed(views, info.draws[0].placements)


def _already_made(info: ViewInfo) -> Placed:
    if info.own is None:
        raise ValueError("the image's views were not made")
    return Placed(info.own, info.draws[0].placements)


def _guided(info: ViewInfo, scores: Iterable[Float32], size: int) -> Placed:
    if info.image is None:
        raise ValueError("the image's pixels were not kept")
    placements = guided_windows(info.height, info.width, [*scores])
    views = np.empty((GUIDED_VIEWS, size, size, 3), np.float32)
    guided_views(views, info.image, placements)
    return Placed(views, tuple(placements))


def _judged(info: ViewInfo, placed: Placed, said: Said) -> Judged:
    # Pixels would be kept until the record is made.
    draw = Draw(info.draws[0].seed, placed.placements)
    views = replace(info, own=None, image=None, draws=(draw,))
    return Judged(views, said.logits, said.attention, len(placed.views))

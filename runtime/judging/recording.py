"""Makes records from logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..bundle.bundle import Bundle
from ..engines.base import Engine, Float32, Judgement, class_probabilities
from ..machine.errors import EngineError, ImageError
from ..results.records import Crop, ErrorInfo, Failure, Record, Verdict
from ..streaming.intake import Origin
from ..views.batch import ViewInfo


class Judged(NamedTuple):
    """What the model says of one image: logits ``(2,)``, attention ``(crops,)`` if it has one.

    ``looked`` is how many views of several were looked at: ``views`` may have more crops, if these
    were enough. ``settled`` says whether they were, and is ``None`` where their number was fixed.
    ``influence`` ``(crops,)`` is by how much P(fake) would be lower without each crop, if that was
    asked for.
    """

    views: ViewInfo
    logits: Float32
    attention: Float32 | None
    looked: int
    settled: bool | None = None
    influence: Float32 | None = None

    @property
    def finite(self) -> bool:
        """Whether all of it is numbers."""
        parts = [self.logits] if self.attention is None else [self.logits, self.attention]
        return all(bool(np.isfinite(each).all()) for each in parts)


def rows_of(found: Judgement) -> tuple[Float32, Sequence[Float32 | None]]:
    """Return the logits and the attention of each image."""
    attention = [None] * len(found.logits) if found.attention is None else [*found.attention]
    return found.logits, attention


class Recorder:
    """Writes down what a bundle says on an engine."""

    def __init__(self, bundle: Bundle, engine: Engine, threshold: float) -> None:
        """Call an image fake from a P(fake) of ``threshold`` on."""
        self._manifest, self._engine, self._threshold = bundle.manifest, engine, threshold
        self._bundle_name = bundle.name

    def record(self, origin: Origin, outcome: Judged | ImageError) -> Record:
        """Return the record of an image that was judged, or could not be."""
        if isinstance(outcome, ImageError):
            return _failure(origin, outcome)
        if not outcome.finite:
            return _failure(origin, EngineError("the engine gave numbers that are not finite."))
        return self._verdict(origin, outcome)

    def _verdict(self, origin: Origin, judged: Judged) -> Verdict:
        views, manifest, classes = judged.views, self._manifest, self._manifest.classes
        (draw,) = views.draws
        placements = draw.placements[: judged.looked]
        probabilities = class_probabilities(judged.logits, manifest)
        score = _shortest(probabilities[manifest.fake_index])
        real_class = classes[1 - manifest.fake_index]
        return Verdict(
            path=origin.path,
            verdict=manifest.fake_class if score >= self._threshold else real_class,
            score=score,
            probabilities=dict(zip(classes, map(_shortest, probabilities), strict=True)),
            logits=dict(zip(classes, map(_shortest, judged.logits), strict=True)),
            views={
                name: judged.looked if name == manifest.views.several else 1
                for name in manifest.streams
            },
            crops=tuple(
                Crop(*place, attention=share, influence=moved)
                for place, share, moved in zip(
                    placements,
                    _of_crops(judged.attention, len(placements)),
                    _of_crops(judged.influence, len(placements)),
                    strict=True,
                )
            ),
            settled=judged.settled,
            width=views.width,
            height=views.height,
            seed=draw.seed,
            bundle=self._bundle_name,
            engine=self._engine.description,
            precision=self._engine.precision,
            file=origin.file,
            provenance=views.provenance,
            damaged=views.damaged,
        )


def _of_crops(values: Float32 | None, crops: int) -> list[float] | list[None]:
    """Return a number of each crop, where the model gives any."""
    return [None] * crops if values is None or not crops else [*map(_shortest, values)]


def _shortest(value: np.floating[Any]) -> float:
    """Return the shortest decimal that is the same float32, for readable records."""
    return float(str(np.float32(value)))


def _failure(origin: Origin, error: ImageError | EngineError) -> Failure:
    info = ErrorInfo(type(error).__name__, str(error))
    return Failure(path=origin.path, error=info, file=origin.file)

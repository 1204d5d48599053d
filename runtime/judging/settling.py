"""Judges images by as many crops as their verdicts need, wave after wave.

Every image is judged by its first crops. Those that the stopping rule does not settle come back
with the next ones, gathered in batches of their own; features that are there are not computed
again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..bundle.stopping import Stopping, logit
from ..engines.base import Engine, Float32, class_margins
from ..machine.errors import InputError
from ..machine.timings import Timings
from ..streaming.orders import More
from ..views.batch import ViewInfo, Views
from ..views.later import Crops
from .influence import Influence
from .joining import Said, features_of, judge_features
from .options import AUTO_CROPS, DetectorOptions
from .recording import Judged


@dataclass
class _Open:
    """An image that is not settled.

    ``others`` are the features of its other views by stream, ``(1, D)`` each; ``features``
    ``(n, D)`` those of the crops that were looked at. ``step`` is how many it is judged by next, if
    it has places for so many. ``influence`` is asked what each crop did, once it is settled.
    """

    views: ViewInfo
    others: Mapping[str, Float32]
    features: Float32
    step: int
    influence: Influence | None

    @property
    def left(self) -> int:
        """How many crops were not looked at."""
        return len(self.views.draws[0].placements) - len(self.features)

    @property
    def rows(self) -> int:
        """How many of these come next."""
        return min(self.step - len(self.features), self.left)

    def next_crops(self) -> Crops:
        """Return those that come next, after the first ones, ``(rows, p, p, 3)``."""
        if self.views.later is None:
            raise ValueError("all crops of the image have been looked at")
        return self.views.later.take(self.rows)


def stopping_rule(options: DetectorOptions, bundle: Bundle) -> Stopping | None:
    """Return the rule to judge by; ``None`` for a fixed number of crops.

    Raises:
        InputError: the bundle has none, or one for another threshold.
    """
    if options.crops != AUTO_CROPS:
        return None
    rule = bundle.manifest.stopping
    if not bundle.manifest.views.drawn:
        raise InputError(
            f"crops {AUTO_CROPS} draws as many as a verdict needs, and the detector of bundle "
            f"{bundle.name} draws none: leave the crops out."
        )
    if rule is None:
        raise InputError(
            f"bundle {bundle.name} has no stopping rule, which crops {AUTO_CROPS} needs: make a "
            "calibrated bundle with glass-calibrate, or give a number of crops."
        )
    if options.threshold not in (None, rule.threshold):
        raise InputError(
            f"the stopping rule of bundle {bundle.name} was made for a threshold of "
            f"{rule.threshold:g}, not {options.threshold:g}: leave the threshold out, or give a "
            "number of crops."
        )
    return rule


class Settling:
    """A stopping rule at work on an engine; the last stage of a pipeline."""

    def __init__(self, engine: Engine, manifest: Manifest, rule: Stopping) -> None:
        self._engine, self._manifest, self._rule = engine, manifest, rule
        several = manifest.views.several
        if several is None:
            raise ValueError("a stopping rule needs a stream of several views")
        self._several = several
        self._border = manifest.temperature * logit(rule.threshold)
        self._crop_area = manifest.views.crop_size**2

    def begin(
        self,
        infos: Sequence[ViewInfo],
        views: Views,
        timings: Timings,
        *,
        influence: Influence | None = None,
    ) -> list[Judged | More]:
        """Judge images by their first crops.

        Args:
            infos: what their views come from.
            views: of every stream; of several the first of their sequences.
            timings: where the time is added.
            influence: judges those that are settled also without each crop.

        Raises:
            EngineError: the engine failed.
        """
        with timings.stage("infer"):
            others = {
                name: self._engine.features(name, pixels)
                for name, pixels in views.items()
                if name != self._several
            }
        none = np.empty((0, self._manifest.streams[self._several].width), np.float32)
        step = self._rule.steps[0]
        images = [
            _Open(
                views=info,
                others={name: each[row : row + 1] for name, each in others.items()},
                features=none,
                step=step,
                influence=influence,
            )
            for row, info in enumerate(infos)
        ]
        first = [own[: image.rows] for image, own in zip(images, views[self._several], strict=True)]
        return self._judge(images, first, timings)

    def go_on(self, waiting: Sequence[More], timings: Timings) -> list[Judged | More]:
        """Judge images by more crops, see :meth:`begin`."""
        images: list[_Open] = [more.state for more in waiting]
        return self._judge(images, [image.next_crops() for image in images], timings)

    def _judge(
        self, images: Sequence[_Open], crops: Sequence[Crops], timings: Timings
    ) -> list[Judged | More]:
        """Judge images by these crops, too."""
        for image, new in zip(
            images, features_of(self._engine, self._several, crops, timings), strict=True
        ):
            image.features = np.concatenate([image.features, new])
        features = [
            {name: image.others.get(name, image.features) for name in self._manifest.streams}
            for image in images
        ]
        said = judge_features(self._engine, features, timings)
        outcomes = map(self._outcome, images, said)
        return [
            image.influence.added(outcome, own, timings)
            if image.influence is not None and isinstance(outcome, Judged)
            else outcome
            for image, outcome, own in zip(images, outcomes, features, strict=True)
        ]

    def _outcome(self, image: _Open, said: Said) -> Judged | More:
        margin = float(class_margins(said.logits, self._manifest)) - self._border
        area = image.views.width * image.views.height / self._crop_area
        enough = abs(margin) >= self._rule.tau(image.step, area)
        decided = enough or not math.isfinite(margin)
        if decided or not image.left:
            looked = len(image.features)
            everything = looked < self._rule.most_crops
            views = replace(image.views, later=None)  # it would be kept until the record is made
            return Judged(views, *said, looked, settled=decided or everything)
        image.step = self._rule.step_after(image.step)
        return More(image.rows, image)

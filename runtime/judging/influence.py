"""How each crop moves P(fake): the aggregator judges the image again without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..bundle.manifest import Manifest
from ..engines.base import Engine, Float32, class_probabilities
from ..machine.timings import Timings
from .recording import Judged

Float64: TypeAlias = npt.NDArray[np.float64]

_MOST_FLOATS = 1 << 24  # of features given to the engine at once: 64 MB


class Influence:
    """Leaves out one crop after the other; nothing is approximated.

    Crops interact, so their influences do not add up to P(fake).
    """

    def __init__(self, engine: Engine, manifest: Manifest) -> None:
        self._engine, self._manifest = engine, manifest

    def added(self, judged: Judged, features: Mapping[str, Float32], timings: Timings) -> Judged:
        """Say of an image that was judged by these features what each of its crops did.

        Args:
            judged: what the model says of all of them.
            features: by stream, ``(views, D)``.
            timings: where the time is added.

        Raises:
            EngineError: the engine failed.
        """
        several = self._manifest.views.several
        if several is None or len(features[several]) < 2:
            return judged  # without its only crop there is nothing to judge
        crops = features[several]
        at_once = max(1, _MOST_FLOATS // crops.size)
        found = []
        for first in range(0, len(crops), at_once):
            left_out = range(first, min(first + at_once, len(crops)))
            without = np.stack([np.delete(crops, each, axis=0) for each in left_out])
            with timings.stage("aggregate"):
                said = self._engine.aggregate(
                    {
                        name: without if name == several else np.repeat(own, len(left_out), axis=0)
                        for name, own in features.items()
                    }
                )
            found.append(self._score(said.logits))
        influence = self._score(judged.logits) - np.concatenate(found)
        if not np.isfinite(influence).all():
            return judged  # a verdict is kept, whatever becomes of this
        return judged._replace(influence=influence.astype(np.float32))

    def _score(self, logits: Float32) -> Float64:
        """Return P(fake) of logits ``(..., 2)``."""
        score: Float64 = class_probabilities(logits, self._manifest)[..., self._manifest.fake_index]
        return score

"""What contenders say of some images; without PyTorch, so that bundles' processes lack it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ...runtime.bundle.bundle import Bundle
from ...runtime.judging.detector import Detector
from ...runtime.judging.options import DetectorOptions


class Judged(NamedTuple):
    """How long some images took, from their files to P(fake), these, and what computed them."""

    seconds: float
    scores: tuple[float, ...]
    precision: str
    engine: str = "PyTorch"


class Judge(Protocol):
    """Judges images, from their files to P(fake)."""

    def judge(self, paths: Sequence[str]) -> Judged: ...


class BundleRunner:
    """A bundle that judges as ``glass-run`` does; lives in a process of its own."""

    def __init__(self, bundle: Bundle, options: DetectorOptions) -> None:
        """Load the graphs.

        Raises:
            EngineError: the engine cannot run the bundle.
        """
        self._detector = Detector(bundle, options)

    def judge(self, paths: Sequence[str]) -> Judged:
        """Judge images.

        Raises:
            ImageError: one cannot be judged.
        """
        started = time.perf_counter()
        verdicts = self._detector.detect(paths)
        seconds = time.perf_counter() - started
        scores = tuple(verdict.score for verdict in verdicts)
        return Judged(seconds, scores, self._detector.precision, self._detector.engine)

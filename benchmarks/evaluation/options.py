"""How ``glass-eval`` judges."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.judging.options import DEFAULT_BATCH_SIZE


@dataclass(frozen=True)
class EvaluationOptions:
    """How bundles are evaluated.

    Attributes:
        seeds: every image is judged with the seeds 0 to ``seeds - 1``.
        crops: crops per image; ``None`` takes the bundles' number.
        threshold: P(fake) from which an image is called fake; ``None`` takes the bundles'.
        engine: ``auto`` or an engine's name.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: the most views given to the engine at once, and images in a batch.
        threads: the engine's threads on a CPU; 0 takes every CPU available.
    """

    seeds: int = 1
    crops: int | None = None
    threshold: float | None = None
    engine: str = "auto"
    device: str = "auto"
    batch_size: int = DEFAULT_BATCH_SIZE
    threads: int = 0

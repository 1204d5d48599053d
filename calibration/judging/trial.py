"""Measures on a few images how a changed backbone graph moves the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnxruntime
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Role
from ...runtime.engines.base import Array, Float32
from ...runtime.engines.onnxruntime import session_options
from ...runtime.judging.stream import PreparedBatch
from ...runtime.machine.cpus import available_cpus

BACKBONES: tuple[Role, Role] = ("global", "local")
_Graph: TypeAlias = Callable[[Array], Float32]
_BATCH = 8
_STEEPEST = 0.25  # slope of the logistic function at 0


@dataclass(frozen=True)
class Outcome:
    """How far verdicts moved.

    P(fake) hardly moves where it is near 0 or 1, as on images like those of the training, which
    says nothing about close verdicts. Changes are therefore given as they would be at P(fake) 0.5,
    where it moves most: a quarter of the change of the margin (the logit of fake minus that of
    real).

    Attributes:
        logit_error: mean absolute change of the logits.
        mean_change: mean absolute change of P(fake) at 0.5.
        largest_change: largest absolute change of P(fake) at 0.5. No P(fake) moved further.
    """

    logit_error: float
    mean_change: float
    largest_change: float


class Trial:
    """FP32's features and logits on some images, with which changed graphs are compared.

    One backbone may be changed while the other stays in FP32, so that errors have one cause. ONNX
    Runtime's CPU runs the graphs. It computes FP16 and BF16 in another type, or not at all: give
    simulations in FP32.
    """

    def __init__(self, bundle: Bundle, views: PreparedBatch) -> None:
        """Run the FP32 bundle on the views once."""
        images, crops = views.crops.shape[:2]
        self.images = images
        self._views = {
            "global": views.overviews,
            "local": views.crops.reshape(images * crops, *views.crops.shape[2:]),
        }
        self._aggregator = _session(str(bundle.graph_path("aggregator")))
        self._features = {
            role: self._run(role, _onnxruntime(str(bundle.graph_path(role)))) for role in BACKBONES
        }
        self._logits = self._aggregate(self._features)

    def outcome(self, changed: Mapping[Role, ModelProto]) -> Outcome:
        """Judge with some backbones replaced by other graphs that hold their weights."""
        features = dict(self._features)
        for role, model in changed.items():
            features[role] = self._run(role, _onnxruntime(model.SerializeToString()))
        errors = self._aggregate(features) - self._logits
        with np.errstate(invalid="ignore"):  # overflow gives NaN, which passes no limit
            # The order of the two logits does not matter for the size of their difference.
            changes = _STEEPEST * np.abs(errors[:, 0] - errors[:, 1])
        return Outcome(
            logit_error=float(np.abs(errors).mean()),
            mean_change=float(changes.mean()),
            largest_change=float(changes.max()),
        )

    def _run(self, role: Role, graph: _Graph) -> Float32:
        views = self._views[role]
        parts = [graph(views[start : start + _BATCH]) for start in range(0, len(views), _BATCH)]
        return np.concatenate(parts)

    def _aggregate(self, features: Mapping[Role, Float32]) -> Float32:
        local = features["local"].reshape(self.images, -1, features["local"].shape[-1])
        values = {"global_features": features["global"], "local_features": local}
        logits: Float32 = self._aggregator.run(["logits"], values)[0]
        return logits


def _onnxruntime(model: str | bytes) -> _Graph:
    session = _session(model)
    name = session.get_inputs()[0].name

    def run(views: Array) -> Float32:
        features: Float32 = session.run(None, {name: views})[0]
        return features

    return run


def _session(model: str | bytes) -> onnxruntime.InferenceSession:
    settings = session_options(available_cpus())
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

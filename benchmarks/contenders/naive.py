"""What most would write around an exported model: ``cv2.imread``, ``cv2.resize``, a session.

It is given the same crops and the same FP32 graphs as glass-edge, so that what differs is
how images become views.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.streams import Role
from ...runtime.engines.base import Float32, softmax
from ...runtime.machine.errors import EngineError
from ..measuring.clock import StageClock
from ..views.libraries import opencv_crops
from .work import Judged, Loaded, Photo, Photos, Setup

if TYPE_CHECKING:
    import onnxruntime as ort

_Views: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class NaiveContender:
    """A bundle's graphs on ONNX Runtime as it comes, one thread of Python, image by image."""

    bundle: Bundle
    name: str = "naive: OpenCV, ONNX Runtime FP32"

    def open(self, setup: Setup) -> Loaded:
        """Load the graphs, see :meth:`.work.Contender.open`."""
        return _LoadedNaive(self.bundle, setup)


# In the order in which they are wanted. The wheel's TensorRT provider is left out: without
# TensorRT's own libraries it prints a page and falls back to these.
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class PlainGraphs:
    """The three graphs of a GLASS as sessions with ONNX Runtime's defaults.

    Attributes:
        engine: the library and its version.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Load every graph.

        Raises:
            EngineError: ONNX Runtime is not installed.
        """
        try:
            import onnxruntime
        except ImportError:
            raise EngineError(
                "ONNX Runtime is not installed: pip install 'glass-edge[cpu]'."
            ) from None
        self.engine = f"onnxruntime {onnxruntime.__version__}"
        self._fake = bundle.manifest.fake_index
        there = onnxruntime.get_available_providers()
        providers = [name for name in PROVIDERS if name in there]
        self._sessions: dict[Role, ort.InferenceSession] = {
            role: onnxruntime.InferenceSession(str(bundle.graph_path(role)), providers=providers)
            for role in bundle.manifest.roles
        }

    def score(self, overview: npt.NDArray[np.float32], crops: npt.NDArray[np.uint8]) -> float:
        """Return P(fake) by a global view ``(1, p, p, 3)`` and crops ``(n, p, p, 3)``, RGB."""
        return self.aggregate(*self.features(overview, crops))

    def features(
        self, overview: npt.NDArray[np.float32], crops: npt.NDArray[np.uint8]
    ) -> tuple[Float32, Float32]:
        """Return the features of a global view ``(1, D)`` and of crops ``(n, D)``."""
        (global_features,) = self._sessions["global"].run(None, {"pixels": overview})
        (local_features,) = self._sessions["local"].run(None, {"pixels": crops})
        return global_features, local_features

    def aggregate(self, global_features: Float32, local_features: Float32) -> float:
        """Return P(fake) by features."""
        features = {"global_features": global_features, "local_features": local_features[None]}
        logits, _ = self._sessions["aggregator"].run(None, features)
        return float(softmax(logits)[0, self._fake])


class _LoadedNaive:
    def __init__(self, bundle: Bundle, setup: Setup) -> None:
        self._graphs, self._side = PlainGraphs(bundle), setup.views.crop_size

    def judge(self, photos: Photos) -> Judged:
        """Judge one image after the other."""
        clock = StageClock()
        started = time.perf_counter()
        scores = tuple(self._judge(*self._views(photo, clock), clock) for photo in photos)
        return Judged(
            engine=self._graphs.engine,
            precision="fp32",
            scores=scores,
            placements=tuple(photo.placements for photo in photos),
            seconds=time.perf_counter() - started,
            stages=clock.seconds,
        )

    def batch(self, photos: Photos) -> Callable[[], object]:
        """Return the call that judges all images, one after the other."""
        views = [self._views(photo, StageClock()) for photo in photos]
        return lambda: [self._judge(*each, StageClock()) for each in views]

    def _views(self, photo: Photo, clock: StageClock) -> _Views:
        """Return a global view ``(1, p, p, 3)`` and crops ``(n, p, p, 3)``, RGB."""
        bgr = cv2.imread(photo.path)
        if bgr is None:
            raise EngineError(f"cv2.imread cannot read {photo.path}.")
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        clock.done("decode")
        overview = cv2.resize(rgb, (self._side, self._side), interpolation=cv2.INTER_LINEAR)
        crops = opencv_crops(rgb, photo.placements, self._side)
        clock.done("views")
        return overview[None].astype(np.float32), crops

    def _judge(
        self, overview: npt.NDArray[np.float32], crops: npt.NDArray[np.uint8], clock: StageClock
    ) -> float:
        features = self._graphs.features(overview, crops)
        clock.done("infer")
        score = self._graphs.aggregate(*features)
        clock.done("aggregate")
        return score

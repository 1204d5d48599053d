"""Judges some images with changed backbones, before there is a bundle of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Role
from ...runtime.engines.base import Array, BackboneRole, Float32
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.views.batch import DrawnCrops, Overviews
from .graphs import BATCH, open_graph, open_session
from .yardstick import SHIFT_GOOD, Deviation, Margins, deviation, draw_noise

ERROR_AIMED_AT = 0.2  # of the draw noise; 0.25 is good, and other images may show more
BACKBONES: tuple[BackboneRole, BackboneRole] = ("global", "local")


@dataclass(frozen=True)
class SingleView:
    """One view of a trial: of which image, which of its first draw's, and ``(1, p, p, 3)``."""

    role: BackboneRole
    image: int
    place: int
    pixels: Array


class Trial:
    """FP32's features and margins on some images, with which changed graphs are compared.

    One backbone may be changed while the other stays in FP32, so that errors have one cause. The
    CPU computes FP16 and BF16 in another type, or not at all: give simulations in FP32.

    Attributes:
        noise: how much the margins vary over the draws.
    """

    def __init__(
        self,
        bundle: Bundle,
        overviews: Overviews,
        crops: DrawnCrops,
        progress: Progress = silent,
    ) -> None:
        """Run the FP32 bundle on the views once.

        Args:
            bundle: in FP32.
            overviews: global views, float32 ``(n, p, p, 3)``.
            crops: of several draws each, uint8 ``(n, draws, crops, p, p, 3)``.
            progress: is told how far the work has come.
        """
        self._progress = progress
        self._shape: tuple[int, int, int] = crops.shape[:3]
        self._views: dict[Role, Array] = {
            "global": overviews,
            "local": crops.reshape(-1, *crops.shape[3:]),
        }
        self._fake = bundle.manifest.fake_index
        self._aggregator = open_session(str(bundle.graph_path("aggregator")))
        self._features = {
            role: self._run(role, onnx.load(bundle.graph_path(role)), f"the {role} graph in FP32")
            for role in BACKBONES
        }
        self._margins = self.margins(self._features)
        self.noise = draw_noise(self._margins)

    @property
    def images(self) -> int:
        """The number of images."""
        return self._shape[0]

    def deviation(
        self, changed: Mapping[BackboneRole, ModelProto], what: str = "trying"
    ) -> Deviation:
        """Judge with some backbones replaced by other graphs that hold their weights.

        ``what`` is shown while it lasts.
        """
        features = dict(self._features)
        for role, model in changed.items():
            features[role] = self._run(role, model, f"{what}, {role} graph")
        with np.errstate(invalid="ignore"):  # overflow gives NaN, which is not good
            return deviation(self._margins, self.margins(features), self.noise)

    def views_of(self, image: int) -> dict[BackboneRole, Array]:
        """Return an image's views: its global one, and the crops of its first draw."""
        draws, crops = self._shape[1:]
        first = image * draws * crops
        return {
            "global": self._views["global"][image : image + 1],
            "local": self._views["local"][first : first + crops],
        }

    def views_per_image(self, role: BackboneRole) -> int:
        """Return how many views of an image a backbone looks at for one verdict."""
        return 1 if role == "global" else self._shape[2]

    def single_views(self, role: BackboneRole, most: int) -> list[SingleView]:
        """Return up to so many of a backbone's views: of different images as long as there are."""
        each = self.views_per_image(role)
        chosen = []
        for number in range(min(most, self.images * each)):
            image = number % self.images
            place = (number // self.images + image) % each
            pixels = self.views_of(image)[role][place : place + 1]
            chosen.append(SingleView(role, image, place, pixels))
        return chosen

    def margins_of_view(self, view: SingleView, features: Float32) -> Margins:
        """Return the margins of an image's first draw with other features of one view.

        Args:
            view: which.
            features: ``(n, D)``.

        Returns:
            ``(n,)``.
        """
        count, draws, crops = len(features), *self._shape[1:]
        first = view.image * draws * crops
        local = np.repeat(self._features["local"][np.newaxis, first : first + crops], count, axis=0)
        if view.role == "global":
            return self.aggregate(features, local)
        local[:, view.place] = features
        overview = self._features["global"][view.image]
        return self.aggregate(np.repeat(overview[np.newaxis], count, axis=0), local)

    def margins_of_image(self, image: int, role: BackboneRole, features: Float32) -> Margins:
        """Return the margins of an image's first draw with other features of one backbone.

        Args:
            image: which.
            role: the backbone.
            features: ``(n, views, D)``: one global view, or all crops of the draw.

        Returns:
            ``(n,)``.
        """
        count, draws, crops = len(features), *self._shape[1:]
        first = image * draws * crops
        overview = self._features["global"][image]
        local = self._features["local"][first : first + crops]
        if role == "global":
            return self.aggregate(features[:, 0], np.repeat(local[np.newaxis], count, axis=0))
        return self.aggregate(np.repeat(overview[np.newaxis], count, axis=0), features)

    def margins(self, features: Mapping[BackboneRole, Float32]) -> Margins:
        """Aggregate features of all views to margins ``(n, draws)``."""
        images, draws, crops = self._shape
        local = features["local"].reshape(images * draws, crops, -1)
        overviews = features["global"].repeat(draws, axis=0)
        return self.aggregate(overviews, local).reshape(images, draws)

    def aggregate(self, overviews: Float32, crops: Float32) -> Margins:
        """Return margins ``(n,)`` from features ``(n, D)`` and ``(n, crops, D)``."""
        values = {"global_features": overviews, "local_features": crops}
        logits: Float32 = self._aggregator.run(["logits"], values)[0]
        wide = logits.astype(np.float64)
        margins: Margins = wide[:, self._fake] - wide[:, 1 - self._fake]
        return margins

    def _run(self, role: BackboneRole, model: ModelProto, what: str) -> Float32:
        graph, views = open_graph(model), self._views[role]
        starts = range(0, len(views), BATCH)
        parts = [
            graph(views[start : start + BATCH])
            for start in track(starts, what, len(starts), self._progress)
        ]
        return np.concatenate(parts)


def excess(found: Deviation) -> float:
    """How many times what is aimed at a trial's error or shift is, the larger; NaN counts as inf.

    At 1 or below, the change is likely to be good on other images, too.
    """
    larger = max(found.error / ERROR_AIMED_AT, abs(found.shift) / SHIFT_GOOD)
    return larger if np.isfinite(found.error) else np.inf


def holds(found: Deviation) -> bool:
    """Whether a trial makes it likely that the change is good on other images, too."""
    return excess(found) <= 1.0

"""Judges some images with changed graphs, before there is a bundle of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.streams import AGGREGATOR, Role, features_name
from ...runtime.engines.base import Array, Float32
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.views.batch import DrawnViews
from .graphs import BATCH, open_graph, open_session
from .yardstick import SHIFT_GOOD, Deviation, Margins, deviation, draw_noise

ERROR_AIMED_AT = 0.2  # of the draw noise; 0.25 is good, and other images may show more


@dataclass(frozen=True)
class SingleView:
    """One view of a trial: of which image, which of its first draw's, and ``(1, p, p, 3)``."""

    role: Role
    image: int
    place: int
    pixels: Array


class Trial:
    """FP32's features and margins on some images, with which changed graphs are compared.

    One stream's graph may be changed while the others stay in FP32, so that errors have one cause.
    The CPU computes FP16 and BF16 in another type, or not at all: give simulations in FP32.

    Attributes:
        roles: the streams.
        noise: how much the margins vary over the draws.
    """

    def __init__(self, bundle: Bundle, views: DrawnViews, progress: Progress = silent) -> None:
        """Run the FP32 bundle on the views once.

        Args:
            bundle: in FP32.
            views: of every stream, with several draws of what is drawn.
            progress: is told how far the work has come.
        """
        manifest = bundle.manifest
        self._progress = progress
        self.roles: tuple[Role, ...] = tuple(manifest.streams)
        self._several = manifest.views.several
        self.images = len(next(iter(views.values())))
        self._draws, self._crops = 1, 1
        if self._several is not None:
            self._draws, self._crops = views[self._several].shape[1:3]
        self._views: dict[Role, Array] = {
            role: pixels.reshape(-1, *pixels.shape[-3:]) for role, pixels in views.items()
        }
        self._fake = manifest.fake_index
        self._aggregator = None
        if manifest.aggregator is not None:
            self._aggregator = open_session(str(bundle.graph_path(AGGREGATOR)))
        self._features = {
            role: self._run(role, onnx.load(bundle.graph_path(role)), f"the {role} graph in FP32")
            for role in self.roles
        }
        self._margins = self.margins(self._features)
        self.noise = draw_noise(self._margins)

    def deviation(self, changed: Mapping[Role, ModelProto], what: str = "trying") -> Deviation:
        """Judge with some graphs replaced by others that hold their weights.

        ``what`` is shown while it lasts.
        """
        features = dict(self._features)
        for role, model in changed.items():
            features[role] = self._run(role, model, f"{what}, {role} graph")
        with np.errstate(invalid="ignore"):  # overflow gives NaN, which is not good
            return deviation(self._margins, self.margins(features), self.noise)

    def views_of(self, image: int) -> dict[Role, Array]:
        """Return an image's views, of the stream of several those of its first draw."""
        return {role: self._views[role][self._rows(role, image)] for role in self.roles}

    def views_per_image(self, role: Role) -> int:
        """Return how many views of an image a graph looks at for one verdict."""
        return self._crops if role == self._several else 1

    def single_views(self, role: Role, most: int) -> list[SingleView]:
        """Return up to so many of a stream's views: of different images as long as there are."""
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
        own = self._features[view.role][self._rows(view.role, view.image)]
        changed = np.repeat(own[np.newaxis], len(features), axis=0)
        changed[:, view.place] = features
        return self.margins_of_image(view.image, view.role, changed)

    def margins_of_image(self, image: int, role: Role, features: Float32) -> Margins:
        """Return the margins of an image's first draw with other features of one stream.

        Args:
            image: which.
            role: the stream.
            features: ``(n, views, D)``: one view, or all crops of the draw.

        Returns:
            ``(n,)``.
        """
        given = {}
        for name in self.roles:
            own = features
            if name != role:
                rows = self._features[name][self._rows(name, image)]
                own = np.repeat(rows[np.newaxis], len(features), axis=0)
            given[name] = own if name == self._several else own[:, 0]
        return self.aggregate(given)

    def margins(self, features: Mapping[Role, Float32]) -> Margins:
        """Aggregate features of all views to margins ``(n, draws)``."""
        given = {}
        for role, own in features.items():
            if role == self._several:
                given[role] = own.reshape(-1, self._crops, own.shape[-1])
            else:
                given[role] = own.repeat(self._draws, axis=0)
        return self.aggregate(given).reshape(self.images, self._draws)

    def aggregate(self, features: Mapping[Role, Float32]) -> Margins:
        """Return margins ``(n,)`` from features ``(n, D)``, of several views ``(n, crops, D)``."""
        if self._aggregator is None:
            (logits,) = features.values()
        else:
            values = {features_name(role): own for role, own in features.items()}
            logits = self._aggregator.run(["logits"], values)[0]
        wide = logits.astype(np.float64)
        margins: Margins = wide[:, self._fake] - wide[:, 1 - self._fake]
        return margins

    def _rows(self, role: Role, image: int) -> slice:
        """Return where an image's views lie, of the stream of several those of its first draw."""
        if role != self._several:
            return slice(image, image + 1)
        first = image * self._draws * self._crops
        return slice(first, first + self._crops)

    def _run(self, role: Role, model: ModelProto, what: str) -> Float32:
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

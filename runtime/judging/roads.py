"""By which road an image comes to its verdict: what is made of it, and what judges it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat, starmap

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..engines.base import Engine
from ..machine.timings import Timings
from ..streaming.orders import Judging, Look, Road
from ..streaming.sharing import LastStage, PipelineOptions
from ..views.batch import ViewInfo, Views
from .influence import Influence
from .joining import Joining
from .options import (
    DetectorOptions,
    images_together,
    sampling,
    views_together,
    within_memory,
)
from .recording import Judged, Recorder, rows_of
from .settling import Settling, stopping_rule


def threshold_of(options: DetectorOptions, manifest: Manifest) -> float:
    """Return P(fake) from which an image is called fake."""
    return manifest.threshold if options.threshold is None else options.threshold


class Roads:
    """What one engine can do with images, whatever each is asked for.

    Images that are asked the same, or only differ in their seeds, share batches.
    """

    def __init__(self, bundle: Bundle, engine: Engine, pipeline: PipelineOptions) -> None:
        """Judge with an engine, at the end of pipelines with these options."""
        self._bundle, self._engine, self._pipeline = bundle, engine, pipeline
        manifest = bundle.manifest
        self._influence = Influence(engine, manifest)
        rule = manifest.stopping
        self._settling = None if rule is None else Settling(engine, manifest, rule)
        self._ways: dict[tuple[bool, bool], Judging[Judged]] = {}

    def road(self, options: DetectorOptions) -> Road[Judged]:
        """Return the road of images that are judged with these options.

        Raises:
            InputError: the bundle's detector cannot be asked for these crops.
        """
        manifest = self._bundle.manifest
        rule = stopping_rule(options, self._bundle)
        views = sampling(options, manifest.views, rule)
        images = images_together(options, views_together(options, manifest, views))
        several = manifest.views.several
        if manifest.views.apart:
            # What waits to be judged is as large as the image: no more than one for each batch.
            images = 1
        elif rule is not None and several is not None:
            most = self._engine.largest[several]
            shared = replace(self._pipeline, images=images)
            images = within_memory(shared, self._engine.lanes, most, views.image_bytes).images
        look = Look(views, options.thumbnails, options.claims)
        way = (rule is not None, options.influence)
        if way not in self._ways:
            self._ways[way] = self._way(*way)
        return Road(look, images, self._ways[way])

    def recorder(self, options: DetectorOptions) -> Recorder:
        """Return what writes down how images were judged with these options."""
        threshold = threshold_of(options, self._bundle.manifest)
        return Recorder(self._bundle, self._engine, threshold)

    def last_stage(self, road: Road[Judged]) -> LastStage[Judged]:
        """Return what judges at the end of a pipeline whose images usually take this road."""
        lanes, on_host = self._engine.lanes, self._engine.on_host
        manifest = self._bundle.manifest
        together = not on_host or manifest.backbone.fixed_batch
        several = manifest.views.several
        if self._settling is None or several is None:
            return LastStage(lanes, on_host, together)
        batch = 1 if road.images == 1 else self._engine.largest[several]
        return LastStage(lanes, on_host, together, self._settling.go_on, batch)

    def _way(self, auto: bool, influence: bool) -> Judging[Judged]:
        spec = self._bundle.manifest.views
        wanted = self._influence if influence and spec.several else None
        if auto and self._settling is not None:
            return partial(self._settling.begin, influence=wanted)
        if spec.apart or wanted:
            return Joining(self._engine, spec, wanted).judge
        return partial(_judge, self._engine)


def _judge(
    engine: Engine, infos: Sequence[ViewInfo], views: Views, timings: Timings
) -> list[Judged]:
    """Judge images by all their views at once."""
    looked = 1 if engine.several is None else views[engine.several].shape[1]
    logits, attention = rows_of(engine.judge(views, timings))
    counts = repeat(looked, len(infos))
    return list(starmap(Judged, zip(infos, logits, attention, counts, strict=True)))

"""``glass-bench int8``: makers of INT8 graphs on the same bundle, images and crops."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ...calibration.errors import CalibrationError
from ...calibration.images import ImageSets
from ...calibration.int8.observe import calibration_views
from ...calibration.judging.comparison import (
    Candidate,
    Contender,
    Overflow,
    compare_contenders,
)
from ...calibration.judging.timed import Speed, measure_speeds
from ...calibration.making.variants import scratch_folder, write_variant
from ...calibration.options import CalibrationOptions
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.comparison import Comparison
from ...runtime.bundle.reference import stored_views
from ...runtime.images.reading import ImageSource
from ...runtime.machine.cache import CACHE_VARIABLE
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import EngineError, GlassError
from ...runtime.machine.progress import Progress, silent
from ..measuring.report import SCHEMA_VERSION
from ..measuring.samples import Refusal
from .choices import group_of
from .makers import Given, Maker
from .report import Int8Report, Int8Result
from .rounded import Products, count_products

_SEARCHED, _EVERY_LAYER = "glass-quantize", "glass-quantize-all"


@dataclass(frozen=True)
class _Entry:
    """A maker's bundle with its engine, and how it was made."""

    maker: Maker
    contender: Contender
    seconds: float
    products: Products

    @property
    def kept(self) -> int:
        return sum(map(len, self.contender.manifest.kept.values()))

    def result(self, comparison: Comparison, speed: Speed) -> Int8Result:
        name = self.maker.name
        return Int8Result(
            name=name,
            group=group_of(name),
            how=self.maker.how,
            seconds=self.seconds,
            products=self.products.all,
            in_int8=self.products.in_int8,
            comparison=comparison,
            speed=speed,
        )


def measure_int8(
    bundle: Bundle,
    sets: ImageSets,
    images: Sequence[ImageSource],
    makers: Sequence[Maker],
    *,
    options: CalibrationOptions,
    judgements: int,
    command: str,
    progress: Progress = silent,
) -> Int8Report:
    """Let all makers quantise a bundle, and compare what they made with FP32 in one run.

    A maker that fails, or whose graphs this machine's engine refuses, is a row of its own.

    Args:
        bundle: in FP32.
        sets: the images to calibrate on.
        images: to judge; none of those.
        makers: one or more.
        options: of ``glass-quantize``.
        judgements: the least number of images times draws.
        command: what the report says it was made by.
        progress: is told how far the work has come.

    Raises:
        CalibrationError: the images are unreadable or show too little, or no maker gave anything
            that runs here.
    """
    started = time.perf_counter()
    views = calibration_views(bundle, sets, progress)
    reading = time.perf_counter() - started
    given = Given(bundle, sets, views, options, progress)
    entries, refusals = _make_all(given, makers, reading)
    reference = Contender(Candidate(bundle))
    contenders = [entry.contender for entry in entries]
    found = compare_contenders(reference, contenders, images, judgements, progress)
    engines = [reference.engine, *(each.engine for each in contenders)]
    _, *speeds = measure_speeds(bundle, engines, progress)
    results = []
    for entry, comparison, speed in zip(entries, found, speeds, strict=True):
        if isinstance(comparison, Overflow):
            refusals.append(Refusal(entry.maker.name, f"{comparison}."))
        else:
            results.append(entry.result(comparison, speed))
    if not results:
        raise _nothing_runs(refusals)
    return Int8Report(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        bundle=bundle.name,
        bundle_digest=bundle.digest,
        backbone=bundle.manifest.backbone.name,
        calibrated_on=views.images,
        data=sets.digest,
        judged_on=results[0].comparison.images,
        notes=views.notes,
        results=tuple(results),
        refusals=tuple(refusals),
    )


def _make_all(
    given: Given, makers: Sequence[Maker], reading: float
) -> tuple[list[_Entry], list[Refusal]]:
    entries: list[_Entry] = []
    refusals: list[Refusal] = []
    for maker in makers:
        if maker.name == _EVERY_LAYER and _keeps_none(entries):
            continue  # it would be the same once more
        try:
            entries.append(_make(given, maker, reading))
        except GlassError as error:
            refusals.append(Refusal(maker.name, str(error)))
    if not entries:
        raise _nothing_runs(refusals)
    return entries, refusals


def _nothing_runs(refusals: Sequence[Refusal]) -> CalibrationError:
    first = refusals[0]
    return CalibrationError(
        f"no maker gave INT8 graphs that run here; the first, {first.name}: {first.reason}"
    )


def _keeps_none(entries: Sequence[_Entry]) -> bool:
    return any(entry.maker.name == _SEARCHED and not entry.kept for entry in entries)


def _make(given: Given, maker: Maker, reading: float) -> _Entry:
    """Make graphs, write a bundle of them for as long as engines load it, and see whether it runs.

    Raises:
        GlassError: one of these is not possible.
    """
    with _empty_cache():
        started = time.perf_counter()
        made = maker.make(given)
        seconds = time.perf_counter() - started
    if not maker.reads_images:
        seconds += reading
    counts = [count_products(model.graph) for model in made.graphs.values()]
    with given.progress(f"trying {maker.name}"), scratch_folder() as folder:
        bundle = write_variant(given.bundle, folder, made, "int8")
        contender = Contender(Candidate(bundle))
        _check_runs(contender, given.bundle)
    return _Entry(maker, contender, seconds, Products(*map(sum, zip(*counts, strict=True))))


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Let nothing that was measured before save a maker time."""
    before = os.environ.get(CACHE_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[CACHE_VARIABLE]
            if before is not None:
                os.environ[CACHE_VARIABLE] = before


def _check_runs(contender: Contender, bundle: Bundle) -> None:
    """Judge the reference views of the FP32 bundle.

    Raises:
        EngineError: the engine fails, or gives something that is no number.
    """
    logits = contender.engine.judge(stored_views(bundle)).logits
    if not np.isfinite(logits).all():
        raise EngineError("its graphs give numbers that are not finite.")

"""``glass-eval --crops auto``: what stopping rules are worth on labelled images."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from ...calibration.steadiness.curve import fixed_points, rule_curve, rule_point
from ...calibration.steadiness.images import labelled_images
from ...calibration.steadiness.rule import spend
from ...calibration.steadiness.scores import Truth
from ...calibration.steadiness.sequences import (
    SETTLED_CROPS,
    Margins,
    Sequences,
    measure_sequences,
    steps_up_to,
)
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.stopping import Stopping, logit
from ...runtime.commands.progress import on_console
from ...runtime.engines.base import EngineOptions
from ...runtime.engines.registry import open_engine
from ...runtime.finding.choosing import Skip, in_silence
from ...runtime.finding.files import readable_path
from ...runtime.judging.detector import Detector
from ...runtime.judging.options import AUTO_CROPS, DetectorOptions
from ...runtime.judging.settling import stopping_rule
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import ImageError
from ...runtime.machine.progress import track
from ..measuring.bundles import common_views
from ..measuring.report import SCHEMA_VERSION
from ..measuring.samples import Samples
from .options import EvaluationOptions
from .steadiness_report import BundleSteadiness, Row, SteadinessReport

_SEEDS = 2
_ROUNDS = 3  # in which whole runs are timed, after one to warm up


def evaluate_steadiness(
    folder: Path,
    bundles: Sequence[Bundle],
    options: EvaluationOptions,
    *,
    command: str,
    skip: Skip = in_silence,
) -> SteadinessReport:
    """Judge labelled images with fixed numbers of crops and by each bundle's rule.

    Every image has the crops of two seeds. Speed is that of whole runs, from files to records, in
    which the bundle's own number of crops and the rule take turns.

    Args:
        folder: holds a folder of images for each of the bundles' classes.
        bundles: one or more, each with a stopping rule.
        options: how to judge; ``crops`` is not looked at.
        command: what the report says it was made by.
        skip: is told what the search of the folders passes over.

    Raises:
        InputError: the bundles do not fit together, one has no rule, or a class has no images.
        ImageError: not one image of a class can be read.
        EngineError: an engine cannot run a bundle, or gives numbers that are not finite.
    """
    common_views(bundles, None)
    classes, fake_class = bundles[0].manifest.classes, bundles[0].manifest.fake_class
    rules = [_rule(bundle, options) for bundle in bundles]
    labels = labelled_images(folder, classes, skip)
    pairs = list(zip(bundles, rules, strict=True))
    measured = [_measure(bundle, rule, list(labels), options) for bundle, rule in pairs]
    paths = measured[0].sequences.paths
    truth = np.array([labels[path] == fake_class for path in paths], bool)
    if truth.all() or not truth.any():
        raise ImageError("not one image of a class can be read, so nothing can be measured.")
    speeds = [_speeds(bundle, paths, options) for bundle in bundles]
    return SteadinessReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        classes=classes,
        fake_class=fake_class,
        images=dict(Counter(labels[path] for path in paths)),
        unreadable={
            readable_path(path): why for path, why in measured[0].sequences.unreadable.items()
        },
        bundles=tuple(
            _result(bundle, each, truth, speed)
            for bundle, each, speed in zip(bundles, measured, speeds, strict=True)
        ),
    )


def _rule(bundle: Bundle, options: EvaluationOptions) -> Stopping:
    asked = DetectorOptions(crops=AUTO_CROPS, threshold=options.threshold)
    rule = stopping_rule(asked, bundle)
    assert rule is not None  # noqa: S101 - one that is missing is an error, as rules are asked for
    return rule


class _Measured(NamedTuple):
    """What a bundle on an engine says of images after ever more crops."""

    engine: str
    precision: str
    rule: Stopping
    sequences: Sequences


def _measure(
    bundle: Bundle, rule: Stopping, paths: Sequence[str], options: EvaluationOptions
) -> _Measured:
    manifest = bundle.manifest
    threads = options.threads or available_cpus()
    settings = EngineOptions(options.device, threads, options.batch_size)
    engine = open_engine(bundle, options.engine, settings)
    settled = max(SETTLED_CROPS, rule.settled_crops)
    steps = sorted({*rule.steps, *steps_up_to(settled), manifest.views.num_crops})
    sequences = measure_sequences(paths, engine, manifest, steps, seeds=_SEEDS, progress=on_console)
    return _Measured(engine.description, engine.precision, rule, sequences)


def _result(
    bundle: Bundle, measured: _Measured, truth: Truth, speeds: Mapping[int | str, Samples]
) -> BundleSteadiness:
    manifest, rule, sequences = bundle.manifest, measured.rule, measured.sequences
    border = manifest.temperature * logit(rule.threshold)
    spent = spend(sequences, rule.steps, rule.taus, border, rule.size_power)
    fixed = {
        number: Row(point, _auc(sequences.after(number), truth), speeds.get(number))
        for number, point in fixed_points(sequences, border).items()
    }
    auto = rule_point(spent, sequences, border)
    return BundleSteadiness(
        name=bundle.name,
        engine=measured.engine,
        precision=measured.precision,
        num_crops=manifest.views.num_crops,
        stopping=rule,
        fixed=fixed,
        auto=Row(auto, _auc(spent.margins, truth), speeds[AUTO_CROPS]),
        unsettled=float((~spent.settled).mean()),
        rules=rule_curve(sequences, rule.steps, border, rule.size_power),
    )


def _auc(margins: Margins, truth: Truth) -> float:
    """Return the mean over sequences of the area under the ROC curve."""
    return float(np.mean([roc_auc_score(truth, column) for column in margins.T]))


def _speeds(
    bundle: Bundle, paths: Sequence[str], options: EvaluationOptions
) -> dict[int | str, Samples]:
    """Time whole runs over the images: the bundle's own number of crops and the rule in turns.

    Returns:
        Seconds per image.
    """
    settings = DetectorOptions(
        engine=options.engine,
        device=options.device,
        batch_size=options.batch_size,
        threads=options.threads,
    )
    own = bundle.manifest.views.num_crops
    detectors = {
        number: Detector(bundle, replace(settings, crops=number)) for number in (own, AUTO_CROPS)
    }
    taken: dict[int | str, list[float]] = {number: [] for number in detectors}
    order = list(detectors)
    turns = range(_ROUNDS + 1)
    for turn in track(turns, f"timing runs of {bundle.path.name}", len(turns), on_console):
        for number in order:
            seconds = _timed(partial(detectors[number].detect, paths))
            if turn:  # the first warms up
                taken[number].append(seconds / len(paths))
        order.reverse()
    return {number: Samples(tuple(seconds)) for number, seconds in taken.items()}


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

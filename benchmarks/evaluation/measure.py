"""``glass-eval``: what bundles are worth on labelled images, all on the same crops."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from ...calibration.judging.comparison import Scores, compare_scores, fake_scores
from ...calibration.judging.timed import judge_timed
from ...calibration.steadiness.images import labelled_images
from ...calibration.steadiness.reliability import expected_calibration_error, reliability_bins
from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.progress import on_console
from ...runtime.engines.base import EngineOptions
from ...runtime.engines.registry import open_engine
from ...runtime.finding.choosing import Skip, in_silence
from ...runtime.finding.files import readable_path
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import EngineError, ImageError, InputError
from ...runtime.machine.progress import track
from ...runtime.streaming.draws import DrawnBatch, images_at_once, in_groups, stream_draws
from ...runtime.streaming.sharing import PipelineOptions
from ...runtime.views.batch import Sampling
from ..measuring.bundles import common_views, file_bytes
from ..measuring.report import SCHEMA_VERSION
from .options import EvaluationOptions
from .report import (
    BundleResult,
    Change,
    EvaluationReport,
    Metrics,
    ScoredImage,
    Speed,
    Unreadable,
)


def evaluate(
    folder: Path,
    bundles: Sequence[Bundle],
    options: EvaluationOptions,
    *,
    command: str,
    skip: Skip = in_silence,
) -> EvaluationReport:
    """Let bundles judge the labelled images in a folder, all on the same crops.

    Args:
        folder: holds a folder of images for each of the bundles' classes.
        bundles: one or more; the first is the one that the others are compared with.
        options: how to judge.
        command: what the report says it was made by.
        skip: is told what the search of the folders passes over.

    Raises:
        InputError: the bundles do not fit together, or a class has no images.
        ImageError: not one image of a class can be read.
        EngineError: an engine cannot run a bundle, or gives numbers that are not finite.
    """
    views = common_views(bundles, options.crops)
    if options.seeds > 1 and not views.drawn:
        raise InputError(
            "these bundles draw nothing at random, so that every seed gives the same verdicts: "
            "leave --seeds out."
        )
    threshold = _threshold(bundles, options)
    classes, fake_class = bundles[0].manifest.classes, bundles[0].manifest.fake_class
    labels = labelled_images(folder, classes, skip)
    judges = [_Judge(bundle, options) for bundle in bundles]
    groups = in_groups(Sampling(views, draws=options.seeds))
    at_once = images_at_once(groups, options.batch_size)
    judged, unreadable = _judge_all(judges, list(labels), groups, at_once)
    counts = _count_images(judged, unreadable, labels)
    truth = np.array([labels[path] == fake_class for path, _ in judged])
    scores = [judge.scores() for judge in judges]
    return EvaluationReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        classes=classes,
        fake_class=fake_class,
        views=views,
        threshold=threshold,
        seeds=options.seeds,
        batch_size=options.batch_size,
        images={name: counts[name] for name in classes},
        unreadable=tuple(
            Unreadable(readable_path(path), reason) for path, reason in unreadable.items()
        ),
        bundles=tuple(
            judge.result(truth, None if judge is judges[0] else scores[0], threshold)
            for judge in judges
        ),
        judgements=tuple(
            ScoredImage(readable_path(path), labels[path], seed, tuple(map(float, each)))
            for (path, seed), each in zip(judged, np.stack(scores, axis=1), strict=True)
        ),
        timed_at_once=at_once,
    )


def _threshold(bundles: Sequence[Bundle], options: EvaluationOptions) -> float:
    """Return the P(fake) from which all bundles call an image fake.

    Raises:
        InputError: none is given, and the bundles have different ones.
    """
    if options.threshold is not None:
        return options.threshold
    first, *others = (bundle.manifest.threshold for bundle in bundles)
    if any(other != first for other in others):
        thresholds = ", ".join(f"{bundle.manifest.threshold:.4g}" for bundle in bundles)
        raise InputError(
            f"the bundles have different thresholds ({thresholds}): choose one "
            "for all with --threshold."
        )
    return first


def score_metrics(truth: npt.NDArray[np.bool_], scores: Scores, threshold: float) -> Metrics:
    """Compute every metric of some judgements.

    Args:
        truth: ``(n,)``, whether the image is fake; both classes must occur.
        scores: ``(n,)``, P(fake).
        threshold: P(fake) from which an image is called fake.
    """
    called = scores >= threshold
    right = called == truth
    confidence = np.where(called, scores, 1.0 - scores)
    bins = reliability_bins(confidence, right)
    # A class that is never called has precision 0, without a warning.
    weighted = {"average": "weighted", "zero_division": 0}
    return Metrics(
        accuracy=float(accuracy_score(truth, called)),
        roc_auc=float(roc_auc_score(truth, scores)),
        f1=float(f1_score(truth, called, **weighted)),
        precision=float(precision_score(truth, called, **weighted)),
        recall=float(recall_score(truth, called, **weighted)),
        ece=expected_calibration_error(bins),
        confidence_when_right=_mean(confidence[right]),
        confidence_when_wrong=_mean(confidence[~right]),
        reliability=bins,
    )


class _Judge:
    """A bundle at work: P(fake) so far, and how many images took how many seconds."""

    def __init__(self, bundle: Bundle, options: EvaluationOptions) -> None:
        threads = options.threads or available_cpus()
        engine = EngineOptions(options.device, threads, options.batch_size)
        self._bundle, self._views = bundle, bundle.manifest.views
        self._engine = open_engine(bundle, options.engine, engine)
        self._scores: dict[int, list[Scores]] = defaultdict(list)  # by seed
        self._times: list[tuple[int, float]] = []

    def take(self, batch: DrawnBatch, seeds: Sequence[int]) -> None:
        """Judge the draws of these seeds of a batch's readable images; there must be one."""
        found = judge_timed(self._engine, batch, self._views)
        self._times.append((len(found.logits), found.seconds))
        scores = fake_scores(found.logits, self._bundle.manifest)
        if not np.isfinite(scores).all():
            raise EngineError(
                f"bundle {self._bundle.path} gave numbers that are not finite on "
                f"{self._engine.description}, so it cannot be evaluated: try another engine, or "
                "export it again in another precision."
            )
        for seed, column in zip(seeds, scores.T, strict=True):
            self._scores[seed].append(column)

    def scores(self) -> Scores:
        """Return P(fake) of every judgement, seed by seed."""
        return np.concatenate([each for parts in self._scores.values() for each in parts])

    def result(
        self, truth: npt.NDArray[np.bool_], first: Scores | None, threshold: float
    ) -> BundleResult:
        """Say what the bundle is worth; ``first`` is P(fake) by the bundle to compare with."""
        scores = self.scores()
        manifest = self._bundle.manifest
        return BundleResult(
            name=self._bundle.name,
            size_bytes=file_bytes(self._bundle),
            bundle_precision=manifest.types,
            engine_precision=self._engine.precision,
            engine=self._engine.description,
            metrics=score_metrics(truth, scores, threshold),
            speed=_speed(self._times),
            change=None if first is None else _change(first, scores, threshold),
            kept=None if manifest.precision == "fp32" else sum(map(len, manifest.kept.values())),
            gate=manifest.comparison,
        )


def _judge_all(
    judges: Sequence[_Judge], images: Sequence[str], groups: Sequence[Sampling], at_once: int
) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Show every image to every judge; return ``(path, seed)`` judged, and why others not."""
    judged: dict[int, list[str]] = defaultdict(list)  # by seed
    unreadable: dict[str, str] = {}
    turns = [
        (group, images[start : start + at_once])
        for group in groups
        for start in range(0, len(images), at_once)
    ]
    for group, paths in track(turns, "judging batches", len(turns), on_console):
        seeds = range(group.seed, group.seed + group.draws)
        batch = _prepare(paths, group)
        for path, outcome in zip(paths, batch.outcomes, strict=True):
            if isinstance(outcome, ImageError):
                unreadable[path] = str(outcome)
            else:
                for seed in seeds:
                    judged[seed].append(path)
        if batch.readable:
            for judge in judges:
                judge.take(batch, seeds)
    return [(path, seed) for seed, paths in judged.items() for path in paths], unreadable


def _prepare(paths: Sequence[str], sampling: Sampling) -> DrawnBatch:
    """Make one batch of views and stop.

    A longer stream would decode the next batch while networks are timed, and slow the first
    of them down more than the others.
    """
    with closing(stream_draws(paths, sampling, PipelineOptions(len(paths)))) as batches:
        return next(batches)


def _count_images(
    judged: Sequence[tuple[str, int]], unreadable: Mapping[str, str], labels: Mapping[str, str]
) -> Counter[str]:
    """Count the images judged by class; a class without any is an error."""
    counts = Counter(labels[path] for path in {path for path, _ in judged})
    for path, reason in unreadable.items():
        if not counts[labels[path]]:
            raise ImageError(
                f"not one {labels[path]} image can be read, so nothing can be measured; the first "
                f"is {path}: {reason}"
            )
    return counts


def _speed(times: Sequence[tuple[int, float]]) -> Speed:
    warm = len(times) > 1
    timed = times[1:] if warm else times
    images, seconds = sum(count for count, _ in timed), sum(taken for _, taken in timed)
    return Speed(images / seconds, images, seconds, warm)


def _change(first: Scores, scores: Scores, threshold: float) -> Change:
    found = compare_scores(first, scores, threshold)
    share = found.flips / len(first)
    return Change(found.flips, share, found.mean_change, found.largest_change)


def _mean(values: Scores) -> float | None:
    return float(values.mean()) if len(values) else None

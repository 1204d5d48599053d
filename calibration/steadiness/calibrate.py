"""From a bundle to one that knows how many crops a verdict needs, and what its scores are worth."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.making import check_apart, check_target, new_bundle
from ...runtime.bundle.manifest import MANIFEST_NAME, Manifest
from ...runtime.bundle.model_card import write_model_card
from ...runtime.bundle.scores import ScoreCalibration
from ...runtime.bundle.stopping import Stopping, logit
from ...runtime.engines.base import Engine, EngineOptions
from ...runtime.engines.registry import AUTO, open_engine
from ...runtime.finding.files import readable_path
from ...runtime.judging.options import DEFAULT_BATCH_SIZE
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import InputError
from ...runtime.machine.progress import Progress, silent
from ...runtime.views.sizes import MOST_VIEWS
from ..errors import CalibrationError
from .curve import fixed_points, rule_curve, rule_point
from .images import SteadinessImages
from .report import SCHEMA_VERSION, CalibrationReport
from .rule import CONFIDENCE, SIZE_POWER, Spent, check_enough, choose_rule
from .scores import FittedScores, Goal, fit_scores
from .sequences import SETTLED_CROPS, Sequences, measure_sequences, steps_up_to

DEFAULT_RISK, DEFAULT_MOST_CROPS, DEFAULT_IMAGES = 0.01, 32, 1000


@dataclass(frozen=True)
class SteadinessOptions:
    """How a bundle is calibrated.

    Attributes:
        risk: the largest share of images whose verdict may be unlike the settled one.
        most_crops: the most crops that an image may be judged by.
        goal: what a threshold is chosen for; ``None`` leaves it at 0.5.
        engine: ``auto`` or an engine's name.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: a value is out of bounds.
    """

    risk: float = DEFAULT_RISK
    most_crops: int = DEFAULT_MOST_CROPS
    goal: Goal | None = None
    engine: str = AUTO
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0.0 < self.risk < 1.0:
            raise InputError(
                f"the risk must be between 0 and 1, not {self.risk:g}: no number of images "
                "shows that nothing ever goes wrong. 0.01 is one image in a hundred."
            )
        if not 2 <= self.most_crops <= MOST_VIEWS:
            raise InputError(
                f"the most crops must be between 2 and {MOST_VIEWS}, not {self.most_crops}."
            )


def check_source(bundle: Bundle) -> None:
    """Refuse a bundle that was calibrated already.

    Raises:
        InputError: it was.
    """
    manifest = bundle.manifest
    if manifest.stopping is not None or manifest.scores is not None:
        raise InputError(
            f"{bundle.name} is calibrated already: name the bundle that it was made from."
        )


def calibrate_bundle(
    source: Bundle,
    target: Path,
    images: SteadinessImages,
    options: SteadinessOptions,
    *,
    command: str,
    force: bool = False,
    progress: Progress = silent,
) -> CalibrationReport:
    """Make a bundle with a stopping rule at ``target``, and with calibrated scores if it can.

    Scores are calibrated where the images have labels, on margins after as many crops as the
    bundle takes by default.

    Args:
        source: the bundle, in any precision.
        target: where the new one shall be.
        images: of the kind that will be judged.
        options: how to calibrate.
        command: what the report says it was made by.
        force: replace a bundle at ``target``.
        progress: is told how far the work is.

    Raises:
        BundleError: the source was changed meanwhile.
        CalibrationError: the images are too few or too much alike.
        EngineError: the engine cannot run the bundle.
        InputError: the source is calibrated already, the goal needs labels that are missing, or
            ``target`` may not be replaced.
        OutputError: the bundle cannot be written.
    """
    check_source(source)
    check_target(target, force=force)
    check_apart(source.path, target)
    drawn = source.manifest.views.drawn
    if drawn:
        check_enough(len(images.paths), options.risk)
    elif not images.labels:
        raise InputError(
            "this detector draws nothing at random, so that only its scores can be calibrated, and "
            "that needs labelled images: put those of each class into a folder of its name, "
            f"{' and '.join(source.manifest.classes)}."
        )
    if options.goal is not None and not images.labels:
        raise InputError(
            f"a threshold for {options.goal} is chosen on labelled images: put those of each class "
            f"into a folder of its name, {' and '.join(source.manifest.classes)}."
        )
    engine = _open(source, options)
    sequences = _judge(images, engine, source.manifest, options, progress)
    find = _find if drawn else _find_scores
    found = find(sequences, images, source.manifest, options)
    with new_bundle(target, force=force) as folder:
        made = _write(source, folder, found.manifest)
    return CalibrationReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        bundle=source.name,
        made=made,
        engine=engine.description,
        precision=engine.precision,
        labels=dict(Counter(images.labels)),
        unreadable={readable_path(path): why for path, why in sequences.unreadable.items()},
        num_crops=source.manifest.views.num_crops,
        stopping=found.manifest.stopping,
        scores=found.manifest.scores,
        notes=found.notes,
        **_saved(found, sequences),
    )


def _saved(found: _Found, sequences: Sequences) -> dict[str, Any]:
    """Return what a report says of the rule and of fixed numbers of crops."""
    rule, spent = found.manifest.stopping, found.spent
    if rule is None or spent is None:
        return {"fixed": {}, "rules": (), "chosen": None, "unsettled": 0}
    return {
        "fixed": fixed_points(sequences, found.border),
        "rules": rule_curve(sequences, rule.steps, found.border),
        "chosen": rule_point(spent, sequences, found.border),
        "unsettled": int((~spent.settled).sum()),
    }


def _open(source: Bundle, options: SteadinessOptions) -> Engine:
    settings = EngineOptions(options.device, available_cpus(), DEFAULT_BATCH_SIZE)
    return open_engine(source, options.engine, settings)


def _judge(
    images: SteadinessImages,
    engine: Engine,
    manifest: Manifest,
    options: SteadinessOptions,
    progress: Progress,
) -> Sequences:
    """Judge the images after the steps of rules and fixed numbers, up to the settled verdict."""
    if not manifest.views.drawn:
        return measure_sequences(images.paths, engine, manifest, (1,), progress=progress)
    settled = max(SETTLED_CROPS, options.most_crops)
    steps = {*steps_up_to(options.most_crops), *steps_up_to(settled), manifest.views.num_crops}
    looked_at = sorted(step for step in steps if step <= settled)
    return measure_sequences(images.paths, engine, manifest, looked_at, progress=progress)


@dataclass(frozen=True)
class _Found:
    """What the images have shown.

    Attributes:
        manifest: of the new bundle.
        border: the margin from which an image is fake.
        spent: what its rule makes of the images, if it has one.
        notes: what the user should know.
    """

    manifest: Manifest
    border: float
    spent: Spent | None
    notes: tuple[str, ...]


def _find(
    sequences: Sequences,
    images: SteadinessImages,
    manifest: Manifest,
    options: SteadinessOptions,
) -> _Found:
    scored = _find_scores(sequences, images, manifest, options)
    calibrated, border = scored.manifest, scored.border
    rule = choose_rule(sequences, steps_up_to(options.most_crops), options.risk, border)
    _check_variety(sequences, border, manifest)
    stopping = Stopping(
        steps=rule.steps,
        taus=rule.taus,
        size_power=SIZE_POWER,
        threshold=calibrated.threshold,
        risk=options.risk,
        confidence=CONFIDENCE,
        bound=rule.bound,
        settled_crops=sequences.steps[-1],
        images=rule.images,
        unlike=rule.unlike,
        mean_crops=float(rule.spent.crops.mean()),
        data=images.digest,
    )
    calibrated = msgspec.structs.replace(calibrated, stopping=stopping)
    return _Found(calibrated, border, rule.spent, scored.notes)


def _find_scores(
    sequences: Sequences,
    images: SteadinessImages,
    manifest: Manifest,
    options: SteadinessOptions,
) -> _Found:
    """Calibrate scores, if the images have labels."""
    scores, notes = None, _notes(sequences, options.goal if manifest.views.drawn else None)
    if images.labels:
        fitted = _fit_scores(sequences, images, manifest, options.goal)
        scores = _entry(fitted, len(sequences.paths), images.digest)
        notes += fitted.notes
    calibrated = msgspec.structs.replace(manifest, scores=scores)
    border = calibrated.temperature * logit(calibrated.threshold)
    return _Found(calibrated, border, None, notes)


def _notes(sequences: Sequences, goal: Goal | None) -> tuple[str, ...]:
    """Return what the user should know of the images and of the guarantee."""
    count, notes = len(sequences.unreadable), []
    if count:
        notes.append(f"{count} images cannot be read and were left out.")
    if goal is not None:
        notes.append(
            "the threshold was chosen on the same images, so that the risk holds approximately."
        )
    return tuple(notes)


def _fit_scores(
    sequences: Sequences, images: SteadinessImages, manifest: Manifest, goal: Goal | None
) -> FittedScores:
    """Fit scores on verdicts with as many crops as the bundle takes by default.

    Raises:
        CalibrationError: not one image of a class can be read, or there are too few for the goal.
    """
    labels = dict(zip(images.paths, images.labels, strict=True))
    truth = np.array([labels[path] == manifest.fake_class for path in sequences.paths])
    for name, found in ((manifest.fake_class, truth.any()), (_real(manifest), not truth.all())):
        if not found:
            raise CalibrationError(f"not one {name} image can be read.")
    usual = manifest.views.num_crops if manifest.views.drawn else 1
    crops = min(usual, sequences.steps[-1])
    return fit_scores(sequences.after(crops)[:, 0], truth, goal)


def _entry(fitted: FittedScores, images: int, data: str) -> ScoreCalibration:
    return ScoreCalibration(
        temperature=fitted.temperature,
        threshold=fitted.threshold,
        chosen_for=fitted.chosen_for,
        images=images,
        data=data,
        ece=fitted.ece,
        log_loss=fitted.log_loss,
    )


def _check_variety(sequences: Sequences, border: float, manifest: Manifest) -> None:
    """Refuse images that all get the same verdict.

    Raises:
        CalibrationError: they do.
    """
    fake = sequences.settled >= border
    if fake.all() or not fake.any():
        name = manifest.fake_class if fake.any() else _real(manifest)
        raise CalibrationError(
            f"all {fake.size} images are called {name}: they cannot show how many crops verdicts "
            "of the other class need. Give images of both classes."
        )


def _real(manifest: Manifest) -> str:
    """Return the name of the class that is not fake."""
    return manifest.classes[1 - manifest.fake_index]


def _write(source: Bundle, folder: Path, manifest: Manifest) -> str:
    """Write the new bundle into an empty folder; return its name."""
    for name, _ in manifest.files:
        shutil.copyfile(source.path / name, folder / name)
    source.check_unchanged()  # its files are opened by their names
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())
    made = Bundle.open(folder)
    write_model_card(made)
    return made.name
